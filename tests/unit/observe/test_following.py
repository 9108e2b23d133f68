"""Following: what is folded while a run goes on is what is folded afterwards."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from flowbook.observe.folding import Folding
from flowbook.observe.steps import PIECE
from flowbook.plan.events import (
    AttemptFailed,
    Event,
    ItemFinished,
    MapBegan,
    RunFailed,
    RunForked,
    RunRetried,
    StepDropped,
    StepFinished,
    StepStarted,
    WaitBegan,
    WaitFinished,
)
from flowbook.plan.journal import Entry, to_entry
from flowbook.plan.records import Failure, Status
from flowbook.ports import RunRow

AT = datetime(2026, 1, 1, tzinfo=UTC)
BOOM = Failure("ValueError", "boom", "Traceback: boom")
SPEC: dict[str, Any] = {
    "nodes": [{"name": "a", "ways": [["b"]]}, {"name": "b", "ways": [["a"], ["END"]]}, {"name": "c", "ways": []}]
}
ROW = RunRow(
    id=UUID(int=1), namespace="n", flow="f", version=3, fingerprint="f", queue="default", priority=0,
    status=Status.RUNNING, due_at=AT, epoch=1, worker_id=None, claims=1, lost=2, mail=0, current="", key=None,
    input=b"", input_digest=b"", metadata={}, error=None, forked_from=None, created_at=AT, started_at=AT, ended_at=None,
)  # fmt: skip


def journal(seed: int, length: int) -> list[Entry]:
    """A journal of all kinds of rows: firings in any order, of which a few fail, wait, are dropped or have items."""
    lots, events, fired = random.Random(seed), list[Event](), {"a": 0, "b": 0, "c": 0}
    if seed % 3 == 0:
        events.append(RunForked("a#1", {}, UUID(int=2), ()))
    while len(events) < length:
        node = lots.choice("abc")
        fired[node] += 1
        path, update = f"{node}#{fired[node]}", {"i": lots.random()}
        way = lots.choice((0, 1)) if node == "b" else None
        match lots.randrange(12):
            case 0:
                failed = AttemptFailed(path, 1, BOOM, False, False, None)
                events += [failed, StepFinished(path, 2, update, update, way, 0.5)]
            case 1:
                events += [WaitBegan(path, ("yes",), None), WaitFinished(path, 1, "yes", None, "yes", 1, 1)]
            case 2:
                events += [StepStarted(path, 1), StepDropped(path)]
            case 3:
                events += [MapBegan(path, 2), ItemFinished(f"{path}[0]", 1, 5)]
            case 4:
                final = AttemptFailed(path, 1, BOOM, False, True, None)
                events += [final, RunFailed(path, BOOM), RunRetried("me", 1)]
            case 5:
                events.append(StepFinished(path, 1, None, {}, None, 0.0, skipped=True))
            case 6:
                events.append(StepFinished(path, 1, [1, {2}], {node: [1, {2}]}, way, 0.25))
            case _:
                events.append(StepFinished(path, 1, update, update, way, 0.125))
    return [replace(to_entry(e), seq=n, at=AT + timedelta(seconds=n)) for n, e in enumerate(events, 1)]


@pytest.mark.parametrize("seed", range(12))
def test_a_run_that_is_followed_looks_as_one_that_is_read(seed: int) -> None:
    """Rows that are kept unread, and pieces of views that are kept, are what reading everything gives, at each look;
    what was seen before does not change any more.
    """
    entries, lots = journal(seed, 3 * PIECE), random.Random(seed)
    fold, at, before = Folding(ROW.id, SPEC, {}), 0, []
    while at < len(entries):
        size = lots.choice((1, 7, 90, 400))
        fold.follow(entries[at : at + size])
        at = min(at + size, len(entries))
        row = replace(ROW, status=Status.COMPLETED) if at == len(entries) and seed % 2 else ROW
        running = {"a#9999": 1, "c#1": 3} if seed % 2 else {}
        followed = fold.view(row, running)
        whole = Folding(ROW.id, SPEC, {})
        whole.add_all(entries[:at])
        read = whole.view(row, running)
        before.append((followed, read))
    for followed, read in before:
        assert followed.overview == read.overview
        assert followed.steps[-40:] == tuple(read.steps)[-40:]
        assert followed.steps[PIECE - 3 : PIECE + 3] == tuple(read.steps)[PIECE - 3 : PIECE + 3]
        assert followed == read
        assert [followed.steps[i] for i in (0, -1) if read.steps] == [*read.steps[:1], *read.steps[-1:]]


def test_a_step_that_nobody_looks_at_is_not_read() -> None:
    """Of a loop at full speed the picture shows the last firing: the others' results are never decoded."""
    outcomes = [StepFinished(f"a#{i}", 1, {"i": i}, {"i": i}, None, 0.0) for i in range(1, 2001)]
    entries = [replace(to_entry(e), seq=n, at=AT) for n, e in enumerate(outcomes, 1)]
    spoilt = [replace(e, payload=e.payload[:6]) for e in entries[:-1]]
    fold = Folding(ROW.id, SPEC, {})
    fold.follow([*spoilt, entries[-1]])
    view = fold.view(ROW, {})
    assert (view.done, view.overview.firings, view.nodes["a"].result) == (2000, {"a": 2000}, {"i": 2000})
