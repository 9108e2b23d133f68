"""Previews of values, and what is different between two."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pydantic
import pytest

from flowbook.show.preview import ACROSS, LINES, differences, preview
from tests.unit.show.samples import HOSTILE


@dataclass
class Point:
    x: int
    notes: list[Any] = field(default_factory=list)


class Named(pydantic.BaseModel):
    name: str
    points: list[Any] = []


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize("value,text", [
    (None, "None"), (3, "3"), ("a\nb", "'a\\nb'"), ([], "[]"), ({"a": 1}, "{'a': 1}"), ((1,), "(1,)"),
    ({"a": [{"b": 1}]}, "{\n  'a': [\n    {'b': 1}\n  ]\n}"),
    (Point(1, [["x"]]), "Point(\n  x=1\n  notes=[\n    ['x']\n  ]\n)"),
    (Named(name="n"), "Named(\n  name='n'\n  points=[]\n)"),
    (Rude(), "<Rude: RuntimeError in its repr>"),
])  # fmt: skip
def test_containers_are_taken_apart_line_by_line(value: Any, text: str) -> None:
    """So that two of them can be compared line by line."""
    assert preview(value) == text


def test_a_preview_does_not_grow_with_the_value() -> None:
    """Neither in lines, nor across, nor in depth, and a lazy sequence is not read to its end."""

    class Lazy(list[int]):
        read = 0

        def __len__(self) -> int:
            return 10**9

        def __iter__(self) -> Any:
            while True:
                self.read += 1
                yield self.read

    lazy, deep = Lazy(), []  # type: ignore[var-annotated]
    deep.append([[deep]])
    assert "999,999,900 more" in preview(lazy)
    assert lazy.read < 200
    for value in ([["x"] * 50] * 50, deep, "y" * 10**6, {"k": "z" * 10**6}, {i: [[i]] for i in range(10**4)}):
        lines = preview(value).splitlines()
        assert len(lines) <= LINES + 1
        assert max(map(len, lines)) <= ACROSS + 60


@pytest.mark.parametrize("text", HOSTILE)
def test_no_character_of_a_value_breaks_the_page(text: str) -> None:
    """What no document may hold is replaced."""
    shown = preview({"k": [text], text: Point(1, [text, [text]])})
    assert "\x00" not in shown
    assert "\ud800" not in shown
    assert "\u202e" not in shown


def test_tables_and_arrays_are_shown_as_they_show_themselves() -> None:
    """Below their name, and not row by row."""
    import numpy as np
    import pandas as pd

    text = preview({"table": pd.DataFrame({"a": range(1000)}), "array": np.arange(10**5)})
    assert "[1000 rows x 1 columns]" in text
    assert len(text.splitlines()) < 30


def test_differences_keep_what_is_around_them() -> None:
    """Three lines on each side; the rest is counted."""
    before = preview(list(range(30)))
    after = preview([*range(14), 99, *range(15, 30)])
    told = differences(before, after)
    assert [it for it in told if it[0] in "+-"] == [("-", "  14"), ("+", "  99")]
    assert [sign for sign, _ in told] == ["…", " ", " ", " ", "-", "+", " ", " ", " ", "…"]
    assert told[0] == ("…", "12 lines")
    assert differences(before, before) == [("…", "32 lines")]
