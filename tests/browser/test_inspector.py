"""The inspector in JupyterLab, as a person uses it: tabs, a fork, a child, a cell, and what is left afterwards."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.lab import Lab, NotebookPage
from tests.browser.test_live_run import LOAD, keep, wait_until

CHILD = """\
%%flow polish
@step
def shorten(text):
    return {"text": text[:5]}
shorten
"""
FLOW = """\
%%flow research --state State
import asyncio

@step(retries=2, backoff=[0.3])
async def search(query, ctx):
    print("looking for", query)
    await asyncio.sleep(0.3)
    if ctx.attempt == 1:
        raise TimeoutError("the index did not answer")
    return {"docs": [query, "notes"], "best": {"title": "Ebb", "score": 0.5}}

@step
async def judge(docs, best) -> bool:
    await asyncio.sleep(0.4)
    return {"best": {"title": "Flood", "score": 0.9}}

@step
async def translate(docs):
    await asyncio.sleep(0.7)
    return {"translated": len(docs)}

@step
def write(docs, translated, best, limit):
    return {"report": "+".join(docs)[:limit // (translated - 2)]}

search >> [judge, translate] >> subflow(polish, input={"text": "query"}, into="polished") >> write
"""
STATE = """\
from pydantic import BaseModel
class State(BaseModel):
    query: str = ""
    limit: int = 10
    docs: list[str] = []
    best: dict = {}
    translated: int = 0
    polished: dict = {}
    report: str = ""
"""
RUN = """\
if "run" not in globals():
    run = research.start(query="tides")
    try:
        run.result()
    except ZeroDivisionError as error:
        print(error)
run.show()
"""


@pytest.fixture(scope="module")
def failed_run(module_lab: Lab) -> NotebookPage:
    """A page with a failed run."""
    module_lab.write_notebook("inspect.ipynb", [LOAD, STATE, CHILD, FLOW, RUN])
    page = module_lab.open("inspect.ipynb", lasting=True)
    for i in range(5):
        page.run(i)
    return page


@pytest.fixture
def inspected(failed_run: NotebookPage) -> NotebookPage:
    """A page with a new inspector of a failed run in cell 4. For tests that leave run and flow as they are."""
    failed_run.console.clear()
    return shown(failed_run)


@pytest.fixture
def own(lab: Lab) -> NotebookPage:
    """The same, for a test that changes the flow or carries the run on."""
    lab.write_notebook("own.ipynb", [LOAD, STATE, CHILD, FLOW, RUN])
    page = lab.open("own.ipynb")
    for i in range(4):
        page.run(i)
    return shown(page)


def shown(page: NotebookPage) -> NotebookPage:
    page.run(4)
    inspector(page).wait_for()
    expect(step_field(page)).to_have_value("write#1")
    return page


def inspector(page: NotebookPage, cell: int = 4) -> Locator:
    return page.output(cell).locator(".fb-inspector")


def tab(page: NotebookPage, name: str, cell: int = 4) -> Locator:
    """Show a tab, and wait for the panel that belongs to it."""
    inspector(page, cell).get_by_role("tab", name=name).click()
    panel = inspector(page, cell).get_by_role("tabpanel", name=name)
    expect(panel).to_be_visible()
    expect(panel).not_to_have_attribute("aria-busy", "true")
    return panel


def step_field(page: NotebookPage, cell: int = 4) -> Locator:
    return inspector(page, cell).get_by_role("combobox", name="step")


def choose(page: NotebookPage, path: str, cell: int = 4) -> None:
    """Choose a step by typing its path."""
    step_field(page, cell).fill(path)
    step_field(page, cell).press("Enter")


def button(page: NotebookPage, name: str, cell: int = 4) -> Locator:
    return inspector(page, cell).get_by_role("button", name=name)


def in_the_dark(page: NotebookPage) -> None:
    """JupyterLab's dark theme."""
    page.page.get_by_role("menuitem", name="Settings").click()
    page.page.locator(".lm-Menu-item", has_text="Theme").first.hover()
    page.page.locator(".lm-Menu-item", has_text="JupyterLab Dark").first.click()
    page.page.wait_for_selector('body[data-jp-theme-light="false"]', state="attached")


def look(page: NotebookPage, name: str, tmp_path: Path, cell: int = 4) -> None:
    """A picture of the inspector for people."""
    folder = Path(os.environ.get("FLOWBOOK_SHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    page.page.add_style_tag(content=".Toastify { display: none; }")  # JupyterLab's own news
    inspector(page, cell).screenshot(path=folder / f"{name}.png")


def test_each_tab_tells_of_the_run(inspected: NotebookPage, tmp_path: Path) -> None:
    """Topology, timeline, journal, state, output and code, of the step that failed, which is chosen to begin with."""
    page = inspected
    topology = inspector(page).get_by_role("tabpanel", name="Topology")
    expect(topology.get_by_role("button", name="write: failed")).to_have_attribute("aria-pressed", "true")
    topology.get_by_role("button", name="judge: finished").click()
    expect(step_field(page)).to_have_value("judge#1")
    look(page, "inspector-topology", tmp_path)

    timeline = tab(page, "Timeline")
    search = timeline.get_by_role("button", name=re.compile("^search#1: finished"))
    said = search.get_attribute("aria-label") or ""
    assert re.search(r"failed attempt 1 [123]\d\d ms \(TimeoutError: the index did not answer\)", said), said
    assert "until the next attempt" in said
    child = timeline.get_by_role("button", name=re.compile("child run"))
    expect(child).to_have_attribute("data-path", "polish#1")
    search.click()
    expect(step_field(page)).to_have_value("search#1")
    expect(search).to_have_attribute("aria-pressed", "true")
    button(page, "show less time").click()
    expect(timeline.get_by_text(re.compile(" of "))).to_be_visible()
    button(page, "whole run").click()
    expect(timeline.get_by_text(re.compile(" of "))).to_have_count(0)
    search.hover()
    look(page, "inspector-timeline", tmp_path)

    state = tab(page, "State")
    expect(state.get_by_text(re.compile(r"^1 of 4: search#1"))).to_be_visible()
    assert state.locator(".fb-how-changed b").all_inner_texts() == ["docs", "best"]
    slider = state.get_by_role("slider")
    for _ in range(2):
        slider.press("ArrowRight")
    expect(step_field(page)).not_to_have_value("search#1")
    choose(page, "judge#1")
    best = state.locator(".fb-key-state", has_text="best")
    expect(best.locator(".fb-minus")).to_have_text("-{'title': 'Ebb', 'score': 0.5}")
    expect(best.locator(".fb-plus")).to_have_text("+{'title': 'Flood', 'score': 0.9}")
    look(page, "inspector-state", tmp_path)

    choose(page, "write#1")
    output = tab(page, "Output")
    expect(output.get_by_text("ZeroDivisionError: integer division or modulo by zero").first).to_be_visible()
    expect(output.locator(".fb-traceback")).to_contain_text("docs)[:limit // (translated - 2)]")
    look(page, "inspector-output", tmp_path)
    choose(page, "search#1")
    expect(output.locator(".fb-of-stdout pre")).to_have_text(["looking for tides", "looking for tides"])
    choose(page, "judge#1")
    expect(output.locator(".fb-result")).to_contain_text("Flood")

    choose(page, "write#1")
    code = tab(page, "Code")
    expect(code.get_by_text("as it ran (v1), as it is today")).to_be_visible()
    expect(code.get_by_role("table")).to_contain_text("def write(docs, translated, best, limit):")
    assert page.console == []


def test_todays_code_stands_beside_that_which_ran(own: NotebookPage, tmp_path: Path) -> None:
    """The cell was edited since: both sides, line by line, and what is different in the flow."""
    page = own
    page.page.evaluate(
        """([text, fixed]) => {
            const cell = document.querySelector('.jp-Cell[data-windowed-list-index="3"] .cm-content');
            const view = cell.cmView?.view ?? cell.cmTile?.view;
            const at = view.state.doc.toString().indexOf(text);
            view.dispatch({changes: {from: at, to: at + text.length, insert: fixed}});
        }""",
        ["limit // (translated - 2)", "limit"],
    )
    assert "research v2" in page.run(3)
    code = tab(page, "Code")
    expect(code.locator("td.fb-minus")).to_contain_text("limit // (translated - 2)")
    expect(code.locator("td.fb-plus")).to_contain_text("[:limit]")
    expect(code.get_by_text("as it ran (v1), and today")).to_be_visible()
    code.get_by_text("what is different in the flow").click()
    expect(code.get_by_role("listitem")).to_contain_text("write")
    look(page, "inspector-code", tmp_path)
    in_the_dark(page)
    for name in ("Code", "Timeline", "State", "Journal"):
        tab(page, name)
        look(page, f"inspector-{name.lower()}-dark", tmp_path)


def test_the_journal_is_searched_and_copied(inspected: NotebookPage, tmp_path: Path) -> None:
    """By kind, path and text; one row, and all that were found, as JSON."""
    page = inspected
    page.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    journal = tab(page, "Journal")
    rows = journal.locator("tbody tr")
    everything = rows.count()
    look(page, "inspector-journal", tmp_path)
    journal.get_by_label("kind").select_option("attempt")
    expect(journal.get_by_role("status").last).to_have_text("1 to 2 of 2")
    journal.get_by_label("text").fill("INDEX DID NOT")
    expect(journal.get_by_role("status").last).to_have_text("1 to 1 of 1")
    expect(rows).to_have_count(1)
    button(page, "copy the rows found as JSON").click()
    expect(journal.get_by_text("1 row copied")).to_be_visible()
    (copied,) = json.loads(page.page.evaluate("navigator.clipboard.readText()"))
    assert copied["data"]["failure"]["message"] == "the index did not answer"
    journal.get_by_label("text").fill("")
    journal.get_by_label("kind").select_option("")
    journal.get_by_label("path").fill("judge")
    expect(rows).to_have_count(2)
    journal.get_by_label("path").fill("")
    expect(rows).to_have_count(everything)
    rows.nth(1).focus()
    page.page.keyboard.press("ArrowDown")
    page.page.keyboard.press("Enter")
    expect(journal.locator(".fb-opened pre")).to_contain_text('"path": "search#1"')
    page.page.keyboard.press("c")
    copied_row = "navigator.clipboard.readText()"
    wait_until(lambda: str(page.page.evaluate(copied_row)).startswith('{\n  "seq": 3,'), "the third row is copied")


def test_a_fork_begins_with_the_state_as_it_was_edited(inspected: NotebookPage, tmp_path: Path) -> None:
    """What does not fit is told at its key and nothing begins; then the fork is there, in place, with a way back."""
    page = inspected
    button(page, "Fork here").click()
    form = inspector(page).get_by_role("form", name="fork at write#1")
    translated = form.get_by_label(re.compile("^translated"))
    expect(translated).to_have_value("2")
    translated.fill('"three"')
    wrong = form.locator(".fb-trouble", has_text="valid integer")
    expect(wrong).to_be_visible()
    expect(translated).to_have_attribute("aria-invalid", "true")
    expect(form.get_by_role("button", name="start a fork")).to_be_disabled()
    look(page, "inspector-fork", tmp_path)
    translated.fill("3")
    expect(form.get_by_role("button", name="start a fork")).to_be_enabled()
    form.get_by_role("button", name="start a fork").click()
    expect(form).to_be_hidden()
    expect(inspector(page).locator(".fb-head .fb-badge")).to_contain_text("completed")
    expect(inspector(page).locator(".fb-head")).to_contain_text("forked from")
    choose(page, "write#1")
    expect(tab(page, "State").locator(".fb-key-state", has_text="report").locator(".fb-plus")).to_have_text(
        "+'tides+note'"
    )
    look(page, "inspector-forked", tmp_path)
    crumbs = inspector(page).get_by_role("navigation", name="the way here")
    crumbs.get_by_role("button", name="at write#1").click()
    expect(inspector(page).locator(".fb-head .fb-badge")).to_contain_text("failed")
    expect(crumbs).to_be_hidden()
    expect(step_field(page)).to_have_value("write#1")


def test_a_child_opens_in_place_and_there_is_a_way_back(inspected: NotebookPage, tmp_path: Path) -> None:
    """From its step in the parent; the parent stands in the way here."""
    page = inspected
    choose(page, "polish#1")
    button(page, "Open child").click()
    expect(inspector(page).locator(".fb-flow")).to_have_text("polish")
    expect(inspector(page).get_by_role("button", name="shorten: finished")).to_be_visible()
    choose(page, "shorten#1")
    expect(tab(page, "Output").locator(".fb-result")).to_have_text("{'text': 'tides'}")
    look(page, "inspector-child", tmp_path)
    inspector(page).get_by_role("button", name="research").click()
    expect(inspector(page).locator(".fb-flow")).to_have_text("research")
    expect(step_field(page)).to_have_value("polish#1")


def test_a_failed_step_is_opened_in_a_cell_fixed_and_the_inspector_follows(own: NotebookPage, tmp_path: Path) -> None:
    """*Open here* makes the cell; `%flow continue` goes on, and the page changes with it, without a click."""
    page = own
    button(page, "Open here").click()
    expect(page.cell(5).locator(".cm-content")).to_contain_text("def write(docs, translated, best, limit):")
    expect(page.cell(5).locator(".cm-content")).to_contain_text("%flow inputs")
    expect(inspector(page).get_by_text("It is in the cell below")).to_be_visible()
    look(page, "inspector-opened-here", tmp_path)
    page.page.evaluate(
        """([text, fixed]) => {
            const cell = document.querySelector('.jp-Cell[data-windowed-list-index="5"] .cm-content');
            const view = cell.cmView?.view ?? cell.cmTile?.view;
            const doc = view.state.doc.toString();
            const insert = doc.replace(text, fixed) + "%flow continue last --wait";
            view.dispatch({changes: {from: 0, to: doc.length, insert}});
        }""",
        ["limit // (translated - 2)", "limit"],
    )
    page.run(5)
    expect(inspector(page).locator(".fb-head .fb-badge")).to_contain_text("completed", timeout=20_000)


def test_everything_is_reached_with_the_keyboard(inspected: NotebookPage) -> None:
    """One stop for the tabs, arrows between them; bars, rows, cards; a fork and its end with Escape."""
    page = inspected
    keyboard = page.page.keyboard

    def name() -> str:
        return str(
            page.page.evaluate(
                "(document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent)"
            )
        )

    inspector(page).get_by_role("tab", name="Topology").focus()
    keyboard.press("Tab")
    keyboard.press("Tab")
    assert name().startswith("search"), name()
    keyboard.press("ArrowRight")
    keyboard.press("Enter")
    expect(step_field(page)).not_to_have_value("write#1")
    inspector(page).get_by_role("tab", name="Topology").focus()
    keyboard.press("ArrowRight")
    assert name() == "Timeline"
    expect(inspector(page).get_by_role("tabpanel", name="Timeline").locator(".fb-bar").first).to_be_visible()
    for _ in range(6):
        keyboard.press("Tab")
    first = name()
    assert "#1: " in first, first
    keyboard.press("ArrowDown")
    assert name() != first
    keyboard.press("Enter")
    wait_until(lambda: step_field(page).input_value() == name().partition(":")[0], "the bar's step is chosen")
    inspector(page).get_by_role("tab", name="Timeline").focus()
    keyboard.press("End")
    assert name() == "Code"
    keyboard.press("ArrowRight")
    assert name() == "Topology"
    keyboard.press("Shift+Tab")
    keyboard.press("Shift+Tab")
    keyboard.press("Shift+Tab")
    assert name() == "Fork here"
    keyboard.press("Enter")
    form = inspector(page).get_by_role("form")
    expect(form).to_be_visible()
    wait_until(
        lambda: page.page.evaluate("document.activeElement.tagName") == "TEXTAREA", "the first key has the focus"
    )
    keyboard.press("Escape")
    expect(form).to_be_hidden()
    assert name() == "Fork here"


def test_without_a_kernel_its_still_form_is_left(lab: Lab, inspected: NotebookPage, tmp_path: Path) -> None:
    """In use after the run's end as long as the kernel lives; in the file there is no widget to be missed."""
    page = inspected
    assert not page.output(4).locator(".fb-inspected").is_visible()
    page.save()
    shutil.copy(lab.notebooks / "inspect.ipynb", lab.notebooks / "again.ipynb")
    again = lab.open("again.ipynb")  # with a kernel of its own, which knows nothing of it
    still = again.output(4).locator(".fb-inspected")
    expect(still).to_be_visible()
    expect(inspector(again)).to_have_count(0)
    for picture in still.locator("img").all():
        expect(picture).to_be_visible()
        assert picture.evaluate("(img) => img.complete && img.naturalWidth > 300")
    still.locator("summary", has_text="state at the end").click()
    expect(still).to_contain_text("'title': 'Flood'")
    assert "model not found" not in again.page.inner_text("body").lower()
    keep(again, "inspector-still", tmp_path)


NASTY = """\
%%flow nasty
texts = {texts!r}

@step
def poke(text):
    from IPython.display import HTML, SVG, display
    print(*texts)
    display(HTML("".join(texts)), SVG("<svg xmlns='http://www.w3.org/2000/svg'>" + texts[1] + "</svg>"))
    return {{"say": text, **{{t: [t, {{t: t}}] for t in texts}}}}

@step(retries=1, backoff=[0.01])
def boom(say):
    # <img src=http://evil.invalid/code onerror="window.fbHacked = 1">
    raise ValueError("\\n".join(texts))

poke >> branch(lambda s: s.say, {{texts[0]: boom, texts[1]: END}})
"""


def test_no_text_of_a_users_runs_or_leaves_the_page(lab: Lab, tmp_path: Path) -> None:
    """Keys, values, errors, labels, sources: in every tab, the form of a fork and the still form they are text."""
    texts = [
        "<img src=http://evil.invalid/{i} onerror='window.fbHacked = 1'>",
        "<script>window.fbHacked = 1</script>",
        '"><svg onload="window.fbHacked = 1">',
        "</textarea><iframe src=http://evil.invalid/frame></iframe>",
        "<style>@import 'http://evil.invalid/style'</style>",
        "</pre></td><a href='javascript:window.fbHacked = 1'>x</a>",
    ]
    cells = [LOAD, f"texts = {texts!r}", NASTY.format(texts=texts)]
    run = "try:\n    nasty.run(text=texts[0], **{t: t for t in texts})\nexcept ValueError: print('raised')"
    # The step displays them in a page of its own, where JupyterLab lets them do what they want.
    lab.write_notebook("run.ipynb", [*cells, run, "r = %flow show last\nprint(r.id)"])
    page = lab.open("run.ipynb")
    for i in range(4):
        page.run(i)
    newest = page.run(4).split()[-1]
    lab.close_pages()

    lab.write_notebook("nasty.ipynb", [*cells, f"%flow show {newest}"])
    page = lab.open("nasty.ipynb")
    asked: list[str] = []
    page.page.on("request", lambda request: asked.append(request.url))
    for i in range(4):
        page.run(i)
    inspector(page, 3).wait_for()
    for path in ("poke#1", "boom#1"):
        choose(page, path, 3)
        for name in ("Topology", "Timeline", "Journal", "State", "Output", "Code"):
            panel = tab(page, name, 3)
            expect(panel.locator(".fb-trouble").last).to_be_empty()
            for bar in panel.locator(".fb-timeline .fb-bar").all():
                bar.focus()
    choose(page, "poke#1", 3)
    output = tab(page, "Output", 3)
    expect(output.locator(".fb-of-stdout pre")).to_contain_text("<script>")
    expect(output.locator("iframe")).to_have_count(1)
    expect(output.locator("img.fb-shown")).to_have_count(1)
    choose(page, "boom#1", 3)
    tab(page, "Journal", 3).locator("tbody tr").nth(2).dblclick()
    button(page, "Fork here", 3).click()
    form = inspector(page, 3).get_by_role("form")
    expect(form.locator("textarea").first).to_be_visible()
    form.locator("textarea").first.fill(texts[3])
    expect(form.locator(".fb-trouble", has_text="no JSON")).to_be_visible()
    look(page, "inspector-nasty", tmp_path, 3)
    tab(page, "State", 3)
    assert "<script>window.fbHacked" in inspector(page, 3).inner_text(), "they are shown, as text"
    assert page.page.evaluate("window.fbHacked") is None
    page.save()
    lab.close_pages()
    again = lab.open("nasty.ipynb")
    again.page.on("request", lambda request: asked.append(request.url))
    expect(again.output(3).locator(".fb-inspected")).to_be_visible()
    for fold in again.output(3).locator("summary").all():
        fold.click()
    assert again.page.evaluate("window.fbHacked") is None
    assert not [url for url in asked if "evil.invalid" in url]


LONG = """\
%%flow loop
@step
def count(n):
    return {"n": n + 1}
@step
def note(n):
    return {"said": f"it is {n}"}
START >> count >> note >> branch(lambda s: s.n < 10_000, {True: count, False: END})
"""
WRITE = """\
import flowbook.jupyter.extension as extension
from flowbook.codec import encode
from flowbook.ids import new_id
from flowbook.plan.events import RunCompleted, StepFinished
from flowbook.plan.journal import to_entry
from flowbook.plan.records import Status
from flowbook.ports import NewRun, Settlement

(loaded,) = extension._loaded.values()
app = loaded.session.app

async def write(rounds):
    \"\"\"A run as the engine would have written it, which would take a minute.\"\"\"
    definition = (await app.app.register(loop)).definition
    data = encode({"n": 0})
    new = NewRun(new_id(), "default", "loop", definition.fingerprint, definition.version, data, bytes(16))
    await app.app.store.start(new)
    for first in range(0, rounds, 500):
        rows = []
        for i in range(first + 1, first + 501):
            rows.append(StepFinished(f"count#{i}", 1, one := {"n": i}, one, None, 0.001))
            rows.append(StepFinished(f"note#{i}", 1, two := {"said": f"it is {i}"}, two, int(i == rounds), 0.001))
        await app.app.store.append(new.id, 1, [to_entry(row) for row in rows])
    await app.app.store.settle(Settlement(new.id, 1, Status.COMPLETED, 0, to_entry(RunCompleted())))
    return new.id

run = app.find(app.portal.call(write(10_000)))
"""
SHOW = """\
import time
begun = time.process_time()
run.show()
print(f"cpu {time.process_time() - begun:.3f}")
"""


@pytest.mark.slow
def test_a_run_with_20_000_rows_opens_at_once_and_stays_quick(lab: Lab, tmp_path: Path) -> None:
    """Judged by what it costs: little of the kernel's time, no long task in the page, a page of rows at a time."""
    lab.write_notebook("long.ipynb", [LOAD, LONG, WRITE, SHOW])
    page = lab.open("long.ipynb")
    for i in range(3):
        page.run(i)
    page.page.evaluate(
        """() => {
            window.fbLong = [];
            new PerformanceObserver((list) => window.fbLong.push(...list.getEntries().map((it) => it.duration)))
                .observe({entryTypes: ['longtask']});
        }"""
    )
    page.run_cell(3)
    begun = time.monotonic()
    expect(inspector(page, 3).get_by_role("button", name="count: finished")).to_be_visible(timeout=20_000)
    opened = time.monotonic() - begun
    page.wait_cell(3)
    cpu = float(re.search(r"cpu (\S+)", page.output_text(3))[1])  # type: ignore[index]
    spent: dict[str, float] = {}
    for name in ("Timeline", "Journal", "State", "Output", "Code"):
        begun = time.monotonic()
        tab(page, name, 3)
        spent[name] = time.monotonic() - begun
    timeline = tab(page, "Timeline", 3)
    assert 0 < timeline.locator(".fb-bar").count() < 1600
    look(page, "inspector-long", tmp_path, 3)
    timeline.locator(".fb-block").first.click()
    expect(timeline.get_by_text(re.compile(" of "))).to_be_visible()
    journal = tab(page, "Journal", 3)
    expect(journal.locator("tbody tr")).to_have_count(100)
    expect(journal.get_by_role("status").last).to_have_text("1 to 100 of 20,001")
    button(page, "last page", 3).click()
    expect(journal.locator("tbody tr").last).to_contain_text("completed")
    journal.get_by_label("text").fill('"it is 7777"')
    expect(journal.get_by_role("status").last).to_have_text("1 to 1 of 1", timeout=20_000)
    journal.get_by_role("button", name="note#7777").click()
    state = tab(page, "State", 3)
    expect(state.locator(".fb-how-changed .fb-plus")).to_have_text("+'it is 7777'", timeout=20_000)
    begun = time.monotonic()
    button(page, "step before", 3).click()
    expect(state.locator(".fb-how-changed .fb-plus")).to_have_text("+7777")
    spent["scrub"] = time.monotonic() - begun
    long = [round(it) for it in page.page.evaluate("window.fbLong")]
    print(f"opened in {opened:.2f} s, {cpu:.2f} s of it CPU; {spent}; long tasks {long}")
    assert cpu < 2.0, "all of the kernel's threads"
    expect(page.output(3).locator(".fb-still img[alt^=timeline]")).to_be_attached(timeout=30_000)
