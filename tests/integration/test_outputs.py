"""What steps print, display and plot in a real kernel: it reaches the cell as ever, and is there after the run."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.integration.test_notebook import LOAD, Kernel, environment, new_kernel, talk

__all__ = ["environment", "new_kernel", "talk"]

TALK = """\
%%flow talk
import sys, warnings, logging
import pandas as pd
import matplotlib.pyplot as plt
from IPython.display import display, HTML

@step
def speak(n):
    print("printed", n)
    warnings.warn("careful")
    logging.getLogger("mine").warning("logged")

@step
async def table(n):
    print("from a coroutine")
    display(pd.DataFrame({"a": [1, 2]}))
    display(HTML("<b>bold</b>"), display_id="x")
    display(HTML("<b>bolder</b>"), display_id="x", update=True)

@step
def plot(n):
    plt.plot([1, n])
    plt.title("drawn")

@step(executor="process")
def far(n):
    print("far away")

speak >> table >> plot >> far
"""
KINDS = "print([(o.path, o.attempt, o.kind, sorted(o.bundle) or o.text) for o in run.outputs()])"


def test_all_that_a_step_says_reaches_the_cell_and_is_kept(talk: Kernel) -> None:
    """Prints, warnings, logs, tables, HTML that is updated in place, plots, and a process of its own."""
    talk(TALK)
    said = talk("run = %flow run talk n=3 --wait", after=1.0)
    assert not said.error
    for text in ("printed 3\n", "UserWarning: careful", "logged\n", "from a coroutine\n", "far away\n"):
        assert said.printed.count(text) == 1, text
    html = [b["text/html"] for b in said.shown if "text/html" in b]
    assert sum("<b>bold</b>" in h for h in html) == 1
    assert sum("<b>bolder</b>" in h for h in html) == 1
    assert sum("image/png" in b for b in said.shown) == 1
    assert "image/png" not in str(talk("1 + 1").shown), "the plot is closed: no later cell shows it"
    kept = eval(talk(KINDS).printed)
    assert [(path, attempt, kind) for path, attempt, kind, _ in kept] == [
        ("speak#1", 1, "stdout"),
        ("speak#1", 1, "stderr"),
        ("speak#1", 1, "log"),
        ("table#1", 1, "stdout"),
        ("table#1", 1, "display"),
        ("table#1", 1, "display"),
        ("plot#1", 1, "display"),
        ("far#1", 1, "stdout"),
    ]
    assert kept[2][3] == "WARNING mine: logged\n"
    assert kept[4][3] == ["text/html", "text/plain"]
    assert kept[6][3] == ["image/png", "text/plain"]
    bolder = talk("print(run.outputs('table#1')[-1].bundle['text/html'])")
    assert bolder.printed == "<b>bolder</b>\n", "an update takes the place of what it updates"


def test_another_process_reads_it_after_the_kernel_was_killed(talk: Kernel, new_kernel) -> None:
    """It is in the database within half a second of being printed."""
    talk("%%flow long\nimport time\n@step\ndef talks():\n    print('said it')\n    time.sleep(60)\n\nSTART >> talks\n")
    talk("run = %flow run long", after=1.5)
    run_id = talk("print(run.id)").printed.strip()
    talk.kill()
    other = new_kernel()
    other(LOAD)
    seen = other(f"run = %flow show {run_id}\nprint([(o.path, o.text) for o in run.outputs()])")
    assert seen.printed == "[('talks#1', 'said it\\n')]\n"


def test_capturing_a_cell_works_as_ever(talk: Kernel) -> None:
    """``%%capture`` and `redirect_stdout` get what the cell prints, and everything is as before afterwards."""
    assert talk("%%capture kept\nprint('inside')").printed == ""
    assert talk("print(repr(kept.stdout))").printed == "'inside\\n'\n"
    redirect = "import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()) as to: print('in')\n"
    assert talk(f"{redirect}print(to.getvalue())").printed == "in\n\n"
    assert talk("import sys; print('err', file=sys.stderr)").printed == "err\n"


def test_the_command_line_shows_what_steps_said(talk: Kernel, environment: dict[str, str]) -> None:
    """As text, as JSON, and as a page in the notebook."""
    talk(TALK)
    assert not talk("run = %flow run talk n=3 --wait", after=0.5).error
    run_id = talk("print(run.id)").printed.strip()
    shown = flowbook(environment, "show", run_id, "--outputs")
    lines = shown.splitlines()
    assert "speak#1  stdout  printed 3" in lines
    assert "speak#1  log     WARNING mine: logged" in lines
    assert "plot#1  display <Figure size 640x480 with 1 Axes>" in lines
    assert "speak#1  stdout" not in flowbook(environment, "show", run_id)
    found = json.loads(flowbook(environment, "show", run_id, "--outputs", "--json"))["outputs"]
    assert [o["kind"] for o in found if o["path"] == "table#1"] == ["stdout", "display", "display"]
    page = talk("%flow show last --outputs")
    assert '<img src="data:image/png;base64,' in page.html
    assert "<b>bolder</b>" in page.html
    assert "far#1  stdout  far away" in page.text


def flowbook(environment: dict[str, str], *words: str) -> str:
    """What a command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "flowbook.cli", *words],
        env=environment, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout
