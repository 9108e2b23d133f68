"""Proofs with real processes that are really killed, on a real database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flowbook as fb
from flowbook.cli.code import graphs_of, load_module
from flowbook.errors import NotProven
from flowbook.naming import named
from flowbook.observe.proofs import Proof
from flowbook.plan.query import RunQuery
from flowbook.sync import SyncApp
from tests.integration.test_cli import Call, call
from tests.integration.test_notebook import Kernel, environment, new_kernel, talk

__all__ = ["call", "environment", "new_kernel", "talk"]

FLOWS = """
import asyncio
import random
import flowbook as fb

@fb.step
def first(x): return {"y": x + 1}

@fb.step
async def slow(y):
    await asyncio.sleep(0.8)
    return {"slow": y}

@fb.step
def quick(y): return {"quick": y * 2}

@fb.step
def last(slow, quick): return {"z": slow + quick}

@fb.step
def chance(): return {"c": random.random()}

@fb.step
def told(ok): return {"by": ok["by"]}

@fb.step
def breaks():
    raise LookupError("no such thing")

class Model:
    def __init__(self): self.weights = {"a": "x" * 3}

@fb.step(store="pickle")
def fit(): return Model()

@fb.step(store="pickle")
def better(fit): return fit

fitted = fb.graph("fitted", fit >> better)
fork = fb.graph("fork", first >> [slow, quick] >> last)
lucky = fb.graph("lucky", chance)
asking = fb.graph("asking", fb.wait("ok") >> told)
broken = fb.graph("broken", breaks)
"""
HIDES = """\
%%flow hides
@step
def load(query): return {"docs": [query]}
@step
def fit(docs): return {"fitted": f"{model is None} {len(docs)}"}
START >> load >> fit >> END
"""


@pytest.fixture(scope="module")
def flows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, fb.Graph]:
    """The flows of a module."""
    file = tmp_path_factory.mktemp("proving") / "proved_flows.py"
    file.write_text(FLOWS)
    return {g.name: g for g in graphs_of(load_module(str(file)))}


@pytest.fixture
def app(fresh_database: str, tmp_path: Path) -> Iterator[SyncApp]:
    """An app on a database of its own."""
    with fb.connect(fresh_database, home=tmp_path / "home") as found:
        yield found


def prove(app: SyncApp, flow: fb.Graph, input: dict[str, Any] | None = None, **options: Any) -> Proof:
    """A proof of at most a minute."""
    return app.prove(flow, input, timeout=60, **options)


def test_a_flow_is_killed_at_every_step_boundary_and_comes_to_the_same_end(
    app: SyncApp, flows: dict[str, fb.Graph]
) -> None:
    """Each outcome is followed by a SIGKILL and another process; what had begun beside it began again, and is told."""
    told: list[str] = []
    proof = prove(app, flows["fork"], {"x": 1}, progress=told.append)
    assert proof.passed, proof.why
    assert {s.path for s in proof.steps} == {"first#1", "slow#1", "quick#1", "last#1"}
    assert proof.kills == 4
    assert all(s.killed and s.same and s.resumed is not None for s in proof.steps)
    assert {s.path: s.begun for s in proof.steps} == {"first#1": 1, "quick#1": 1, "slow#1": 2, "last#1": 1}
    assert "slow#1 began more than once" in proof.remarks[0]
    assert sum("killed after" in text for text in told) == 4


def test_what_differs_by_itself_is_named_and_may_be_let_pass(app: SyncApp, flows: dict[str, fb.Graph]) -> None:
    """A result that chance made is not the same twice, which is no proof."""
    proof = prove(app, flows["lucky"])
    assert not proof.passed
    assert "the state key `c`" in proof.why[0]
    assert prove(app, flows["lucky"], ignore=("c", "chance")).passed
    pickled = prove(app, flows["fitted"])
    assert pickled.passed, pickled.why
    assert all(step.same for step in pickled.steps)


def test_a_flow_that_waits_is_told_before_or_the_proof_says_what_it_waits_for(
    app: SyncApp, flows: dict[str, fb.Graph]
) -> None:
    """Nobody is there to send a signal to a proof."""
    proof = prove(app, flows["asking"])
    assert "waits at ok#1" in proof.why[0]
    assert "--signal ok" in proof.why[0]


def test_a_flow_that_fails_by_itself_or_takes_too_long_is_not_proven(app: SyncApp, flows: dict[str, fb.Graph]) -> None:
    """The error is told; a proof has a limit and ends with its processes."""
    proof = prove(app, flows["broken"])
    assert "failed at breaks#1: LookupError: no such thing" in proof.why[0].replace("builtins.", "")
    late = app.prove(flows["fork"], {"x": 1}, timeout=0.2)
    assert "not done in time" in late.why[0]


def test_only_what_was_proven_is_promoted_and_then_it_is_what_a_name_means(
    app: SyncApp, flows: dict[str, fb.Graph]
) -> None:
    """The version is pinned: newer code of the same name is not started by it. Of the proof itself no run is left."""
    with pytest.raises(NotProven, match="never proven"):
        app.promote(flows["fork"])
    proof = prove(app, flows["fork"], {"x": 1}, kills=1)
    assert (proof.kills, proof.spared) == (1, 3)
    assert not app.portal.call(app.app.store.runs(RunQuery(None, children=True))), "its runs are gone"
    kept = app.promote(flows["fork"], by="ana")
    assert kept.promoted_by == "ana"
    newer = fb.graph("fork", *[flows["fork"].nodes["first"].step >> flows["fork"].nodes["quick"].step])
    app.register(newer)
    assert app.portal.call(named(app.app, "fork")).fingerprint == flows["fork"].fingerprint
    app.promote(newer, unproven=True)
    assert app.portal.call(named(app.app, "fork")).fingerprint == newer.fingerprint


def test_the_command_line_proves_and_promotes(
    fresh_database: str, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table on a terminal, JSON for scripts, and an exit code that says whether it holds."""
    monkeypatch.setenv("FLOWBOOK_HOME", str(tmp_path / "home"))
    file = tmp_path / "shown_flows.py"
    file.write_text(FLOWS)
    code, _, err = call("promote", f"{file}:fork")
    assert code == 2
    assert "FB761" in err
    code, out, _ = call("prove", f"{file}:asking", "--signal", 'ok={"by": "ana"}', "--json")
    record = json.loads(out)
    assert code == 0
    assert record["passed"]
    assert [s["path"] for s in record["steps"]] == ["ok#1", "told#1"]
    code, out, _ = call("prove", f"{file}:broken")
    assert code == 1
    assert "not proven" in out
    code, out, _ = call("promote", f"{file}:asking", "--cron", "0 6 * * *", "--tz", "Europe/Berlin")
    assert code == 0
    assert "is pinned to" in out
    with fb.connect(fresh_database, home=tmp_path / "home") as app:
        (schedule,) = app.portal.call(app.app.store.timetable.schedules("default"))
    assert (schedule.flow, schedule.cron, schedule.fingerprint) == ("asking", "0 6 * * *", record["fingerprint"])


def test_a_hidden_variable_of_the_notebook_is_named_and_the_quickstart_of_a_notebook_passes(talk: Kernel) -> None:
    """What only the kernel has is found out before anything is killed; without it the flow is proven and promoted."""
    talk("model = object()")
    talk(HIDES)
    proof = talk("%flow prove hides(query='q')")
    assert "not proven" in proof.text
    assert "`fit` reads notebook variable `model`" in proof.text
    refused = talk("%flow promote hides")
    assert "never proven" in refused.error or "model" in refused.error
    talk(HIDES.replace("{model is None} ", ""))
    proof = talk("%flow prove hides(query='q')")
    assert "hides v2: proven" in proof.text
    assert "SIGKILL" in proof.html
    assert "is pinned to" in talk("%flow promote hides").printed


def test_a_proof_that_is_cancelled_leaves_no_process_and_no_run(app: SyncApp, flows: dict[str, fb.Graph]) -> None:
    """Ctrl-C ends all of it."""

    async def cancelled() -> int:
        begun = asyncio.Event()
        task = asyncio.create_task(app.app.prove(flows["fork"], {"x": 1}, progress=lambda _: begun.set()))
        await begun.wait()
        task.cancel()
        await asyncio.wait([task])
        return len(await app.app.store.runs(RunQuery(None, children=True)))

    assert app.portal.call(cancelled()) == 0
