"""What a body returns of what its calls gave it is stored once, and read as it was."""

from __future__ import annotations

import json
from typing import Any

import flowbook as fb
from flowbook.plan.journal import Entry
from flowbook.plan.quotes import LEAST
from flowbook.testing import memory_app

LONG = "a long text that a call has given, and its body returns; " * 20
TABLE = {"rows": [{"name": f"row {n}", "n": n, "share": n / 7, "none": None} for n in range(40)]}
AS_TEXT = json.dumps(TABLE, ensure_ascii=False, separators=(",", ":"))


@fb.step
async def fetch(what: str) -> Any:
    """Give something long."""
    return {"text": LONG, "table": TABLE, "answer": {"answer": LONG + "!"}}[what]


@fb.step
async def gather(ctx: Any) -> Any:
    """Return what its calls gave it: as it is, as JSON, out of a dict, and something of its own."""
    text, table, answer = [await ctx.step(fetch, what) for what in ("text", "table", "answer")]
    said = [{"content": text}, {"content": json.dumps(table, separators=(",", ":"))}, {"content": answer["answer"]}]
    return {"said": said, "own": "x" * LEAST, "short": text[:10]}


@fb.step
def after(said: Any) -> Any:
    """See what a later step sees."""
    return {"lengths": [len(one["content"]) for one in said]}


FLOW = fb.graph("quoting", gather >> after)
WANTED = [LONG, AS_TEXT, LONG + "!"]


async def test_a_long_text_of_a_call_is_in_the_journal_once(always_suspend: bool) -> None:
    """The state, the view, the stream, a fork, a moment and a diff have it all the same."""
    async with memory_app(always_suspend=always_suspend) as app:
        run = await app.start(FLOW, {})
        state = await run.result()
        assert [one["content"] for one in state["said"]] == WANTED
        assert state["lengths"] == [len(text) for text in WANTED]
        rows: list[Entry] = list(await app.store.history(run.id))
        whole = next(e for e in rows if e.path == "gather#1" and e.kind == "finished")
        assert len(whole.payload) < 3 * LEAST + 200
        step = next(s for s in (await run.view()).steps if s.path == "gather#1")
        assert [one["content"] for one in step.result["said"]] == WANTED
        events = [e async for e in run.stream() if isinstance(e, fb.events.StepFinished) and e.path == "gather#1"]
        assert [one["content"] for one in events[0].result["said"]] == WANTED
        at = await run.at("gather#1")
        assert [one["content"] for one in at.result["said"]] == WANTED == [one["content"] for one in at.state["said"]]
        fork = await run.fork(at="after#1")
        assert (await fork.result()) == state
        assert (await run.diff(fork)).same
        again = await run.fork(at="gather#1")
        assert (await again.result()) == state


async def test_a_short_text_is_stored_where_it_stands() -> None:
    """A quote would take as much."""

    @fb.step
    async def one(ctx: Any) -> Any:
        return {"said": await ctx.step(short)}

    @fb.step
    async def short() -> str:
        return "short"

    async with memory_app() as app:
        run = await app.start(fb.graph("brief", one), {})
        assert (await run.result()) == {"said": "short"}
        rows = list(await app.store.history(run.id))
        assert sum(b"short" in e.payload for e in rows) == 2
