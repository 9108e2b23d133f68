"""Control from the page: decisions, cancels and the inbox, while a cell works, on three versions of ipykernel."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.lab import Lab, NotebookPage
from tests.browser.test_live_run import LOAD, keep, wait_until

VERSIONS = ("6.31.0", "7.1.0", "7.4.0")
SIDE = Path(__file__).parents[2] / "build" / "kernels"
GATE = """\
%%flow gate
from pydantic import BaseModel

class Approval(BaseModel):
    amount: int
    by: str = ""

@step
def draft(text):
    return {"question": f"Publish {text}?", "text": text}
@step
def publish(approved): return {"went": "out"}
@step
def drop(rejected): return {"went": "back"}

draft >> wait_any({"approved": publish, "rejected": drop}, schema={"approved": Approval})
"""
LETTERS = """
import asyncio, asyncpg, json, sys
async def main():
    connection = await asyncpg.connect(sys.argv[1])
    rows = await connection.fetch("select run_id::text, kind, name from flowbook.mailbox order by run_id, id")
    print(json.dumps([list(r) for r in rows]))
asyncio.run(main())
"""


def letters(url: str) -> list[list[str]]:
    """Run, kind and name of all that was ever delivered. In a process of its own: playwright has this one's loop."""
    done = subprocess.run([sys.executable, "-c", LETTERS, url], capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout))


def shown(url: str, run: str) -> dict[str, object]:
    """A run, as the command line has it."""
    command = [sys.executable, "-m", "flowbook.cli", "show", run, "--json", "--url", url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


@pytest.fixture
def server_lab(new_lab: Callable[..., Lab], fresh_database: str) -> Lab:
    """A JupyterLab whose server and kernels use an empty database."""
    return new_lab(FLOWBOOK_DATABASE_URL=fresh_database)


@dataclass
class Two:
    """A page with two runs that wait, in cells 2 and 3, under a kernel of some version; cell 5 blocks it."""

    page: NotebookPage
    version: str
    enough: Path
    """The cell ends when this file is there."""


@pytest.fixture(scope="module", params=VERSIONS)
def two(
    request: pytest.FixtureRequest, module_database: str, chromium: Browser, flowbook_home: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Two]:  # fmt: skip
    """A JupyterLab whose server has the database, with a kernel of another version of ipykernel."""
    version, side = request.param, SIDE / request.param
    if not (side / ".done").exists():
        pytest.skip(f"no ipykernel {version} here (scripts/side_kernels.py installs it)")
    env = {"FLOWBOOK_HOME": str(flowbook_home), "FLOWBOOK_DATABASE_URL": module_database}
    lab = Lab(tmp_path_factory.mktemp("lab"), env, chromium)
    lab.start()
    try:
        lab.add_kernel(f"ipykernel-{version}", side)
        enough = lab.folder / "enough"
        start = '%flow run gate text="it"'
        cells = [LOAD, GATE, start, start, "import ipykernel; print(ipykernel.__version__)", busy(enough)]
        cells += ['%flow run gate text="listed"', "import flowbook as fb; fb.runs(limit=1)"]
        lab.write_notebook("gate.ipynb", cells, kernel=f"ipykernel-{version}")
        page = lab.open("gate.ipynb")
        for i in range(4):
            page.run(i)
        assert page.run(4) == version
        yield Two(page, version, enough)
    finally:
        lab.stop()


@contextlib.contextmanager
def sleeping(it: Two) -> Iterator[None]:
    """The kernel is in a cell all the while, and has heard what there was to hear at the end."""
    it.enough.unlink(missing_ok=True)
    it.page.run_cell(5)
    wait_until(lambda: it.page.prompt(5) == "[*]:", "the cell sleeps")
    yield
    assert it.page.prompt(5) == "[*]:", "the cell was executing all the while"
    it.enough.touch()
    it.page.wait_cell(5)
    it.page.run(4)  # what the kernel has heard late has been answered before this


def busy(enough: Path) -> str:
    """A cell that blocks its kernel until the file is there."""
    return f"import os, time\nwhile not os.path.exists({str(enough)!r}): time.sleep(0.1)"


def test_a_decision_is_heard_while_a_cell_sleeps(two: Two, module_database: str, tmp_path: Path) -> None:
    """On each version, by whichever way: the run goes on while the cell sleeps, and exactly one letter is delivered."""
    page, before = two.page, letters(module_database)
    button = page.output(2).get_by_role("button", name="rejected: approved_or_rejected#1")
    button.wait_for()
    with sleeping(two):
        keep(page, f"gate-{two.version}", tmp_path)
        button.click()
        wait_until(lambda: "completed" in page.output_text(2), "the run is over while the cell sleeps")
        keep(page, f"decided-{two.version}", tmp_path)
    new = [it for it in letters(module_database) if it not in before]
    assert [it[1:] for it in new] == [["decision", "approved_or_rejected#1 0"]]
    run = shown(module_database, new[0][0])
    steps = {s["path"]: s for s in run["steps"]}  # type: ignore[attr-defined]
    assert steps["drop#1"]["state"] == "finished"
    assert "@" in steps["approved_or_rejected#1"]["wait"]["answered_by"]


def test_a_cancel_is_heard_while_a_cell_sleeps(two: Two, module_database: str) -> None:
    """The run ends cancelled under the sleeping cell, by one letter."""
    page, before = two.page, letters(module_database)
    button = page.output(3).get_by_role("button", name="cancel run")
    button.wait_for()
    with sleeping(two):
        button.click()
        wait_until(lambda: "⊘ cancelled" in page.output_text(3), "the run is cancelled while the cell sleeps")
    assert [it[1] for it in letters(module_database) if it not in before] == ["cancel"]


def test_the_table_cancels_while_a_cell_sleeps(two: Two, module_database: str, tmp_path: Path) -> None:
    """It asks first, as ever; the run is told by one letter, whichever way it goes."""
    page = two.page
    page.run(6)
    page.output(6).get_by_role("button", name="cancel run").wait_for()
    before = letters(module_database)
    page.run(7)
    table = page.output(7).locator(".fb-runs")
    table.locator("tbody tr").get_by_role("checkbox").check()
    with sleeping(two):
        table.get_by_role("button", name="cancel the chosen runs").click()
        asked = table.get_by_role("alertdialog")
        asked.wait_for()
        assert "Cancel this run?" in asked.inner_text()
        table.get_by_role("button", name="Yes, cancel").click()
        wait_until(lambda: "1 of 1 done" in table.inner_text(), "it is told what came of it")
        wait_until(lambda: "⊘ cancelled" in page.output_text(6), "the run is cancelled while the cell sleeps")
        keep(page, f"table-{two.version}", tmp_path)
    assert [it[1] for it in letters(module_database) if it not in before] == ["cancel"]


def post(lab: Lab, body: object, token: str) -> int:
    """The status of a question to the server."""
    import urllib.error
    import urllib.request

    request = urllib.request.Request(f"{lab.base}/flowbook/control", json.dumps(body).encode(), method="POST")
    request.add_header("Content-Type", "application/json")
    if token:
        request.add_header("Authorization", f"token {token}")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code


def test_the_server_takes_nothing_from_strangers_and_nothing_for_another_database(
    new_lab: Callable[..., Lab], fresh_database: str
) -> None:
    """Without Jupyter's token it is 403; for another database than the server's 409; nonsense is 400."""
    from tests.browser.lab import TOKEN

    lab = new_lab(FLOWBOOK_DATABASE_URL=fresh_database)
    question = {"kind": "cancel", "run": "00", "namespace": "default", "database": "0" * 16, "args": {}}
    assert post(lab, question, "") == 403
    assert post(lab, question, "wrong") == 403
    assert post(lab, question, TOKEN) == 409
    assert post(lab, {**question, "kind": "exec"}, TOKEN) == 400
    assert post(lab, [1], TOKEN) == 400
    from flowbook.store.url import resolve

    right = resolve(fresh_database, {}, None).fingerprint
    assert post(lab, {**question, "database": right}, TOKEN) == 422


def inbox(page: NotebookPage, cell: int) -> str:
    """What the inbox below a cell says."""
    return page.output(cell).locator(".fb-inbox").inner_text()


@pytest.mark.timeout(300)  # two notebooks, two kernels, and a third opening
def test_two_pages_answer_and_one_is_told(server_lab: Lab, fresh_database: str, tmp_path: Path) -> None:
    """The inbox lists what waits across runs; a payload that does not fit is said in place; who is second is told."""
    start = '%flow run gate text="<img src=x onerror=window.hacked=1>"'
    server_lab.write_notebook("a.ipynb", [LOAD, GATE, start, "%flow inbox", "import time; time.sleep(90)"])
    server_lab.write_notebook("b.ipynb", [LOAD, "%flow inbox"])
    a = server_lab.open("a.ipynb")
    for i in range(4):
        a.run(i)
    a.output(3).locator(".fb-asked").get_by_text("Publish <img").wait_for()
    b = server_lab.open("b.ipynb")
    b.run(0)
    b.run(1)
    b.output(1).get_by_role("button", name="edit the payload").click()
    field = b.output(1).get_by_role("textbox", name="payload for")
    field.fill('{"amount": 3}')
    a.output(3).get_by_role("button", name="edit the payload").click()
    own = a.output(3).locator(".fb-inbox").get_by_role("textbox", name="payload for")
    assert json.loads(own.input_value()) == {"amount": 0}, "it begins with what the schema asks for"
    for text, wrong in (
        ('{"amount": "much"}', "amount: must be integer"),
        ("{}", "amount is missing"),
        ("{", "not JSON"),
    ):
        own.fill(text)
        wait_until(lambda wrong=wrong: wrong in inbox(a, 3), "what does not fit is said in place")  # type: ignore[misc]
    keep(a, "inbox-editing", tmp_path)
    a.output(3).get_by_role("button", name="Back").click()
    a.run_cell(4)
    wait_until(lambda: a.prompt(4) == "[*]:", "the cell sleeps")
    keep(a, "inbox", tmp_path)
    a.output(3).get_by_role("button", name="reject approved").click()
    why = a.output(3).get_by_role("textbox", name="why approved")
    why.fill("too dear")
    why.press("Enter")
    wait_until(lambda: "rejected by" in inbox(a, 3), "the first answer is taken")
    assert a.prompt(4) == "[*]:", "the cell was executing all the while"
    keep(a, "inbox-answered", tmp_path)
    b.output(1).get_by_role("button", name="Send now").click()
    wait_until(lambda: "answered already by" in inbox(b, 1), "the second one is told")
    assert "with 'rejected'" in inbox(b, 1)
    keep(b, "inbox-told", tmp_path)
    assert not a.page.evaluate("window.hacked")
    assert [kind for _, kind, _ in letters(fresh_database)] == ["decision"]
    b.save()
    outputs = server_lab.read_notebook("b.ipynb").cells[1].outputs
    still = [o.data["text/html"] for o in outputs if "text/html" in o.data]
    assert any("nothing waits for a decision" in html for html in still), "its still form is saved, as it is now"
    server_lab.close_pages()
    again = server_lab.open("b.ipynb", kernel=False)
    assert "model not found" not in again.page.inner_text("body").lower()
