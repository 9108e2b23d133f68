"""The live view in the hands of a person: deciding, choosing a step, zoom and keyboard."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.browser.lab import Lab, NotebookPage
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


@pytest.fixture
def live_lab(new_lab: Callable[..., Lab], fresh_database: str) -> Lab:
    """A JupyterLab whose kernels use an empty database."""
    return new_lab(FLOWBOOK_DATABASE_URL=fresh_database)


def node(page: NotebookPage, cell: int, step: str):
    return page.output(cell).locator(f'.fb-live .fb-node[aria-label^="{step}:"]')


def test_a_person_decides_looks_into_steps_and_moves_about(live_lab: Lab, tmp_path: Path) -> None:
    """All of it while a cell is at work."""
    live_lab.write_notebook("view.ipynb", [LOAD, DECLARE, "%flow run publish", "import time; time.sleep(300)"])
    page = live_lab.open("view.ipynb")
    print(page.run(0), page.run(1), page.run(2))
    page.run_cell(3)
    wait_until(lambda: state_of(page, 2, "review") == "waiting", "review waits")
    keep(page, "view-waiting", tmp_path)
    node(page, 2, "illustrate").click()
    wait_until(lambda: "the figure has no data" in page.output(2).locator(".fb-detail").inner_text(), "panel")
    keep(page, "view-detail", tmp_path)
    page.output(2).get_by_role("button", name=re.compile("approved: review")).click()
    wait_until(lambda: state_of(page, 2, "publish_it") == "running", "approved")
    node(page, 2, "review").click()
    wait_until(lambda: "approved by" in page.output(2).locator(".fb-detail").inner_text(), "who")
    keep(page, "view-approved", tmp_path)
