"""An agent in JupyterLab, as a person sees it: words as they come, and the conversation when all else is gone."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import expect

from flowbook.testing import ScriptedModel
from tests.browser.lab import Lab, NotebookPage
from tests.browser.test_live_run import keep, wait_until

AGENT = """\
%%agent traveller --model m --base-url {url} --tools distance --approve distance
You plan journeys.
"""
TOOL = """\
def distance(start: str, end: str) -> str:
    "How far it is."
    return "274 km"
"""
APPROVE = """\
run = _
run.approve(next(step.path for step in run.steps if "/" in step.path))
"""
WORDS = " ".join(f"word{n}" for n in range(60)) + " **done**."


def test_words_come_while_the_model_says_them_and_the_conversation_stays(live_lab: Lab, tmp_path: Path) -> None:
    """In the middle there is half an answer on the page; at the end the saved file has the whole conversation."""
    with ScriptedModel() as model:
        model.on("How far", calls=[("distance", {"start": "Lisbon", "end": "Porto"})]).on("274 km", WORDS, pace=0.05)
        model.on("300 km", "Too far.")
        cells = ["%load_ext flowbook", TOOL, AGENT.format(url=model.base_url), "%%ask traveller\nHow far is it?"]
        live_lab.write_notebook("agent.ipynb", [*cells, APPROVE, "run.show()"])
        page = live_lab.open("agent.ipynb")
        for i in range(3):
            page.run(i)
        page.run(3)
        talk = page.output(3).locator(".fb-talk")
        wait_until(lambda: "→ waits" in talk.inner_text(), "the call waits for somebody")
        page.run(4)
        answer = talk.locator(".fb-answer")
        wait_until(lambda: "word5" in answer.inner_text(), "the first words are there")
        assert "word59" not in answer.inner_text()
        keep(page, "agent-streaming", tmp_path)
        page.output(3).locator("img").wait_for(timeout=60_000)
        assert page.output(3).locator(".fb-talk").count() == 0
        assert "word59 done." in page.output_text(3)
        assert page.output(3).locator("strong").inner_text() == "done"
        keep(page, "agent-over", tmp_path)
        page.save()
        assert model.count() == 2
        _edit_and_fork(page, tmp_path)
        assert model.count() == 3
    live_lab.close_pages()
    again = live_lab.open("agent.ipynb")
    again.output(3).locator("img").wait_for()
    assert "word59 done." in again.output_text(3)


def _edit_and_fork(page: NotebookPage, tmp_path: Path) -> None:
    """In the inspector: what the tool said is edited, and the conversation goes on from there in a fork."""
    page.run(5)
    inspector = page.output(5).locator(".fb-inspector")
    inspector.get_by_role("tab", name="Transcript").click()
    said = inspector.get_by_role("tabpanel", name="Transcript")
    said.get_by_role("button", name="fork at ask_model#2").click()
    form = inspector.get_by_role("form", name="fork at ask_model#2")
    messages = form.get_by_label(re.compile("^messages"))
    keep(page, "agent-transcript", tmp_path)
    messages.fill(messages.input_value().replace("274 km", "300 km"))
    form.get_by_role("button", name="start a fork").click()
    expect(inspector.locator(".fb-head .fb-badge")).to_contain_text("completed", timeout=30_000)
    expect(said).to_contain_text("Too far.")
    expect(said).not_to_contain_text("word59")
