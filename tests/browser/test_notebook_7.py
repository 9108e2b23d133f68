"""Notebook 7 in the hands of a person: deciding and cancelling while a cell runs, and the inspector."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect

from tests.browser.lab import Lab
from tests.browser.test_after_the_kernel import connected, tab
from tests.browser.test_control import GATE, busy
from tests.browser.test_live_run import LOAD, keep, wait_until

START = '%flow run gate text="it"'


def test_notebook_7_decides_cancels_and_inspects(live_lab: Lab, tmp_path: Path) -> None:
    """The buttons are heard while a cell runs; the inspector opens, tells, and takes a decision itself."""
    enough = tmp_path / "enough"
    cells = [LOAD, GATE, START, START, busy(enough), 'last = gate.start(text="last"); last.show()']
    live_lab.write_notebook("seven.ipynb", cells)
    page = tab(live_lab, "notebooks/seven.ipynb")
    connected(live_lab, "seven.ipynb")
    for i in range(4):
        page.run(i)
    decide = page.output(2).get_by_role("button", name="rejected: approved_or_rejected#1")
    cancel = page.output(3).get_by_role("button", name="cancel run")
    decide.wait_for()
    cancel.wait_for()
    page.run_cell(4)
    wait_until(lambda: page.prompt(4) == "[*]:", "the cell sleeps")
    decide.click()
    wait_until(lambda: "completed" in page.output_text(2), "it is decided while the cell sleeps")
    cancel.click()
    wait_until(lambda: "⊘ cancelled" in page.output_text(3), "it is cancelled while the cell sleeps")
    assert page.prompt(4) == "[*]:", "the cell was executing all the while"
    keep(page, "seven", tmp_path)
    enough.touch()
    page.wait_cell(4)

    page.run(5)
    inspector = page.output(5).locator(".fb-inspector")
    inspector.wait_for()
    open_one = inspector.locator(".fb-decision")
    open_one.get_by_role("button", name="rejected: approved_or_rejected#1").click()
    expect(inspector.locator(".fb-head .fb-badge")).to_contain_text("completed", timeout=20_000)
    expect(open_one).to_have_count(0)
    inspector.get_by_role("tab", name="Journal").click()
    journal = inspector.get_by_role("tabpanel", name="Journal")
    expect(journal.locator("tbody tr", has_text="decided")).to_have_count(1)
    inspector.get_by_role("tab", name="Timeline").click()
    expect(inspector.get_by_role("tabpanel", name="Timeline").locator(".fb-bar").first).to_be_visible()
    inspector.scroll_into_view_if_needed()
    keep(page, "seven-inspector", tmp_path)
    assert page.console == []
