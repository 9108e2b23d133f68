"""What is left of a display when its kernel is gone: a widget that never ends, and the still form beside it.

docs/frontends.md tells what was seen here.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, Page

from tests.browser.lab import STARTUP, TOKEN, Lab, NotebookPage, get_json
from tests.browser.test_live_run import keep, wait_until

WIDGET = """\
from flowbook.jupyter.beside import Beside
from flowbook.show.widget import Widget

class Counter(Widget):
    _esm = "export default {render({model, el}) { el.textContent = 'THE WIDGET'; }}"

shown = Beside({"text/html": "<p>the still form</p>", "text/plain": "plain"}, Counter({}))
print("printed below")
"""
NEWER = 'shown.still({"text/html": "<p>the newer still form</p>", "text/plain": "plain"})'
END = "shown.end()"


def only(page: NotebookPage, cell: int, *, seen: str) -> None:
    """Wait until a cell shows a text and what it printed, and nothing else."""
    wait_until(lambda: visible(page, cell) == [seen, "printed below"], f"{seen!r} alone", 20.0)


def visible(page: NotebookPage, cell: int) -> list[str]:
    """The lines that a cell shows; what is hidden is not among them."""
    return [line for line in page.output(cell).inner_text().split("\n") if line.strip()]


@pytest.fixture(scope="module")
def kept(module_lab: Lab) -> Lab:
    """A notebook ``kept.ipynb``, saved while its widget was in use; its kernel and its page are gone."""
    lab = module_lab
    lab.write_notebook("kept.ipynb", [WIDGET, NEWER])
    page = lab.open("kept.ipynb")
    page.run(0)
    only(page, 0, seen="THE WIDGET")
    page.run(1)
    only(page, 0, seen="THE WIDGET")
    page.save()
    lab.close_pages()
    return lab


@pytest.fixture
def saved(kept: Lab, lab: Lab) -> Lab:
    """The same; pages and kernels of a test are closed after it."""
    return lab


def untrusted(lab: Lab) -> str:
    """The same notebook as it comes from somebody else: changed by one letter, so that its signature does not fit."""
    notebook = lab.read_notebook("kept.ipynb")
    notebook.cells[0].outputs[0].data["text/plain"] += "."
    nbformat.write(notebook, lab.notebooks / "foreign.ipynb")
    return "foreign.ipynb"


@pytest.mark.parametrize("kernel", [True, False], ids=["another-kernel", "no-kernel"])
@pytest.mark.parametrize("trusted", [True, False], ids=["trusted", "untrusted"])
def test_a_notebook_that_is_opened_again_shows_the_still_form(
    saved: Lab, tmp_path: Path, kernel: bool, trusted: bool
) -> None:
    """Neither "model not found" nor "Loading widget...": the newest still form, whoever opens the file."""
    name = "kept.ipynb" if trusted else untrusted(saved)
    page = saved.open(name) if kernel else without_kernel(saved, f"lab/tree/{name}", "&reset")
    only(page, 0, seen="the newer still form")
    if kernel:
        page.page.wait_for_timeout(2000)  # a widget that is late would come now
        only(page, 0, seen="the newer still form")
    keep(page, f"still-{kernel}-{trusted}", tmp_path)


@pytest.mark.parametrize("trusted", [True, False], ids=["trusted", "untrusted"])
def test_notebook_7_shows_the_same(saved: Lab, tmp_path: Path, trusted: bool) -> None:
    """The widget while its kernel is there, the still form afterwards."""
    name = "kept.ipynb" if trusted else untrusted(saved)
    page = without_kernel(saved, f"notebooks/{name}")
    only(page, 0, seen="the newer still form")
    keep(page, f"notebook-7-{trusted}", tmp_path)
    saved.close_pages()
    page = tab(saved, f"notebooks/{name}")
    page.page.locator(".jp-NotebookKernelStatus").wait_for(state="attached")
    only(page, 0, seen="the newer still form")
    if trusted:
        connected(saved, name)
        page.run(0)
        only(page, 0, seen="THE WIDGET")


def test_two_in_one_cell_do_not_hide_each_other(lab: Lab) -> None:
    """One has ended, the other is in use."""
    twice = WIDGET + 'again = Beside({"text/html": "<p>second</p>", "text/plain": ""}, Counter({}))\n'
    lab.write_notebook("two.ipynb", [twice, "again.end()"])
    page = lab.open("two.ipynb")
    page.run(0)
    wait_until(lambda: visible(page, 0).count("THE WIDGET") == 2, "two widgets")
    page.run(1)
    wait_until(lambda: visible(page, 0) == ["THE WIDGET", "printed below", "second"], "one still")
    page.save()
    first, _, _, *second = lab.read_notebook("two.ipynb").cells[0].outputs
    assert "<style>" in first.data["text/html"]
    assert [o.data["text/html"] for o in second][1:] == [""]
    assert "<style>" not in second[0].data["text/html"], "what has ended leaves plain HTML"


def test_nbconvert_shows_the_still_form_offline(saved: Lab, chromium: Browser, tmp_path: Path) -> None:
    """The converted notebook needs no network for it."""
    page = offline(chromium, convert(saved.notebooks / "kept.ipynb", tmp_path))
    lines = page.locator(".jp-OutputArea").first.inner_text().split("\n")
    assert [line for line in lines if line.strip()] == ["the newer still form", "printed below"]
    page.context.close()


# -------------------------------------------------------------------------------------------------------------- opening


def tab(lab: Lab, path: str, more: str = "", *, kernels: bool = True) -> NotebookPage:
    """A page of the server; without ``kernels`` none is started for it."""
    assert lab.browser is not None
    context = lab.browser.new_context(viewport={"width": 1400, "height": 1000})
    lab._contexts.append(context)
    page = context.new_page()
    if not kernels:
        for what in ("sessions", "kernels"):
            page.route(f"**/api/{what}*", lambda r: r.abort() if r.request.method == "POST" else r.continue_())
    page.goto(f"{lab.base}/{path}?token={TOKEN}{more}", wait_until="domcontentloaded")
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=STARTUP * 1000)
    return NotebookPage(page, lab.base)


def connected(lab: Lab, name: str) -> None:
    """Wait until a page of Notebook 7 has its kernel: a cell that is run before that is forgotten."""

    def idle() -> bool:
        kernels = [it["kernel"] for it in get_json(f"{lab.base}/api/sessions") if it["path"] == name]
        return any(it["connections"] and it["execution_state"] == "idle" for it in kernels)

    wait_until(idle, "the page is connected to its kernel", STARTUP)


def without_kernel(lab: Lab, path: str, more: str = "") -> NotebookPage:
    """A page of the server that gets no kernel."""
    return tab(lab, path, more, kernels=False)


def convert(notebook: Path, folder: Path) -> Path:
    """``jupyter nbconvert --to html``."""
    subprocess.run(
        [sys.executable, "-m", "nbconvert", "--to", "html", "--output-dir", str(folder), str(notebook)],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    return folder / f"{notebook.stem}.html"


def offline(browser: Browser, file: Path) -> Page:
    """A file in a browser without a network."""
    page = browser.new_context(viewport={"width": 1200, "height": 900}).new_page()
    page.route("**/*", lambda r: r.continue_() if r.request.url.startswith(("file:", "data:")) else r.abort())
    page.goto(file.as_uri(), wait_until="load")
    return page
