"""Paths: the grammar, and what is not a path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbook.plan.paths import Segment, branch, firing, node_of, parse

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
segments = st.builds(Segment, names, st.integers(1, 10**6), st.none() | st.integers(0, 10**6))


@given(st.lists(segments, min_size=1, max_size=4))
def test_what_is_written_is_read_again(given_segments: list[Segment]) -> None:
    """A path's text holds all that its segments say."""
    text = "/".join(map(str, given_segments))
    assert parse(text) == tuple(given_segments)
    assert node_of(text) == given_segments[-1].name


@pytest.mark.parametrize(
    "text",
    ["", "fit", "fit#", "fit#0", "fit#01", "#1", "fit#1[]", "fit#1[-1]", "fit#1[01]", "fit#1/", "/fit#1", "2fit#1",
     "fit#1 ", "fit#1\n", "fít#1", "a-b#1", "fit#1[0]x", "fit#\u0661"],
)  # fmt: skip
def test_what_is_not_a_path_is_refused_by_name(text: str) -> None:
    """The error shows the path that was meant."""
    with pytest.raises(ValueError, match="is not a path") as caught:
        parse(text)
    assert repr(text) in str(caught.value)


def test_firings_and_branches_are_paths() -> None:
    """What the engine writes can be read."""
    assert parse(firing("fit", 3)) == (Segment("fit", 3),)
    assert parse(branch(firing("fit", 3), 0)) == (Segment("fit", 3, 0),)
