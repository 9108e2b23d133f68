"""Decisions and interrupts in a real kernel, and decisions from a terminal."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import flowbook as fb
from flowbook.cli.exits import Exit
from flowbook.plan.records import Status
from flowbook.sync import SyncRun
from tests.integration.test_cli import Call, call, shop
from tests.integration.test_notebook import Kernel, environment, new_kernel, talk

__all__ = ["call", "environment", "new_kernel", "shop", "talk"]

GATE = """\
%%flow gate
@step
def draft(): return {"question": "Publish <b>it</b>?", "text": "hello"}
@step
def publish(approved): return {"went": "out", "by": approved["by"]}
@step
def drop(rejected): return {"went": "back", "why": rejected["why"]}

draft >> wait_any({"approved": publish, "rejected": drop})
"""
NAP = "%%flow long\nimport asyncio\n@step\nasync def nap():\n    await asyncio.sleep(60)\nnap\n"


def test_decisions_are_made_with_magics(talk: Kernel) -> None:
    """Both ways, once each, with who and why; the inbox names what is open; every mistake says what to type."""
    talk(GATE)
    talk("run = %flow run gate", after=1.0)
    waiting = talk("%flow inbox").text
    assert "approved_or_rejected#1" in waiting
    assert "Publish <b>it</b>?" in waiting
    assert "<b>it</b>" not in talk("%flow inbox").html
    assert "next: <code>%flow approve" in talk("%flow show last").html
    assert "is rejected by ben" in talk("%flow reject last approved_or_rejected#1 too dear --by ben").printed
    assert "'why': 'too dear'" in talk("print(run.result())").printed
    second = talk("%flow approve last by=ana").error
    assert "FB332" in second
    assert "by ben" in second
    assert "Traceback" not in second
    talk("other = %flow run gate", after=1.0)
    assert "is approved by ana" in talk("%flow approve last by=ana").printed
    assert "'by': 'ana'" in talk("print(other.result())").printed
    assert "nothing waits" in talk("%flow inbox").text
    talk("third = %flow run gate", after=1.0)
    assert (
        "listens for 'approved', 'rejected', and not for 'nix'"
        in talk("%flow answer last approved_or_rejected#1 nix").error
    )
    assert "is not JSON" in talk("%flow approve last --edit {x}").error
    assert talk('%flow answer last approved_or_rejected#1 approved --edit \'{"by": "me"}\'').printed
    assert "'by': 'me'" in talk("print(third.result())").printed
    for command in ("approve", "reject", "answer", "inbox", "interrupt"):
        assert f"Example: %flow {command}" in talk(f"%flow {command} --help").printed
        assert talk("%flow reject").error


def test_tab_knows_paths_and_signals(talk: Kernel) -> None:
    """Of open decisions, of steps, of what a flow listens for."""
    talk(GATE)
    talk("run = %flow run gate", after=1.0)
    path = "approved_or_rejected#1"
    assert talk.complete("%flow approve last ") == [path]
    assert talk.complete(f"%flow answer last {path} ") == ["approved", "rejected"]
    assert talk.complete("%flow signal last app") == ["approved"]
    assert talk.complete("%flow fork last --at dr") == ["draft#1"]
    assert set(talk.complete("%flow enter last ")) == {"draft#1", path}
    assert talk.complete("%flow interrupt ") == ["cancel", "keep"]


def test_an_interrupt_cancels_a_run_where_that_was_chosen(talk: Kernel) -> None:
    """SIGINT, as Jupyter's button sends it: by the start's own option, or as the session has it; and it is said."""
    talk(NAP)
    chosen = talk("%flow run long --wait --on-interrupt=cancel", interrupt=2.0)
    assert "KeyboardInterrupt" in chosen.error
    assert "was cancelled." in chosen.printed
    assert "the run that it shows goes on" in talk("%flow interrupt").printed
    assert "is cancelled" in talk("%flow interrupt cancel").printed
    session = talk("long.run()", interrupt=2.0)
    assert "Interrupted: run" in session.printed
    assert talk("%flow runs --status cancelled").text.count("⊘ cancelled") == 2
    kept = talk("%flow run long --wait --on-interrupt keep", interrupt=2.0)
    assert "goes on: `%flow cancel" in kept.printed
    assert "running" in talk("%flow runs --status running").text
    assert "keep" in talk("%flow run long --on-interrupt stop").error


def test_an_interrupt_of_an_awaiting_cell_is_heard_as_well(new_kernel: Callable[..., Kernel]) -> None:
    """`await run` at the top level of a cell; the choice for all notebooks is an environment variable."""
    kernel = new_kernel(FLOWBOOK_ON_INTERRUPT="cancel")
    kernel("%load_ext flowbook")
    kernel(NAP)
    reply = kernel("run = %flow run long\nawait run", interrupt=2.0)
    assert "was cancelled." in reply.printed
    assert "cancelled" in kernel("print(run.status)").printed


def waiting(run: SyncRun) -> None:
    """Until it is parked."""
    deadline = time.monotonic() + 20
    while run.status is not Status.WAITING:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_decisions_are_made_from_a_terminal(call: Call, fresh_database: str, shop: Path) -> None:
    """Nobody carries the run, its code is not known, and its first answer counts all the same."""
    with fb.connect(fresh_database, home=shop.parent / "home") as app:
        gate = fb.graph("gate", fb.wait_any({"approved": fb.END, "rejected": fb.END}))
        runs = [app.start(gate, key=str(n)) for n in range(3)]
        for run in runs:
            waiting(run)
        by_hand, by_token, left = (str(run.id) for run in runs)
    code, out, _ = call("inbox", "--json")
    found = json.loads(out)
    assert (code, [it["run"] for it in found]) == (Exit.OK, [left, by_token, by_hand])
    assert (found[0]["path"], found[0]["yes"], found[0]["no"]) == ("approved_or_rejected#1", "approved", "rejected")
    assert call("inbox", "--flow", "other")[:2] == (Exit.OK, "nothing waits for a decision\n")
    assert call("inbox")[1].count("approved_or_rejected#1") == 3
    code, out, _ = call("approve", by_hand, "amount=3", "--by", "ana", "--json")
    answered = json.loads(out)["answered"]
    assert (code, answered["by"], answered["signal"], answered["payload"]) == (
        Exit.OK,
        "ana",
        "approved",
        {"amount": 3},
    )
    code, _, err = call("reject", by_hand, "--why", "late")
    assert code == Exit.USAGE
    assert "FB332" in err
    assert "by ana" in err
    code, out, err = call("reject", by_token, "approved_or_rejected", "--why", "too dear", "--by", "ben")
    assert (code, out) == (Exit.OK, f"run {by_token}: approved_or_rejected#1 is rejected by ben\n")
    assert "it needs code" in err
    assert call("answer", left, "approved_or_rejected#1", "nix")[0] == Exit.USAGE
    assert call("approve", left, "a", "b")[0] == Exit.USAGE
    assert call("approve", left, "--edit", "{")[0] == Exit.USAGE
    assert call("answer", left, "approved_or_rejected#1", "approved", "--edit", "[1]")[0] == Exit.OK
    assert [it["answered_by"] for it in json.loads(call("inbox", "--json")[1])][1:] == ["ben", "ana"]
    with fb.connect(fresh_database, home=shop.parent / "home") as app:
        app.register(gate)
        for run_id in (by_hand, by_token, left):
            app.find(run_id).resume().result(20)
        assert app.find(by_hand).state["approved"] == {"amount": 3, "by": "ana"}
        assert app.find(by_token).state["rejected"] == {"by": "ben", "why": "too dear"}
        assert app.find(left).state["approved"] == [1]


INSPECT = """
from flowbook.jupyter.extension import _loaded
from flowbook.jupyter.inspection import Inspection
inspection = Inspection(next(iter(_loaded.values())).session, run.view())
kinds = inspection.make().control["kinds"]
cancel = inspection.answers()["cancel"]
asked = {"run": str(run.id), "mark": "m"}
print(kinds, cancel(asked), cancel(asked))
"""


def test_the_inspectors_buttons_say_who_and_may_come_twice(talk: Kernel) -> None:
    """What its page asks through the store as well is done once."""
    talk(GATE)
    talk("run = %flow run gate", after=1.0)
    told = talk(INSPECT).printed
    assert "['approve', 'reject', 'answer', 'cancel', 'retry']" in told
    assert told.endswith(" cancelled cancelled\n")
    assert "@" in talk("print(run.view().cancelled_by)").printed
