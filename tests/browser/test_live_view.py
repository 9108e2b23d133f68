"""The live view in the hands of a person: deciding, choosing a step, zoom and keyboard."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator

from tests.browser.lab import Lab, NotebookPage
from tests.browser.test_inspector import in_the_dark
from tests.browser.test_live_run import LOAD, keep, state_of, wait_until

DECLARE = """\
%%flow publish
import asyncio, time

@step
def collect() -> dict:
    return {"urls": [f"https://example.org/{i}" for i in range(40)]}

@step(retries=1, backoff=[0.1])
async def fetch(url, ctx):
    await asyncio.sleep(0.1)
    if url.endswith(("/7", "/23")):
        raise ConnectionError(f"{url} did not answer")
    return len(url)

@step
def draft(pages):
    return {"text": f"{len(pages)} pages"}

@step(retries=1, backoff=[600.0])
def illustrate(text):
    raise ValueError("the figure has no data\\nsecond line")

@step
async def publish_it(text):
    await asyncio.sleep(600)

@step
def withdraw(text):
    return {"withdrawn": True}

collect >> map_(fetch, over="urls", into="pages", concurrency=4, on_error="collect") >> draft
draft >> [wait_any({"approved": publish_it, "rejected": withdraw}, name="review"), illustrate]
"""


@pytest.fixture(scope="module")
def publishing(module_lab: Lab, module_database: str, tmp_path_factory: pytest.TempPathFactory) -> NotebookPage:
    """A page whose cell 2 starts a run, and whose cell 3 blocks the kernel until there is a file ``enough``."""
    module_lab.kernels_get(FLOWBOOK_DATABASE_URL=module_database)
    busy = "import os, time\nwhile not os.path.exists('enough'): time.sleep(0.1)"
    nested = "import flowbook as fb\n" + NESTED
    module_lab.write_notebook(
        "view.ipynb", [LOAD, DECLARE, "%flow run publish", busy, nested, '%flow run book text="tides"']
    )
    page = module_lab.open("view.ipynb", lasting=True)
    module_lab.as_it_was()
    for i in range(2):
        page.run(i)
    return page


@pytest.fixture
def page(publishing: NotebookPage) -> NotebookPage:
    """The same with a new run that waits for a decision and has failed once."""
    publishing.run(2)
    wait_until(lambda: state_of(publishing, 2, "review") == "waiting", "review waits")
    wait_until(lambda: state_of(publishing, 2, "illustrate") == "retrying", "illustrate has failed once")
    return publishing


NESTED = """\
@fb.step
def check(text):
    return {"checked": True}

@fb.step
async def print_it(text):
    await asyncio.sleep(600)

review = fb.graph("review", check >> fb.wait("signed"))
book = fb.graph("book", fb.subflow(review, input=["text"], into="reviewed", name="reviewing") >> print_it)
"""


def node(page: NotebookPage, cell: int, step: str) -> Locator:
    """The card of a step, by the name that a screen reader says."""
    return page.output(cell).locator(f'.fb-live .fb-node[aria-label^="{step}:"]')


def panel(page: NotebookPage, cell: int) -> str:
    """What is told of the step that was chosen."""
    it = page.output(cell).locator(".fb-detail")
    return it.inner_text() if it.is_visible() else ""


def width(page: NotebookPage, cell: int) -> float:
    """How wide the picture is on the page."""
    box = page.output(cell).locator(".fb-live svg").bounding_box()
    assert box is not None
    return box["width"]


def test_a_person_decides_and_looks_into_steps(page: NotebookPage, module_lab: Lab, tmp_path: Path) -> None:
    """Errors, progress, waits and who answered, by mouse; a payload that is no JSON is not sent."""
    page.run_cell(3)
    node(page, 2, "illustrate").click()
    wait_until(lambda: "second line" in panel(page, 2), "the whole error is told")
    page.output(2).locator(".fb-trace summary").click()
    assert "in illustrate" in panel(page, 2)
    keep(page, "view-detail", tmp_path)
    bar = node(page, 2, "fetch").locator(".fb-progress .fb-done")
    assert float(bar.get_attribute("width") or 0) > 0
    node(page, 2, "fetch").click()
    wait_until(lambda: "38 of 40 done, 2 failed" in panel(page, 2), "items are counted")
    assert "did not answer" in panel(page, 2)
    answer = page.output(2).locator(".fb-decision")
    answer.get_by_role("button", name="edit what is sent").click()
    answer.get_by_role("textbox").fill('{"note": ')
    answer.get_by_role("button", name="approved: review#1").click()
    wait_until(lambda: "no JSON" in answer.inner_text(), "what is no JSON is refused on the page")
    answer.get_by_role("textbox").fill('{"note": "fine"}')
    keep(page, "view-waiting", tmp_path)
    answer.get_by_role("button", name="approved: review#1").click()
    wait_until(lambda: state_of(page, 2, "publish_it") == "running", "it goes on")
    assert answer.count() == 0
    node(page, 2, "review").click()
    wait_until(lambda: "approved by" in panel(page, 2), "who answered is told")
    assert "note = 'fine'" in panel(page, 2)
    taken = page.output(2).locator(".fb-live .fb-way.fb-taken").count()
    assert 0 < taken < page.output(2).locator(".fb-live .fb-way").count()
    keep(page, "view-approved", tmp_path)
    assert page.prompt(3) == "[*]:", "all of it while a cell was executing"
    (module_lab.notebooks / "enough").touch()
    page.wait_cell(3)


def test_the_picture_is_used_with_the_keyboard(page: NotebookPage, tmp_path: Path) -> None:
    """Zoom, moving from step to step, choosing one; JupyterLab does not take the keys for its own."""
    keyboard = page.page.keyboard
    page.output(2).locator(".fb-live .fb-port").focus()
    before = width(page, 2)
    keyboard.press("+")
    keyboard.press("+")
    wait_until(lambda: width(page, 2) > 1.4 * before, "plus zooms in")
    keyboard.press("-")
    keyboard.press("0")
    keyboard.press("0")  # JupyterLab's own: restart the kernel
    wait_until(lambda: width(page, 2) < 1.1 * before, "0 fits")
    assert page.page.locator(".jp-Dialog").count() == 0
    page.output(2).locator(".fb-live svg").hover()
    page.page.keyboard.down("Control")
    page.page.mouse.wheel(0, -300)
    page.page.keyboard.up("Control")
    wait_until(lambda: width(page, 2) > 1.4 * before, "the wheel zooms too")
    page.output(2).get_by_role("button", name="fit to width").click()
    first = page.output(2).locator('.fb-live .fb-node[tabindex="0"]')
    assert first.count() == 1, "one stop of the tab key"
    first.focus()
    said = []
    for _ in range(3):
        keyboard.press("ArrowDown")
        said.append(page.page.evaluate("document.activeElement.getAttribute('aria-label')").partition(":")[0])
    assert said[:2] == ["fetch", "draft"]
    keyboard.press("Enter")
    wait_until(lambda: f"{said[2]}#1" in panel(page, 2), "the step under the focus is chosen")
    keep(page, "view-keys", tmp_path)
    keyboard.press("Escape")
    wait_until(lambda: not panel(page, 2), "and left again")


def test_a_sub_flow_opens_in_place_and_there_is_a_way_back(publishing: NotebookPage, tmp_path: Path) -> None:
    """Its run is live there, with its own buttons, while the run around it goes on."""
    page = publishing
    page.run(4)
    page.run(5)
    wait_until(lambda: state_of(page, 5, "reviewing") == "running", "the child runs")
    node(page, 5, "reviewing").click()
    live = page.output(5).locator(".fb-live").first
    live.get_by_role("button", name="open run ").click()
    child = live.locator(".fb-live")
    child.get_by_role("button", name="signed: signed#1").wait_for()
    back = live.get_by_role("navigation", name="the way here").get_by_role("button", name="back to run")
    assert back.evaluate("(it) => it === document.activeElement"), "who came by keyboard goes on with it"
    assert child.locator(".fb-flow").inner_text() == "review"
    assert not live.locator('.fb-node[aria-label^="print_it:"]').is_visible(), "it is in the place of the other one"
    page.output(5).scroll_into_view_if_needed()
    keep(page, "view-child", tmp_path)
    child.get_by_role("button", name="signed: signed#1").click()
    child.locator(".fb-badge.fb-completed").wait_for()
    back.click()
    wait_until(lambda: state_of(page, 5, "print_it") == "running", "the run around it has gone on")
    assert node(page, 5, "reviewing").is_visible()
    assert live.locator(".fb-live").count() == 0


def test_a_failed_run_is_retried_where_it_is_shown(live_lab: Lab, tmp_path: Path) -> None:
    """The error and the ways on are told; after the retry the same picture goes on, and ends as a still one."""
    fixed = tmp_path / "fixed"
    declare = f"""\
%%flow shaky
import os, time
@step
def prepare(): return 1
@step
def send(prepare):
    if not os.path.exists({str(fixed)!r}):
        raise ConnectionError("nobody is there")
    time.sleep(1)
    return "sent"
prepare >> send
"""
    live_lab.write_notebook("retry.ipynb", [LOAD, declare, "%flow run shaky"])
    page = live_lab.open("retry.ipynb")
    for i in range(3):
        page.run(i)
    again = page.output(2).get_by_role("button", name="retry run")
    again.wait_for()
    assert "nobody is there" in page.output_text(2)
    assert "%flow enter" in page.output_text(2)
    keep(page, "view-failed", tmp_path)
    fixed.touch()
    again.click()
    still = page.output(2).locator(".fb-still img")
    still.wait_for()
    assert "completed" in page.output_text(2)
    assert page.output(2).locator(".fb-live").count() == 0


TOUR = """\
%%flow report
import asyncio

@step
def collect() -> dict:
    return {"urls": [f"page {i}" for i in range(120)]}

@step
async def fetch(url):
    await asyncio.sleep(0.35)
    return len(url)

@step(retries=3, backoff=[120.0])
def illustrate(urls):
    raise ConnectionError("the picture server did not answer")

@step
async def publish(urls): ...

@step
def withdraw(urls): ...

collect >> [map_(fetch, over="urls", into="pages", concurrency=6), illustrate,
            wait_any({"approved": publish, "rejected": withdraw}, name="review")]
"""


def test_the_picture_follows_the_theme(live_lab: Lab, tmp_path: Path) -> None:
    """Cards, badges and buttons are dark on a dark page, and their text is legible on them."""
    live_lab.set("@jupyterlab/apputils-extension:notification", fetchNews="false")
    live_lab.write_notebook("theme.ipynb", [LOAD, TOUR, "%flow run report"])
    page = live_lab.open("theme.ipynb")
    for i in range(3):
        page.run(i)
    wait_until(lambda: state_of(page, 2, "illustrate") == "retrying", "illustrate has failed once")
    wait_until(lambda: state_of(page, 2, "review") == "waiting", "review waits")
    bar = node(page, 2, "fetch").locator(".fb-progress .fb-done")
    wait_until(lambda: float(bar.get_attribute("width") or 0) > 10, "items are done")
    node(page, 2, "illustrate").click()
    wait_until(lambda: "did not answer" in panel(page, 2), "its error is told")
    page.page.mouse.move(5, 5)
    in_colours(page, "Light", tmp_path)
    in_the_dark(page)
    in_colours(page, "Dark", tmp_path)


def in_colours(page: NotebookPage, theme: str, tmp_path: Path) -> None:
    """The view in cell 2 has the colours of its theme."""
    live = page.output(2).locator(".fb-live")
    live.screenshot(path=Path(os.environ.get("FLOWBOOK_SHOTS") or tmp_path) / f"live-{theme.lower()}.png")
    for part in (".fb-node.fb-finished .fb-card", ".fb-node.fb-retrying .fb-card", ".fb-node.fb-pending .fb-card"):
        fill = live.locator(part).first.evaluate("(it) => getComputedStyle(it).fill")
        assert (brightness(fill) < 100) is (theme == "Dark"), (part, fill)
    for part in (".fb-flow", ".fb-path", ".fb-decision .fb-quiet"):
        ink = live.locator(part).first.evaluate("(it) => getComputedStyle(it).color")
        assert (brightness(ink) > 120) is (theme == "Dark"), (part, ink)


def brightness(colour: str) -> float:
    """Of ``rgb(...)``, 0 to 255."""
    red, green, blue = (float(part) for part in re.findall(r"[\d.]+", colour)[:3])
    return 0.3 * red + 0.6 * green + 0.1 * blue


def test_a_long_chain_is_one_card_until_somebody_asks(live_lab: Lab, tmp_path: Path) -> None:
    """A flow of many steps is seen at a glance, and each step of it after a click."""
    declare = """\
import asyncio, flowbook as fb
def make(i):
    @fb.step(name=f"part_{i}")
    async def part():
        await asyncio.sleep(60 if i == 20 else 0)
    return part
parts = [make(i) for i in range(70)]
whole = parts[0]
for part in parts[1:]:
    whole = whole >> part
long = fb.graph("long", whole)
"""
    live_lab.write_notebook("crowd.ipynb", [LOAD, declare, "%flow run long"])
    page = live_lab.open("crowd.ipynb")
    for i in range(3):
        page.run(i)
    cards = page.output(2).locator(".fb-live [data-node]")
    wait_until(lambda: cards.count() == 1 and "20/70" in (cards.first.text_content() or ""), "one card for all of them")
    assert "part_20" in (cards.first.get_attribute("aria-label") or "")
    keep(page, "view-grouped", tmp_path)
    page.output(2).get_by_role("button", name="show every step").click()
    wait_until(lambda: cards.count() == 70, "each step has a card")
    wait_until(lambda: state_of(page, 2, "part_19") == "finished", "and says how it is doing")
    assert state_of(page, 2, "part_20") == "running"
    page.output(2).get_by_role("button", name="put long chains together").click()
    wait_until(lambda: cards.count() == 1, "and back")
