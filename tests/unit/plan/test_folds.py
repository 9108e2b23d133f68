"""Folds: state is the fold of the journal, whatever the topology, the order and the interruptions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from flowbook.graph.flow import Graph
from flowbook.plan import snapshots
from flowbook.plan.apply import begin, fold
from flowbook.plan.commands import CompleteRun, StartStep
from flowbook.plan.decide import decide
from flowbook.plan.events import RunCompleted
from flowbook.plan.journal import OUTCOMES, Entry, from_entry, to_entry
from flowbook.plan.records import Run, Status
from tests.unit.plan.driving import ID, NOW, Drive
from tests.unit.plan.topologies import flows, racing_flows

seeds = st.randoms(use_true_random=False)


@given(flows | racing_flows, seeds)
def test_every_run_ends_and_fires_each_path_once(flow: Graph, random: Any) -> None:
    """No schedule stands still, and no path has two results."""
    drive = Drive.of(flow).to_end(random.choice)
    assert drive.run.status is Status.COMPLETED
    assert len(drive.finished) == len(set(drive.finished))
    assert not drive.run.scopes
    assert len(drive.run.tokens) == 1


@given(flows, seeds, seeds)
def test_the_order_of_finishing_changes_nothing(flow: Graph, one: Any, other: Any) -> None:
    """Two schedules of one flow end in equal records, state and paths included."""
    first, second = Drive.of(flow).to_end(one.choice), Drive.of(flow).to_end(other.choice)
    assert set(first.finished) == set(second.finished)
    assert first.saw == second.saw, "every step saw the same state under the same path"
    assert first.run == second.run


def driven(flow: Graph, random: Any) -> Drive:
    """A run with failures and advisory rows, stopped anywhere."""
    drive = Drive.of(flow)
    for _ in range(random.randint(0, 60)):
        wanted = drive.wanted()
        if wanted == (CompleteRun(),):
            return drive.tell(RunCompleted())
        paths = [c.path for c in wanted if isinstance(c, StartStep)]
        if not paths:
            return drive
        path = random.choice(paths)
        match random.randint(0, 5):
            case 0:
                drive.started(path)
            case 1:
                drive.started(path).fail(path, lost=True)
            case 2:
                drive.fail(path)
            case _:
                drive.finish(path)
    return drive


@given(flows | racing_flows, seeds)
def test_the_fold_of_the_journal_is_the_live_record(flow: Graph, random: Any) -> None:
    """Advisory rows or not: a resume sees what memory saw."""
    drive = driven(flow, random)
    live = drive.run
    assert drive.folded() == live
    assert drive.folded().started == live.started
    without = drive.folded(started=False)
    assert replace(without, seq=live.seq) == live
    assert decide(flow, without, NOW) == decide(flow, live, NOW)


@given(flows | racing_flows, seeds)
def test_a_snapshot_anywhere_and_the_rest_is_the_whole_fold(flow: Graph, random: Any) -> None:
    """A snapshot is a cache: with it and without it, the run is the same."""
    drive = driven(flow, random)
    at = random.randint(0, len(drive.journal))
    beginning = begin(flow, ID, {})
    rows = [(e.seq, from_entry(e)) for e in drive.journal]
    early = fold(flow, beginning, rows[:at])
    loaded = snapshots.load(beginning, snapshots.dump(early))
    assert loaded == early
    assert loaded.started == early.started
    assert fold(flow, loaded, rows[at:]) == drive.run


@given(flows, seeds)
def test_a_repeated_attempt_sees_the_same_state(flow: Graph, random: Any) -> None:
    """Whatever its siblings have done in between."""
    drive = Drive.of(flow)
    first: dict[str, Any] = {}
    for _ in range(40):
        ready = list(drive.ready())
        if not ready:
            break
        for path in ready:
            token = drive.token(path)
            assert first.setdefault(path, token.view) == token.view
        drive.finish(random.choice(ready))
    assert first


# -------------------------------------------------------------------------------------------------- two workers


@dataclass
class Table:
    """What a store promises: a fence, gapless numbers, one outcome per path."""

    epoch: int = 0
    rows: list[Entry] = field(default_factory=list)
    over: bool = False

    def claim(self) -> int:
        self.epoch += 1
        return self.epoch

    def append(self, epoch: int, entry: Entry) -> bool:
        """True if accepted."""
        if epoch != self.epoch or self.over:
            return False
        clash = entry.kind in OUTCOMES and any(r.kind in OUTCOMES and r.path == entry.path for r in self.rows)
        assert not clash, f"{entry.path} would have a second result"
        self.rows.append(replace(entry, seq=len(self.rows) + 1))
        return True


class Worker:
    """Claims, folds, finishes steps on the strength of what it knows, and does not notice that it is dead."""

    def __init__(self, flow: Graph, table: Table) -> None:
        self.flow, self.table, self.drive, self.epoch = flow, table, Drive.of(flow), 0

    def take_over(self) -> None:
        self.epoch = self.table.claim()
        self.drive = Drive.of(self.flow)
        self.drive.run = fold(self.flow, self.drive.run, [(r.seq, from_entry(r)) for r in self.table.rows])

    def act(self, random: Any) -> None:
        wanted = decide(self.flow, self.drive.run, NOW)
        if wanted == (CompleteRun(),):
            if self.table.append(self.epoch, to_entry(RunCompleted())):
                self.table.over = True
                self.drive.tell(RunCompleted())
            return
        paths = list(self.drive.ready())
        if paths:
            event = self.drive.outcome(random.choice(paths))
            if self.table.append(self.epoch, to_entry(event)):
                self.drive.tell(event)


@settings(max_examples=200)
@given(flows, seeds)
def test_no_interleaving_of_two_workers_gives_a_path_two_results(flow: Graph, random: Any) -> None:
    """The fence alone keeps a stale worker out; what it does in the dark changes nothing."""
    table = Table()
    workers = [Worker(flow, table), Worker(flow, table)]
    for _ in range(60):
        worker = random.choice(workers)
        if not table.over and (random.random() < 0.2 or worker.epoch == 0):
            worker.take_over()
        worker.act(random)
    last = Worker(flow, table)
    if not table.over:
        last.take_over()
    for _ in range(2_000):
        if table.over:
            break
        last.act(random)
    whole: Run = fold(flow, begin(flow, ID, {}), [(r.seq, from_entry(r)) for r in table.rows])
    assert whole == Drive.of(flow).to_end().run
    assert [r.seq for r in table.rows] == list(range(1, len(table.rows) + 1))
