"""Evaluating: a flow on a data set, as a durable run whose children are the samples.

Owns: `evaluate`, `Evaluating` (one under way), which run an evaluation is, and reading its rows. Refuses: running
samples and scoring (`agents/scoring.py`), means (`observe/evaluations.py`), drawing.

The run has a key: its name, the code of flow and scorers, and the data set. So the same call goes on with a run that
was killed, and gives the rows of one that is over. One that is over and had errors is followed by another under the
next number; in it, as in any other of that name, samples that have finished are found by their own keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flowbook.agents.datasets import marks, samples_of
from flowbook.agents.scoring import evaluation_flow, scorers_of
from flowbook.codec import digest, encode
from flowbook.errors import EvaluationRefused
from flowbook.graph import launch
from flowbook.graph.flow import Graph
from flowbook.graph.names import NAME
from flowbook.handle import Run
from flowbook.observe.evaluations import Evaluation, Row
from flowbook.plan.mapped import ItemError
from flowbook.plan.records import Status

if TYPE_CHECKING:
    from flowbook.app import App

AT_ONCE = 8
"""Samples under way together, where nothing else is said."""


@dataclass(frozen=True, slots=True)
class Evaluating:
    """An evaluation that has begun."""

    name: str
    flow: Graph
    run: Run
    samples: Sequence[Mapping[str, Any]]
    marks: Sequence[str]

    async def result(self) -> Evaluation:
        """Wait for all samples. Raises what ends the run as a whole; what ends a sample is in its row."""
        result = await self.run.result()
        found = result["rows"]
        rows = [one async for one in found] if hasattr(found, "__aiter__") else list(found)
        return Evaluation(
            self.name, self.flow.name, self.flow.fingerprint, self.run.id,
            tuple(_row(*each) for each in zip(self.marks, self.samples, rows, strict=True)),
        )  # fmt: skip


def evaluate(
    flow: Graph, dataset: Any, scorers: Any = (), *, name: str | None = None, concurrency: int = AT_ONCE
) -> Evaluation:
    """Run a flow on each sample of a data set, score what it gives, and wait for the end.

        result = fb.evaluate(researcher, "questions.jsonl", [exact, judge], concurrency=8)
        result.means, result.df(), result.compare(before)

    ``flow``: an agent, or any flow. ``dataset``: a list of dicts, a table, or a path of a .jsonl, .json or .csv file;
    ``input`` (or columns that are called as the flow's inputs) is what the flow begins with. ``scorers``: functions or
    steps that ask by their parameters' names for ``output``, ``expected``, ``sample``, ``run`` or a column, and return
    a number, True or False, or a dict of them; or agents with an ``output=`` of such fields, as judges.

    Each sample is a durable run of its own. What has finished is neither run nor paid for again, neither after a kill
    nor when the call is repeated under the same ``name`` (default: the flow's) with more samples or other scorers;
    what failed is tried again. Errors of a sample or a scorer are in its row. Raises `EvaluationRefused` before
    anything runs, `NotConnected` where no app is.
    """
    app: Any = launch.current()
    found: Evaluation = app.evaluate(flow, dataset, scorers, name=name, concurrency=concurrency)
    return found


async def begun(
    app: App, flow: Graph, dataset: Any, scorers: Any = (), *, name: str | None = None, concurrency: int = AT_ONCE
) -> Evaluating:
    """Begin an evaluation, or find it; see `evaluate`."""
    if not isinstance(flow, Graph):
        raise EvaluationRefused(f"evaluate({flow!r}): give it an agent or another flow, then a data set")
    if type(concurrency) is not int or concurrency < 1:
        raise EvaluationRefused(f"concurrency={concurrency!r}: it counts samples at once, from 1")
    name = name or flow.name
    if not NAME.match(name):
        raise EvaluationRefused(f"name={name!r}: letters, digits and _ only, not starting with a digit")
    samples = samples_of(dataset)
    own = marks(flow, samples)
    judges = scorers_of(scorers, {column for sample in samples for column in sample})
    whole = evaluation_flow(name, flow, judges, concurrency)
    said = f"{name} {flow.fingerprint[:12]}"
    given = [{"sample": s, "mark": f"evaluation {said} {m}"} for s, m in zip(samples, own, strict=True)]
    key = f"evaluation {name} {whole.fingerprint[:12]} {digest(encode(given)).hex()[:20]}"
    began = await app.store.now()
    number = 0
    while True:
        number += 1
        run = await app.start(whole, {"samples": given}, key=f"{key} {number}", metadata={"evaluation": name})
        it = Evaluating(name, flow, run, samples, own)
        row = await app.store.run(run.id)
        if row.created_at >= began or not row.status.over:
            return it
        if row.status is Status.FAILED:
            await run.retry()
            return it
        if row.status is Status.COMPLETED and not (await it.result()).errors:
            return it


async def evaluated(
    app: App, flow: Graph, dataset: Any, scorers: Any = (), *, name: str | None = None, concurrency: int = AT_ONCE,
    started: Callable[[Run], None] | None = None,
) -> Evaluation:  # fmt: skip
    """See `evaluate`; ``started`` is told of the run, whose view says how far it is."""
    it = await begun(app, flow, dataset, scorers, name=name, concurrency=concurrency)
    if started is not None:
        started(it.run)
    return await it.result()


def _row(mark: str, sample: Mapping[str, Any], found: Any) -> Row:
    if isinstance(found, ItemError):
        return Row(mark, sample, error=str(found.message))
    if found.get("error") is not None:
        return Row(mark, sample, error=str(found["error"]))
    fields = ("output", "scores", "notes", "failed", "seconds", "turns", "judges")
    return Row(mark, sample, run=UUID(hex=found["run"]), **{name: found[name] for name in fields})
