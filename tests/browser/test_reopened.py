"""Every display after its kernel: the same notebook opened again, handed on, converted, and made by papermill."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from playwright.sync_api import Browser, Page

from tests.browser.lab import Lab
from tests.browser.test_after_the_kernel import convert, offline, without_kernel
from tests.browser.test_live_run import keep, wait_until

LOAD = "%load_ext flowbook"
DECLARE = """\
%%flow report
import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import display

@step
def load(n):
    print("loading", n)
    display(pd.DataFrame({"depth": [1.5, 2.5], "site": ["a", "b"]}))
    return {"docs": list(range(n))}

@step
def plot(docs):
    plt.plot(docs)
    plt.title("the tide")

@step
def tell(docs):
    return {"told": len(docs)}

START >> load >> plot >> tell
"""
GATE = """\
%%flow gate
@step
def ask():
    return {"amount": 7}

START >> ask >> wait("approved", timeout="2d") >> END
"""
CELLS = [
    LOAD,
    DECLARE,
    "run = %flow run report n=3 --wait",
    "%flow show last",
    GATE,
    "waiting = %flow run gate",
    "%flow inbox",
    "%flow runs",
    "get_ipython().run_line_magic('flow', f'diff {run.id} {run.id}')",
    "load >> plot",
]
TOPOLOGY, INSPECTOR, WAITING, WANTED, TABLE, COMPARE, PLAIN = 1, 3, 5, 6, 7, 8, 9
SAYS = {
    TOPOLOGY: (1, ""),
    INSPECTOR: (2, "✓ completed"),
    WAITING: (1, "waiting"),
    WANTED: (0, "approved"),
    TABLE: (0, "report"),
    COMPARE: (0, "report"),
    PLAIN: (1, ""),
}
"""Cell -> how many pictures there are to be seen without unfolding anything, at least, and what stands there."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # nine cells of a real kernel, with pandas and matplotlib

DEAD = re.compile(r"model not found|loading widget|error displaying|javascript error|traceback", re.IGNORECASE)


@pytest.fixture
def worked(new_lab: Callable[..., Lab], fresh_database: str, tmp_path: Path) -> Lab:
    """A notebook with every display, saved while its kernel was there; kernel and page are gone."""
    lab = new_lab(FLOWBOOK_DATABASE_URL=fresh_database)
    lab.write_notebook("all.ipynb", CELLS)
    page = lab.open("all.ipynb")
    for i in range(len(CELLS)):
        page.run(i)
    wait_until(lambda: "waiting" in page.output(WAITING).inner_text(), "the gate waits")
    page.cell(INSPECTOR).scroll_into_view_if_needed()
    keep(page, "all-live", tmp_path)
    time.sleep(1.5)  # what is shown is a second old at most
    page.save()
    lab.close_pages()
    return lab


def check(outputs: Callable[[int], Any], page: Page) -> None:
    """Each cell shows its last state: text, and pictures that are really there."""
    for cell, (pictures, text) in SAYS.items():
        area = outputs(cell)
        area.scroll_into_view_if_needed()
        wait_until(lambda area=area, text=text: text in area.inner_text(), f"{text!r} in cell {cell}", 20.0)  # type: ignore[misc]
        assert not DEAD.search(area.inner_text()), (cell, area.inner_text())
        seen = area.locator("img:visible")
        assert seen.count() >= pictures, (cell, seen.count())
        for i in range(seen.count()):
            assert seen.nth(i).evaluate("(img) => img.decode().then(() => img.naturalWidth > 0)"), cell
    output = outputs(INSPECTOR).locator("summary", has_text="output").last
    output.evaluate("(summary) => summary.click()")  # JupyterLab's words about the missing kernel lie over the page
    shown = outputs(INSPECTOR).locator("details", has=page.locator("summary", has_text="output")).last
    wait_until(lambda: "loading 3" in shown.inner_text(), "what the step printed", 10.0)
    assert "2.5" in shown.locator("table").first.inner_text()
    assert shown.locator("img:visible").last.evaluate("(img) => img.naturalWidth > 200"), "the plot"


def test_a_notebook_without_its_kernel_shows_how_everything_was(worked: Lab, chromium: Browser, tmp_path: Path) -> None:
    """In JupyterLab, in Notebook 7 and as HTML without a network, for its author and for who has it from its author."""
    notebook = worked.read_notebook("all.ipynb")
    notebook.cells[0].source += "\n"  # its signature does not fit any more
    nbformat.write(notebook, worked.notebooks / "foreign.ipynb")
    for name in ("all", "foreign"):
        for path, more in ((f"lab/tree/{name}.ipynb", "&reset"), (f"notebooks/{name}.ipynb", "")):
            page = without_kernel(worked, path, more)
            check(page.output, page.page)
            keep(page, f"reopened-{path.partition('/')[0]}-{name}", tmp_path)
            worked.close_pages()
    check_page(offline(chromium, convert(worked.notebooks / "all.ipynb", tmp_path)), tmp_path, "converted")


def test_papermill_shows_how_everything_was(
    fresh_database: str, flowbook_home: Path, chromium: Browser, tmp_path: Path
) -> None:
    """No widget is made where nobody looks; what the run leaves is in the file."""
    source = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    until = "\nimport time\nwhile waiting.status != 'waiting': time.sleep(0.05)"  # as a person would, who looks first
    cells = [cell.replace("%flow run gate", "%flow run gate --key g" + until) for cell in CELLS]
    source.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    nbformat.write(source, tmp_path / "in.ipynb")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "JPY_", "PYTEST", "FLOWBOOK_"))}
    env |= {
        "FLOWBOOK_DATABASE_URL": fresh_database, "FLOWBOOK_HOME": str(flowbook_home), "JUPYTER_PLATFORM_DIRS": "1",
        "IPYTHONDIR": str(tmp_path / "ipython"), "PYTHONPATH": str(Path.cwd()), "HOME": str(tmp_path),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "papermill", "in.ipynb", "all.ipynb", "--no-progress-bar"],
        env=env, cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    made = nbformat.read(tmp_path / "all.ipynb", as_version=4)
    kinds = {mime for cell in made.cells for o in cell.get("outputs", ()) for mime in o.get("data", ())}
    assert kinds <= {"text/html", "text/plain", "image/png", "image/svg+xml"}, "no widget"
    assert "widgets" not in made.metadata
    page = offline(chromium, convert(tmp_path / "all.ipynb", tmp_path))
    check_page(page, tmp_path, "papermill")


def check_page(page: Page, tmp_path: Path, name: str) -> None:
    """The converted notebook; its cells are counted as in the notebook."""
    page.set_viewport_size({"width": 1300, "height": 1000})
    check(lambda i: page.locator(".jp-CodeCell").nth(i).locator(".jp-Cell-outputWrapper"), page)
    ours = page.locator(".jp-OutputArea-output script:not([src])")
    assert ours.count() == 0, "no script is in any output"
    folder = Path(os.environ.get("FLOWBOOK_SHOTS") or tmp_path)
    page.screenshot(path=folder / f"{name}.png", full_page=True)
    page.context.close()
