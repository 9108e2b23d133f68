"""An agent in JupyterLab, as a person sees it: words as they come, and the conversation when all else is gone."""

from __future__ import annotations

from pathlib import Path

from flowbook.testing import ScriptedModel
from tests.browser.lab import Lab
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
        cells = ["%load_ext flowbook", TOOL, AGENT.format(url=model.base_url), "%%ask traveller\nHow far is it?"]
        live_lab.write_notebook("agent.ipynb", [*cells, APPROVE])
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
    live_lab.close_pages()
    again = live_lab.open("agent.ipynb")
    again.output(3).locator("img").wait_for()
    assert "word59 done." in again.output_text(3)
