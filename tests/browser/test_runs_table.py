"""The table of runs in JupyterLab: narrowed down, sorted, leafed through, acted on; still there without its kernel."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Locator

from tests.browser.lab import Lab, NotebookPage
from tests.browser.test_live_run import LOAD, keep, wait_until
from tests.unit.show.samples import HOSTILE

DECLARE = """\
%%flow fit
import asyncio

@step
async def prepare(n):
    if n == 99:
        await asyncio.sleep(600)
    return {"prepared": n}

@step
def judge(prepared):
    if prepared % 4 == 3:
        raise ValueError(f"no such tide: {prepared}")
    return {"score": prepared}

START >> prepare >> judge >> END
"""
SEVERAL = """\
import flowbook as fb
runs = [fit.start(n=n, key=f"daily-{n:02}") for n in range(30)]
for run in runs:
    try:
        run.result()
    except ValueError:
        pass
going = [fit.start(n=99, metadata={"n": i}) for i in range(3)]
"""


def opened(lab: Lab, name: str, *cells: str) -> NotebookPage:
    """A notebook with 30 runs that are over (7 of them failed) and 3 that go on; the cells after that."""
    lab.write_notebook(name, [LOAD, DECLARE, SEVERAL, *cells])
    page = lab.open(name)
    for i in range(3):
        page.run(i)
    return page


@pytest.fixture(scope="module")
def many(module_lab: Lab, module_database: str) -> NotebookPage:
    """A page with tables in cells 3 to 6, for tests that leave the runs as they are."""
    module_lab.kernels_get(FLOWBOOK_DATABASE_URL=module_database)
    tables = [f"fb.runs(limit={n})" for n in (10, 5, 8, 40)]
    module_lab.write_notebook("many.ipynb", [LOAD, DECLARE, SEVERAL, *tables])
    page = module_lab.open("many.ipynb", lasting=True)
    module_lab.as_it_was()
    for i in range(3):
        page.run(i)
    return page


def rows(table: Locator) -> list[str]:
    """The short ids of the rows that are shown, from above."""
    return table.locator("tbody tr[data-run] .fb-link").all_inner_texts()


def cells(table: Locator, column: int) -> list[str]:
    """A column of the table; 0 has the boxes."""
    return table.locator(f"tbody tr[data-run] td:nth-child({column + 1})").all_inner_texts()


def test_a_table_is_narrowed_down_sorted_and_leafed_through(many: NotebookPage, tmp_path: Path) -> None:
    """Filters, orders and pages are the database's; counts and times of all that fits stand above."""
    page = many
    page.console.clear()
    page.run(3)
    table = page.output(3).locator(".fb-runs")
    table.wait_for()
    assert len(rows(table)) == 10
    assert "page 1, 10 of 33 runs" in table.inner_text()
    chips = {status: table.locator(f".fb-chip.fb-{status}") for status in ("failed", "running", "completed")}
    assert [re.sub(r"\D", "", c.inner_text()) for c in chips.values()] == ["7", "3", "23"]
    assert table.locator(".fb-spark rect").count() > 20
    assert "p95" in table.inner_text()
    keep(page, "runs", tmp_path)

    first = rows(table)
    table.get_by_role("button", name="next page").click()
    wait_until(lambda: "page 2" in table.inner_text(), "the second page")
    assert not set(first) & set(rows(table))
    table.get_by_role("button", name="page before").click()
    wait_until(lambda: rows(table) == first, "the first page again")

    chips["failed"].click()
    wait_until(lambda: len(rows(table)) == 7, "failed runs")
    assert set(cells(table, 3)) == {"✕ failed"}
    assert all("no such tide" in text for text in cells(table, 4))
    assert chips["failed"].get_attribute("aria-pressed") == "true"
    keep(page, "runs-failed", tmp_path)
    chips["failed"].click()

    table.get_by_role("button", name="Took").click()
    table.locator("th[aria-sort=descending]", has_text="Took").wait_for()
    assert cells(table, 3)[:3] == ["▶ running"] * 3, "what goes on has the last say"
    table.get_by_role("button", name="Took").click()
    wait_until(lambda: "▶ running" not in cells(table, 3), "the shortest first")

    search = table.get_by_label("id, key, place or error")
    search.fill("DAILY-07")
    wait_until(lambda: cells(table, 7) == ["daily-07"], "a run by its key")
    (short,) = rows(table)
    search.fill(short)
    wait_until(lambda: rows(table) == [short], "the same by its id")
    search.fill("")
    table.get_by_label("how long ago").select_option("1h")
    wait_until(lambda: len(rows(table)) == 10, "all are of the last hour")
    table.get_by_label("flow", exact=True).fill("none")
    wait_until(lambda: "No runs" in table.inner_text(), "no run of another flow")
    assert not page.console


def test_a_table_is_live_and_moves_nothing_that_somebody_reads(live_lab: Lab, tmp_path: Path) -> None:
    """Rows change in place; newer runs come in by themselves only where nobody would lose his place."""
    page = opened(
        live_lab, "live.ipynb", "%flow runs --limit 40", "late = fit.start(n=1, key='late'); late.result()",
        "going[0].cancel()", "later = fit.start(n=2, key='later'); later.result()",
    )  # fmt: skip
    page.run(3)
    table = page.output(3).locator(".fb-runs")
    table.wait_for()
    before = rows(table)
    assert len(before) == 33
    page.run(4)
    wait_until(lambda: cells(table, 7)[0] == "late", "a new run comes in")
    assert rows(table)[1:] == before
    table.get_by_label("id, key, place or error").focus()
    shown = rows(table)
    page.page.evaluate("window.fbFirst = document.querySelector('.fb-runs tbody tr')")
    page.run_cell(5)
    wait_until(lambda: cells(table, 3).count("⊘ cancelled") == 1, "a row changes in place")
    assert rows(table) == shown
    table.get_by_label(f"choose run {shown[3]}", exact=False).check()
    page.run_cell(6)
    news = table.get_by_role("button", name="new run")
    news.wait_for()
    assert rows(table) == shown, "nothing moves under the hands of who chooses"
    assert page.page.evaluate("window.fbFirst.isConnected"), "the rows are the same elements as before"
    keep(page, "runs-live", tmp_path)
    news.click()
    wait_until(lambda: cells(table, 7)[0] == "later", "it comes in when it is asked for")
    assert table.get_by_label(f"choose run {shown[3]}", exact=False).is_checked(), "and what was chosen stays chosen"
    assert not page.console


def test_a_run_opens_below_the_table_and_closes_again(many: NotebookPage, tmp_path: Path) -> None:
    """With mouse and keyboard; another one takes its place; a page that is loaded again shows it again."""
    page = many
    page.run(4)
    table = page.output(4).locator(".fb-runs").first
    table.wait_for()
    table.locator("tbody tr").nth(0).locator("td").nth(2).click()
    detail = table.locator(".fb-detail")
    detail.locator(".fb-node").first.wait_for()
    assert table.locator("tbody tr[aria-selected=true]").count() == 1
    keep(page, "runs-open", tmp_path)
    failed = table.locator("tbody tr").nth(3)
    button = failed.get_by_role("button")
    button.focus()
    page.page.keyboard.press("ArrowDown")
    page.page.keyboard.press("ArrowUp")
    page.page.keyboard.press("Enter")
    name = button.inner_text()
    wait_until(lambda: detail.get_by_role("group", name=f"inspector of run {name}").count() == 1, "the other one")
    assert page.prompt(4).strip("[]: ").isdigit(), "no key ran or moved a cell"
    page.save()
    page.reload()
    table = page.output(4).locator(".fb-runs").first
    table.locator(".fb-detail").get_by_role("group", name=f"inspector of run {name}").wait_for()
    table.get_by_role("button", name=f"close run {name}").click()
    wait_until(lambda: not table.locator(".fb-detail").is_visible(), "closed")


def test_two_runs_are_compared(many: NotebookPage, tmp_path: Path) -> None:
    """Two that are chosen, the older one first: where they part, what is different; without leaving the table."""
    page = many
    page.run(6)
    table = page.output(6).locator(".fb-runs")
    table.wait_for()
    compare = table.get_by_role("button", name="compare the two chosen runs")
    wait_until(lambda: len(rows(table)) == 33, "all runs")
    newer, older = table.locator("tr", has_text="daily-08"), table.locator("tr", has_text="daily-07")
    newer.get_by_role("checkbox").check()
    assert not compare.is_visible(), "one run is compared with nothing"
    older.get_by_role("checkbox").check()
    names = [row.locator(".fb-link").inner_text() for row in (older, newer)]
    compare.click()
    told = table.get_by_role("region", name=f"{names[0]} compared with {names[1]}")
    told.wait_for()
    assert "no such tide: 7" in told.inner_text()
    assert told.locator("img").count() >= 4, "two topologies and two timelines"
    for picture in told.locator("img").all():
        assert picture.evaluate("(img) => img.decode().then(() => img.naturalWidth > 0)")
    told.scroll_into_view_if_needed()
    keep(page, "runs-compared", tmp_path)
    told.get_by_role("button", name="close the comparison").click()
    wait_until(lambda: told.count() == 0, "closed")
    older.get_by_role("checkbox").uncheck()
    newer.get_by_role("checkbox").uncheck()


def test_many_runs_are_cancelled_and_retried_only_after_a_yes(live_lab: Lab, tmp_path: Path) -> None:
    """The confirmation says how many and which, and what is left alone; each run is told of by itself."""
    page = opened(live_lab, "bulk.ipynb", "fb.runs().limit(40)", "[r.status for r in going]")
    page.run(3)
    table = page.output(3).locator(".fb-runs")
    table.wait_for()
    table.get_by_label("choose all runs of this page").check()
    assert "33 chosen" in table.inner_text()
    table.get_by_role("button", name="cancel the chosen runs").click()
    asked = table.get_by_role("alertdialog")
    asked.wait_for()
    assert "Cancel these 3 runs?" in asked.inner_text()
    assert asked.locator("li").count() == 3
    assert "Left alone, over already" in asked.inner_text()
    assert "and 18 more" in asked.inner_text()
    assert page.page.evaluate("document.activeElement.textContent") == "No, leave them"
    keep(page, "runs-asked", tmp_path)
    page.page.keyboard.press("Escape")
    wait_until(lambda: asked.count() == 0, "the answer was no")
    assert page.run(4).count("RUNNING") + page.output_text(4).count("running") >= 3, "nothing was done"
    table.get_by_role("button", name="cancel the chosen runs").click()
    table.get_by_role("button", name="Yes, cancel").click()
    told = table.locator(".fb-told")
    told.wait_for()
    assert "3 of 3 done" in told.inner_text()
    wait_until(lambda: cells(table, 3).count("⊘ cancelled") == 3, "all three are cancelled")
    keep(page, "runs-told", tmp_path)

    table.locator(".fb-chip.fb-failed").click()
    wait_until(lambda: len(rows(table)) == 7, "failed runs")
    for n in (0, 1):
        table.locator("tbody tr").nth(n).get_by_role("checkbox").check()
    table.get_by_role("button", name="retry the chosen runs").click()
    assert "Retry these 2 runs?" in table.get_by_role("alertdialog").inner_text()
    table.get_by_role("button", name="Yes, retry").click()
    wait_until(lambda: "2 of 2 done" in table.inner_text(), "both go on")
    assert not page.console


EVIL = f"""\
import flowbook as fb
hostile = {HOSTILE!r}

@fb.step
def fall(n):
    raise ValueError(hostile[n])

fallen = fb.graph("fallen", fall >> fb.END)
for n in range(len(hostile)):
    key = hostile[n].encode("utf-8", "replace").decode().replace(chr(0), "?")
    try:
        fallen.start(n=n, key=key).result()
    except ValueError:
        pass
fb.runs(limit=100)
"""


def test_no_text_of_a_run_is_ever_markup(live_lab: Lab, tmp_path: Path) -> None:
    """Keys and errors that try to break out are shown as what they are; no script runs, nothing leaves the page."""
    live_lab.write_notebook("evil.ipynb", [LOAD, EVIL])
    page = live_lab.open("evil.ipynb")
    left: list[str] = []
    page.page.on(
        "request",
        lambda r: left.append(r.url) if not r.url.startswith((live_lab.base, "data:", "ws", "blob:")) else None,
    )
    page.page.on("dialog", lambda d: left.append(d.message))
    page.run(0)
    page.run(1)
    table = page.output(1).locator(".fb-runs")
    table.wait_for()
    assert len(rows(table)) == len(HOSTILE)
    assert table.locator("tbody :is(script, img, iframe, svg, style, a)").count() == 0
    assert any("<script>alert(1)</script>" in text for text in cells(table, 4))
    table.locator("tbody tr").nth(0).locator("td").nth(2).click()
    table.locator(".fb-detail .fb-node").first.wait_for()
    table.get_by_label("choose all runs of this page").check()
    table.get_by_role("button", name="retry the chosen runs").click()
    table.get_by_role("alertdialog").wait_for()
    keep(page, "runs-evil", tmp_path)
    assert left == []


def test_a_reopened_table_is_still_there_without_a_kernel(many: NotebookPage, lab: Lab, tmp_path: Path) -> None:
    """The last page as plain HTML, with counts, times and the moment that it is of."""
    page = many
    page.run(5)
    page.output(5).locator(".fb-runs").wait_for()
    page.save()
    shutil.copy(lab.notebooks / "many.ipynb", lab.notebooks / "kept.ipynb")
    again = lab.open("kept.ipynb", kernel=False)
    still = again.output(5).locator(".fb-runs-still")
    still.wait_for()
    assert still.is_visible()
    assert still.locator("tbody tr").count() == 8
    assert "8 of 33 runs, as it was on" in still.inner_text()
    assert still.locator("img").evaluate("(img) => img.complete && img.naturalWidth > 10")
    assert "model not found" not in again.page.inner_text("body").lower()
    keep(again, "runs-still", tmp_path)
