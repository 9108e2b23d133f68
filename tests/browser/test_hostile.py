"""Hostile texts in every field of the live and the still views, in a real JupyterLab: shown as text, no more."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.browser.lab import Lab
from tests.browser.test_live_run import LOAD, keep, state_of, wait_until
from tests.conftest import ask_database
from tests.hostile import ACTIVE, Guard

VIEW = """\
import sys; sys.path.insert(0, {root!r})
from datetime import UTC, datetime
from uuid import UUID

from IPython.display import HTML, display

from flowbook.observe.tallies import ItemsView
from flowbook.observe.views import AttemptView, RunView, State, StepView, WaitView
from flowbook.plan.records import Failure, Status
from flowbook.show.html import flow_html, problems_html, run_html
from flowbook.show.live import LiveRun
from tests.hostile import ACTIVE

now = datetime.now(UTC)

def view_of(evil, status=Status.RUNNING):
    failure = Failure(evil, evil, evil, notes=(evil,))
    attempts = (AttemptView(1, now, now, failure), AttemptView(2, now, now, failure))
    spec = {{"name": evil, "entry": [evil], "nodes": [
        {{"name": evil, "ways": [["wait"], ["map"]], "labels": [evil, evil]}},
        {{"name": "wait", "ways": [[]], "wait": {{"signals": [[evil, None]], "seconds": None}}}},
        {{"name": "map", "ways": [[]], "map": {{"over": evil, "concurrency": 2}}}},
    ]}}
    steps = (
        StepView("go#1", evil, State.FAILED, attempts, 1.0, 0, {{evil: evil}}),
        StepView("wait#1", "wait", State.WAITING, attempts, None, None,
                 wait=WaitView((evil, evil), now, now, (failure,), answered_by=evil, answered_at=now, answer=evil)),
        StepView("map#1", "map", State.FINISHED, attempts, 1.0, None, evil, child=UUID(int=7),
                 items=ItemsView(4, 1, 2, 1, 0, ((1, failure),))),
    )
    return RunView(UUID(int=1), evil, 1, status, evil, {{evil: evil}}, spec, steps, failure, evil, now, now, None, 1, 9,
                   needs=evil, cancelled_by=evil, metadata={{evil: evil}})
"""
ALL = """\
lives, stills = [], []
for evil in ACTIVE:
    view = view_of(evil)
    stills += [run_html(view, hint=evil, enter=evil), flow_html(view.spec, [evil], [evil]), problems_html(evil, [evil])]
display(HTML("".join(stills)))
for evil in ACTIVE:
    view = view_of(evil)
    said = dict.fromkeys(("cancel", "resume", "retry", "answer", "approve", "reject"), lambda args: evil)
    live = LiveRun(view_of("quiet"), said)
    display(live)
    live.update(view)
    lives.append((live, LiveRun(view, said)))
    display(lives[-1][1])
"""
MESSAGES = """\
for evil, (live, _) in zip(ACTIVE, lives):
    ids = list(live.picture["names"])
    bad = {"s": evil, "t": evil, "b": evil, "c": evil, "at": evil, "p": [evil, evil, evil, evil]}
    head = {**live.head, "flow": evil, "run": evil, "command": evil, "status": evil, "word": evil, "facts": [evil],
            "error": evil, "needs": evil, "can": ["cancel"], "decisions": [
                {"path": evil, "name": evil, "node": evil, "signals": [{"signal": evil, "name": evil, "tone": evil}],
                 "handed": False, "due": evil, "since": evil, "refused": evil}]}
    live.send({"nodes": {ids[0]: bad, evil: bad}, "edges": [evil], "sent": 1})
    live.send({"head": head, "sent": evil})
    live.send({"answer": evil, "value": evil, "trouble": evil})
    live.send(evil)
    live.head = head
    live.picture = {**live.picture, "svg": live.picture["svg"].replace(
        "</svg>", "<script>window.fbEvil = 20</script><image href='https://evil.invalid/f.png'/><g onclick='x'/>"
        "<rect fill='url(https://evil.invalid/g.png)' style='fill:url(https://evil.invalid/h.png)'/></svg>")}
print("SENT")
"""


def test_no_text_and_no_message_gets_through(lab: Lab, tmp_path: Path) -> None:
    """Whatever labels, results, errors, names and messages say: no script runs, nothing is asked for elsewhere."""
    lab.write_notebook("hostile.ipynb", [VIEW.format(root=str(Path.cwd())), ALL, MESSAGES])
    page = lab.open("hostile.ipynb")
    guard = Guard(page.page, page.base)
    page.run(0)
    page.run(1)
    shown = page.output(1).locator(".fb-live")
    wait_until(lambda: shown.count() == 2 * len(ACTIVE), "all live views are there")
    for i in range(1, 2 * len(ACTIVE), 2):
        shown.nth(i).locator(".fb-node").first.dispatch_event("click")
    wait_until(lambda: page.output(1).locator(".fb-detail .fb-part").count() >= len(ACTIVE), "panels are open")
    for details in page.output(1).locator("details").all():
        details.evaluate("(it) => (it.open = true)")
    guard.clean()
    keep(page, "hostile", tmp_path)
    assert "SENT" in page.run(2)
    time.sleep(1.0)  # nothing is waited for: nothing should come
    guard.clean()
    assert page.output(1).locator("script, iframe, image, link, style, [onclick], [onerror], [onload]").count() == 0


DECLARE = """\
%%flow errand
import pathlib
@step
def go():
    with open({mark!r}, "a") as file:
        file.write("x")
    return 1
START >> go >> wait("never") >> END
"""


@pytest.mark.parametrize("trusted", [True, False], ids=["trusted", "untrusted"])
def test_opening_a_notebook_does_nothing(
    live_lab: Lab, fresh_database: str, database_url: str, tmp_path: Path, trusted: bool
) -> None:
    """A saved notebook with runs in it is opened: nothing connects, resumes or runs, nothing is asked for elsewhere."""
    mark = tmp_path / "mark"
    live_lab.write_notebook("saved.ipynb", [LOAD, DECLARE.format(mark=str(mark)), "%flow run errand"])
    page = live_lab.open("saved.ipynb")
    for i in range(3):
        page.run(i)
    wait_until(lambda: state_of(page, 2, "never") == "waiting", "the run waits")
    time.sleep(1.2)
    page.save()
    live_lab.close_pages()
    name = fresh_database.rpartition("/")[2].partition("?")[0]
    count = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'"
    wait_until(lambda: ask_database(database_url, count) == 0, "the kernel has let go of the database")
    notebook = live_lab.read_notebook("saved.ipynb")
    if not trusted:
        notebook.cells[2].outputs[0].data["text/plain"] += "."
        nbformat.write(notebook, live_lab.notebooks / "saved.ipynb")
    sessions = f"SELECT sessions FROM pg_stat_database WHERE datname = '{name}'"
    before: Any = ask_database(database_url, sessions)
    again = live_lab.open("saved.ipynb")
    guard = Guard(again.page, again.base)
    again.output(2).locator(".fb-still img").wait_for()
    again.page.wait_for_timeout(3000)
    assert [again.prompt(i) for i in range(3)] == ["[1]:", "[2]:", "[3]:"]
    assert mark.read_text() == "x"
    assert ask_database(database_url, count) == 0
    assert ask_database(database_url, sessions) == before
    guard.clean()
