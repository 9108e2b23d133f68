"""A run in JupyterLab, as a person sees it: live while it goes on, and still there when everything else is gone."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path

from tests.browser.lab import Lab, NotebookPage

DECLARE = """\
%%flow research
import asyncio, time

@step(retries=3, backoff=[1.0])
async def search(query, ctx):
    await asyncio.sleep(0.6)
    if ctx.attempt == 1:
        raise TimeoutError("the index did not answer")
    return {"docs": [query, "notes"]}

@step
def judge(docs) -> bool:
    time.sleep(0.4)
    return len(docs) > 1

@step
def summarise(docs):
    time.sleep(pause)
    return {"summary": " ".join(docs)}

@step
async def translate(docs):
    await asyncio.sleep(pause + 1.5)
    return {"translated": len(docs)}

@step
def write(summary, translated):
    return {"report": f"{summary} ({translated})"}

START >> search >> judge >> branch(lambda s: s.judge, {True: [summarise, translate], False: search})
[summarise, translate] >> write >> END
"""
LOAD, RUN = "%load_ext flowbook", '%flow run research query="tides"'


def state_of(page: NotebookPage, cell: int, step: str) -> str:
    """The state that the picture shows for a step."""
    return str(
        page.output(cell).evaluate(
            """(area, step) => [...area.querySelectorAll('.fb-live .fb-node')]
                .find((g) => g.querySelector('.fb-name').textContent === step)?.classList[1] ?? ''""",
            step,
        )
    ).removeprefix("fb-")


def watch_states(page: NotebookPage) -> None:
    """Note what the live picture shows whenever it changes, in the page itself: a look from here could miss it."""
    page.page.evaluate(
        """() => {
            window.fbSeen = [];
            new MutationObserver(() => {
                const now = {};
                for (const node of document.querySelectorAll('.fb-live .fb-node'))
                    now[node.querySelector('.fb-name').textContent] = node.classList[1].replace(/^fb-/, '');
                if (JSON.stringify(now) !== JSON.stringify(window.fbSeen.at(-1) ?? {})) window.fbSeen.push(now);
            }).observe(document.body, {subtree: true, childList: true, attributes: true, attributeFilter: ['class']});
        }"""
    )


def states(page: NotebookPage) -> list[dict[str, str]]:
    """Step -> state, once for each change since `watch_states`."""
    return list(page.page.evaluate("window.fbSeen"))


def wait_until(condition: Callable[[], bool], what: str, timeout: float = 60.0) -> None:
    """Look again until it is so."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.05)


def keep(page: NotebookPage, name: str, tmp_path: Path) -> None:
    """A picture for people: under FLOWBOOK_SHOTS where that is set."""
    page.screenshot(Path(os.environ.get("FLOWBOOK_SHOTS") or tmp_path) / f"{name}.png")


def test_a_run_is_live_while_another_cell_works_and_still_there_without_a_kernel(live_lab: Lab, tmp_path: Path) -> None:
    """States change in place under a busy kernel; the saved file shows the end, with no kernel and no widget."""
    enough = tmp_path / "enough"
    busy = f"import os, time\nwhile not os.path.exists({str(enough)!r}): time.sleep(0.1)"
    live_lab.write_notebook("live.ipynb", [LOAD, "pause = 2.0", DECLARE, RUN, busy])
    page = live_lab.open("live.ipynb")
    assert "flowbook: " in page.run(0)
    page.run(1)
    page.run(2)
    assert page.output(2).locator("img").count() == 1
    watch_states(page)
    page.run(3)
    page.run_cell(4)
    together = {"summarise": "running", "translate": "running", "write": "pending"}
    wait_until(lambda: any(together.items() <= seen.items() for seen in states(page)), "two branches run at once")
    searching = [state for state, _ in itertools.groupby(seen.get("search", "") for seen in states(page)) if state]
    assert searching[-4:] == ["running", "retrying", "running", "finished"]
    time.sleep(0.5)
    keep(page, "live", tmp_path)
    still = page.output(3).locator("img")
    still.wait_for(timeout=60_000)
    assert "completed" in page.output_text(3)
    assert page.output(3).locator(".fb-live").count() == 0
    assert page.prompt(4) == "[*]:", "all of this was seen while a cell was executing"
    enough.touch()
    page.wait_cell(4)
    keep(page, "over", tmp_path)
    page.save()

    outputs = live_lab.read_notebook("live.ipynb").cells[3].outputs
    assert [sorted(o.data) for o in outputs] == [["text/html", "text/plain"]] * 2
    assert [bool(o.data["text/html"]) for o in outputs] == [True, False], "the widget's output is empty"
    live_lab.close_pages()  # and their kernels
    again = live_lab.open("live.ipynb")
    again.output(3).locator("img").wait_for()
    assert "completed" in again.output_text(3)
    assert "model not found" not in again.page.inner_text("body").lower()
    assert again.output(3).locator("img").evaluate("(img) => img.complete && img.naturalWidth > 300")
    keep(again, "reopened", tmp_path)


def test_cancel_is_heard_while_a_cell_works(live_lab: Lab, tmp_path: Path) -> None:
    """The button reaches Python although the kernel is busy, and the run ends cancelled."""
    busy = "import time; time.sleep(90)"  # its kernel ends with the test
    # A thread cannot be stopped, so the run would end only with it.
    declare = DECLARE.replace(
        "def summarise(docs):\n    time.sleep(", "async def summarise(docs):\n    await asyncio.sleep("
    )
    assert declare != DECLARE
    live_lab.write_notebook("cancel.ipynb", [LOAD, "pause = 30.0", declare, RUN, busy])
    page = live_lab.open("cancel.ipynb")
    for i in range(4):
        page.run(i)
    page.run_cell(4)
    wait_until(lambda: state_of(page, 3, "translate") == "running", "translate runs")
    page.output(3).get_by_role("button", name="cancel run").click()
    wait_until(lambda: "⊘ cancelled" in page.output_text(3), "the still picture says cancelled")
    assert page.prompt(4) == "[*]:", "the cell was executing all the while"
    assert page.output(3).locator(".fb-live").count() == 0
    keep(page, "cancelled", tmp_path)


def test_a_page_is_loaded_again_and_its_kernel_killed_and_the_last_picture_is_left(
    live_lab: Lab, tmp_path: Path
) -> None:
    """After a reload the run is shown as it is then: messages are not played again, the traits have caught up. A dead
    kernel is told on the page, with what to do; in the file stands how the run was doing.
    """
    live_lab.write_notebook("killed.ipynb", [LOAD, "pause = 60.0", DECLARE, RUN])
    page = live_lab.open("killed.ipynb")
    for i in range(4):
        page.run(i)
    wait_until(lambda: state_of(page, 3, "translate") == "running", "translate runs")
    still = page.output(3).locator(".fb-still")
    assert still.count() == 1
    assert not still.is_visible(), "the live picture hides it"
    wait_until(lambda: "2 steps done" in still.inner_html(), "the still form has caught up")
    page.save()
    page.reload()
    wait_until(lambda: state_of(page, 3, "translate") == "running", "translate runs, after the reload")
    assert state_of(page, 3, "search") == "finished"
    keep(page, "reloaded", tmp_path)
    page.kill_kernel()
    gone = page.output(3).get_by_text("The kernel is gone. This is the last state, of ")
    gone.wait_for()
    assert "%flow resume" in page.output(3).locator(".fb-gone").inner_text()
    assert state_of(page, 3, "translate") == "running", "what was seen last is still to be seen"
    page.page.get_by_text("appears to have died").wait_for()
    page.page.keyboard.press("Enter")
    page.output(3).scroll_into_view_if_needed()
    keep(page, "kernel-gone", tmp_path)
    live_lab.close_pages()
    again = live_lab.open("killed.ipynb")
    again.output(3).locator(".fb-still img").wait_for()
    assert again.output(3).locator(".fb-still").is_visible()
    assert "▶ running" in again.output_text(3)
    again.output(3).locator("summary").click()
    assert "✓ finished" in again.output_text(3)
    keep(again, "killed", tmp_path)
