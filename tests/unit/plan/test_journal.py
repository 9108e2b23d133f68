"""Journal rows: every event comes back from its bytes as it was."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbook.errors import Undecodable, Unencodable
from flowbook.plan.events import (
    AttemptFailed,
    CallFinished,
    CancelRequested,
    ChildFinished,
    ChildStarted,
    CodeChanged,
    DecisionTaken,
    Event,
    ItemFinished,
    MapBegan,
    MapFinished,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunForked,
    RunRetried,
    SignalRefused,
    StepDropped,
    StepFinished,
    StepHandedOut,
    StepStarted,
    UndoingBegan,
    WaitBegan,
)
from flowbook.plan.journal import OUTCOMES, Entry, Kind, from_entry, moment, read_back, to_entry
from flowbook.plan.paths import node_of
from flowbook.plan.records import Call, Failure
from flowbook.plan.sealed import Absent, Sealed

paths = st.sampled_from(["a#1", "fit#12", "fit#2"])
attempts = st.integers(1, 9)
failures = st.builds(Failure, *[st.text()] * 4)
noted = st.builds(Failure, *[st.text()] * 4, st.lists(st.text(), max_size=2).map(tuple))
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=8,
)
moments = st.datetimes(timezones=st.just(UTC))


@st.composite
def finished(draw: st.DrawFn) -> StepFinished:
    """The three ways in which a result goes into the state."""
    path, attempt, route = draw(paths), draw(attempts), draw(st.none() | st.integers(0, 9))
    seconds = round(draw(st.floats(0, 1e6)), 3)
    way = draw(st.sampled_from(["update", "value", "nowhere"]))
    if way == "update":
        update = draw(st.dictionaries(st.text(), plain, max_size=4))
        return StepFinished(path, attempt, update, update, route, seconds)
    result = draw(plain)
    return StepFinished(path, attempt, result, {node_of(path): result} if way == "value" else {}, route, seconds)


kept = st.integers(0, 4_000_000_000_000).map(moment)
calls = st.builds(Call, st.text(), st.text(), kept, plain)


@st.composite
def failed_calls(draw: st.DrawFn) -> AttemptFailed:
    """The last failure of a durable call: its body is told what was raised."""
    failure = draw(failures)
    call = Call(draw(st.text()), draw(st.text()), draw(kept), None, failure, draw(plain))
    return AttemptFailed(draw(paths), draw(attempts), failure, False, True, None, call)


events: st.SearchStrategy[Event] = st.one_of(
    st.builds(CallFinished, paths, attempts, calls, st.integers(0, 9).map(float)),
    st.builds(CallFinished, paths, attempts, calls, st.just(0.0), st.text(), st.integers(1, 9), st.integers(0, 9)),
    failed_calls(),
    st.builds(
        AttemptFailed,
        paths,
        attempts,
        failures,
        st.just(False),
        st.booleans(),
        st.none(),
        st.none(),
        st.lists(paths, min_size=1).map(tuple),
    ),
    st.builds(StepStarted, paths, attempts),
    finished(),
    st.builds(AttemptFailed, paths, attempts, failures, st.booleans(), st.booleans(), st.none() | moments),
    st.builds(ChildStarted, paths, st.uuids(), st.text(), attempts),
    st.builds(ChildFinished, paths, st.uuids(), st.integers(), st.none() | st.text(), st.none() | st.integers(0, 3)),
    st.builds(MapBegan, paths, attempts),
    st.builds(ItemFinished, paths.map("{}[3]".format), attempts, plain, st.integers(0, 9999).map(lambda ms: ms / 1000)),
    st.builds(MapFinished, paths, attempts, attempts, st.text(), st.none() | attempts, st.none() | st.lists(plain)),
    st.builds(CancelRequested, st.text(), st.integers(0, 9)),
    st.builds(RunRetried, st.text(), st.integers(0, 9), st.none() | moments),
    st.builds(UndoingBegan, paths, st.none() | noted, st.text()),
    st.just(RunCompleted()),
    st.builds(RunFailed, paths, noted),
    st.builds(RunCancelled, st.text()),
)


@given(events)
def test_an_event_comes_back_from_its_row(event: Event) -> None:
    """Nothing of it is lost, also not the difference between an update and a dict that is one value."""
    again = from_entry(to_entry(event))
    assert again == event
    if isinstance(event, StepFinished) and isinstance(again, StepFinished):
        assert (again.update is again.result) or event.update is not event.result


@given(finished())
def test_an_update_is_stored_once(event: StepFinished) -> None:
    """Result and update are one object, in memory and in the row: a value is not paid for twice."""
    big = "x" * 10_000
    stored = to_entry(replace(event, result=big, update={"fit": big})).payload
    assert len(stored) < 11_000


def test_an_items_row_is_understood_without_its_payload() -> None:
    """A fold reads the rows of items without what they returned."""
    entry = to_entry(ItemFinished("m#1[3]", 2, "much"))
    assert from_entry(replace(entry, payload=b"")) == ItemFinished("m#1[3]", 2, None)


def test_each_event_has_a_kind_of_its_own_and_one_is_an_outcome() -> None:
    """The unique index on outcomes holds one result per path, and as many attempts as there are."""
    examples: list[Event] = [
        StepStarted("a#1", 1),
        StepFinished("a#1", 1, None, {}, None),
        AttemptFailed("a#1", 1, Failure("", "", ""), False, False, None),
        StepHandedOut("a#1", 1, "00", None),
        WaitBegan("a#1", ("go",), None),
        SignalRefused("a#1", "go", 1, Failure("", "", "")),
        DecisionTaken("a#1", "ana", "go", 1, datetime(2026, 11, 21, tzinfo=UTC)),
        StepDropped("a#1"),
        ChildStarted("a#1", UUID(int=1), "sub"),
        MapBegan("m#1", 3),
        CancelRequested("me"),
        UndoingBegan("a#1", None, "me"),
        RunRetried("me"),
        CodeChanged("f2", 2, ("a",), ("step `a` changed",)),
        RunForked("a#1", {}, UUID(int=1)),
        RunCompleted(),
        RunFailed("a#1", Failure("", "", "")),
        RunCancelled("me"),
    ]
    kinds = [to_entry(e).kind for e in examples]
    assert set(kinds) == set(Kind)
    assert len(kinds) == len(set(kinds))
    assert {Kind.FINISHED} == OUTCOMES


@pytest.mark.parametrize("value", [Sealed(b"bytes", "Model"), Absent("fit#1", None, "Model")], ids=["sealed", "absent"])
def test_placeholders_are_part_of_the_vocabulary(value: Any) -> None:
    """They come back as themselves, without the code of what they stand for."""
    event = StepFinished("fit#1", 1, value, {"fit": value}, None)
    assert from_entry(to_entry(event)) == event


def test_what_the_codec_refuses_never_becomes_a_row() -> None:
    """The error comes before anything is written."""
    with pytest.raises(Unencodable):
        to_entry(StepFinished("a#1", 1, object(), {"a": object()}, None))


@pytest.mark.parametrize("kind", [k for k in Kind if k not in (Kind.STARTED, Kind.DROPPED, Kind.COMPLETED)])
def test_a_damaged_row_says_which(kind: Kind) -> None:
    """A row whose payload is not what its kind says is damaged, and its number is told."""
    from flowbook.codec import encode

    with pytest.raises(Undecodable, match="row 7"):
        from_entry(Entry(kind, "a#1", 1, encode({"z": 1}), seq=7, at=datetime.now(UTC)))


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()


@given(st.dictionaries(st.text(), scalars, max_size=3) | plain, st.none() | st.integers(0, 3), st.floats(0, 9))
def test_what_is_known_without_decoding_is_what_decoding_gives(result: Any, route: int | None, seconds: float) -> None:
    """A runner that need not decode what it has just encoded folds the same record as whoever resumes the run."""
    update = result if isinstance(result, dict) else {"a": result}
    event = StepFinished("a#1", 1, result, update, route, seconds)
    known = read_back(event)
    if known is not None:
        decoded = from_entry(to_entry(event))
        assert isinstance(decoded, StepFinished)
        assert known == decoded
        assert list(known.result) == list(decoded.result)
        assert [type(v) for v in known.result.values()] == [type(v) for v in decoded.result.values()]
        assert known.result is known.update is not event.result


def test_only_a_flat_update_of_scalars_is_known_without_decoding() -> None:
    """A list inside could still be changed by the step that returned it."""
    assert read_back(StepFinished("a#1", 1, r := {"i": 1, "s": "x", "n": None}, r, None)) is not None
    assert read_back(StepFinished("a#1", 1, r := {"i": [1]}, r, None)) is None
    assert read_back(StepFinished("a#1", 1, 5, {"a": 5}, None)) is None
    assert read_back(StepFinished("a#1", 1, None, {}, None, skipped=True)) is None
