"""Time travel, forks and fixing in a real kernel."""

from __future__ import annotations

import contextlib
import queue
import re
from typing import Any

from tests.integration.test_notebook import RESEARCH, Kernel, environment, new_kernel, talk

__all__ = ["environment", "new_kernel", "talk"]

FITS = """\
%%flow fits
@step
def load(n):
    print("loading")
    return {"docs": ["a"] * n}

@step(retries=1, backoff=[0.01])
def fit(docs, k):
    # one too many
    return len(docs) // (k - 2)

@step
def tell(fit):
    return f"fitted {fit}"

load >> fit >> tell
"""


def next_cell(kernel: Kernel) -> str:
    """The cell that the last one asked to be put below it."""
    found = ""
    with contextlib.suppress(queue.Empty):
        while True:
            content: dict[str, Any] = kernel.client.get_shell_msg(timeout=1)["content"]
            found = next((p["text"] for p in content.get("payload", ()) if p["source"] == "set_next_input"), found)
    return found


def test_a_step_is_entered_fixed_and_the_run_continues(talk: Kernel) -> None:
    """The cell that opens runs as it stands; only the function's body is changed in it, and the run goes on."""
    talk(FITS)
    failed = talk("%flow run fits n=4 k=2 --wait")
    assert "ZeroDivisionError" in failed.error
    offered = re.search(r"Open here: <code>(%flow enter (\w+) fit#1)</code>", failed.html)
    assert offered, failed.html
    assert not talk(offered[1]).error
    cell = next_cell(talk)
    assert f"docs, k = %flow inputs {offered[2]} fit#1" in cell
    assert "def fit(docs, k):\n    # one too many\n    return len(docs) // (k - 2)\n" in cell
    assert "@step" not in cell
    assert not talk(cell).error, "it runs as it stands"
    assert talk("print(docs, k)").printed == "['a', 'a', 'a', 'a'] 2\n"
    assert not talk(cell.replace("(k - 2)", "k")).error
    gone_on = talk(f"%flow continue {offered[2]} --wait")
    assert not gone_on.error
    assert "step `fit` changed" in gone_on.printed
    assert "loading" not in gone_on.printed
    assert talk(f"%flow show {offered[2]}").text.count("completed") >= 1
    assert talk("print(fits.start(n=6, k=3).result()['tell'])").printed.endswith("fitted 2\n"), "the flow is fixed"
    again = talk(f"%flow continue {offered[2]}")
    assert "is completed, and only a failed run goes on with other code" in again.error


def test_a_run_whose_cell_was_edited_continues_with_it(talk: Kernel) -> None:
    """Also where nothing was entered; without a change it is said what to do."""
    talk(FITS)
    talk("%flow run fits n=4 k=2 --wait")
    unchanged = talk("%flow continue last")
    assert "%flow retry" in unchanged.error
    talk(FITS.replace("(k - 2)", "(k - 1)"))
    gone_on = talk("run = %flow continue last --wait\nprint(run.state['tell'])")
    assert "fitted 4" in gone_on.printed


def test_a_run_is_forked_looked_at_and_compared(talk: Kernel) -> None:
    """`%flow fork` with a quoted list, `run.at`, `%flow diff`, and a diff as a cell's value."""
    talk(RESEARCH)
    talk('run = research.start(query="x"); run.result()')
    forked = talk("""fork = %flow fork last --at judge#1 docs='["a", "b", "c"]' --wait\nprint(fork.state["report"])""")
    assert "a+b+c" in forked.printed
    assert "forked from" in forked.text
    assert talk("print(run.at('judge#1').before['docs'], len(fork.lineage))").printed == "['x', 'x'] 2\n"
    wrong = talk("%flow fork last --at nowhere#1")
    assert "It came to: search#1, judge#1, write#1" in wrong.error
    compared = talk("run.diff(fork)")
    assert "first difference at judge#1: input docs" in compared.text
    assert "<table>" in compared.html
    assert talk("import flowbook as fb\nprint(fb.diff(run, run).same)").printed == "True\n"
    shown = talk("%flow diff " + talk("print(run.id)").printed.strip() + " last")
    assert "state report: 'x+x' -> 'a+b+c'" in shown.text
