"""The harness itself: a cell runs, a notebook is saved, a kernel can be killed."""

from __future__ import annotations

import os
from pathlib import Path

from tests.browser.lab import Lab


def test_a_cell_shows_what_it_prints_and_a_killed_kernel_is_another_process_afterwards(
    lab: Lab, tmp_path: Path
) -> None:
    """Who runs a cell sees its output, and finds it in the saved file. `kill_kernel` kills the notebook's kernel
    and nothing else; JupyterLab starts a new one.
    """
    lab.write_notebook("print.ipynb", ["print(6 * 7)", "import os; os.getpid()"])
    page = lab.open("print.ipynb")
    assert page.run(0) == "42"
    page.save()
    assert lab.read_notebook("print.ipynb").cells[0].outputs[0].text == "42\n"
    page.screenshot(tmp_path / "lab.png")
    assert (tmp_path / "lab.png").stat().st_size > 10_000

    before = int(page.run(1))
    assert page.kill_kernel() == before
    page.page.get_by_text("appears to have died").wait_for()
    page.page.keyboard.press("Enter")
    page.wait_ready()
    assert page.run(0) == "42"
    assert int(page.run(1)) not in {before, os.getpid()}
