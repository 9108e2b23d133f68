"""An agent of 800 turns: what is stored of its messages, and what a turn costs, the last ones beside the first.

Owns: the workload AGENT, against a scripted server in a process of its own. Refuses: judging (`run.py` has the
targets). CPU and not time is compared. The request carries the whole conversation: what building and sending it costs,
which grows with any client, is counted by itself as well; what is left is what flowbook adds.

    make bench ARGS="AGENT"
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from typing import Any

import common as c

import flowbook as fb
from flowbook.agents import loop
from flowbook.testing.model import Asked, ScriptedModel
from flowbook.testing.wire import Reply

TURNS, TEXT, ASKED = 800, 900, 40
STORED = """
select (select coalesce(sum(pg_column_size(payload)), 0) from flowbook.journal)
     + (select coalesce(sum(pg_column_size(payload)), 0) from flowbook.snapshot)
     + (select coalesce(sum(pg_column_size(bytes)), 0) from flowbook.blob)
     + (select coalesce(sum(pg_column_size(payload)), 0) from flowbook.output),
       (select coalesce(sum(pg_column_size(j)), 0) from flowbook.journal j)
     + (select coalesce(sum(pg_column_size(s)), 0) from flowbook.snapshot s)
     + (select coalesce(sum(pg_column_size(b)), 0) from flowbook.blob b)
     + (select coalesce(sum(pg_column_size(o)), 0) from flowbook.output o),
       (select count(*) from flowbook.snapshot)
"""


def text_of(turn: int) -> str:
    """Words of a message, of the size that is wanted."""
    words = f"turn {turn} says what it found, and why it matters. "
    return (words * (TEXT // len(words) + 1))[:TEXT]


async def look(n: int) -> str:
    """Look something up."""
    return text_of(n)


async def agent(ctx: c.Ctx) -> dict[str, Any]:
    """AGENT: bytes per byte of the messages, CPU per turn."""
    turns = ctx.size(TURNS)
    c.fresh_db(ctx.db)
    spent: list[float] = []
    asking: list[float] = []
    command = [sys.executable, __file__, "_serve", "--n", str(turns)]
    with subprocess.Popen(command, stdout=-1, text=True) as served:  # noqa: ASYNC220  nothing else is going on
        assert served.stdout is not None
        at = fb.Model("m", base_url=served.stdout.readline().strip())
        made = fb.agent("long", "You look things up.", model=at, tools=[look], max_turns=turns)
        async with fb.connect(ctx.url) as app:
            real = loop.answer  # type: ignore[attr-defined]
            loop.answer = _noting(real, asking, spent)  # type: ignore[attr-defined]
            run = await app.start(made, question="Look at all of it.")
            await run.result()
            messages = (await run.state())["messages"]
            loop.answer = real  # type: ignore[attr-defined]
            firsts = await first_tokens(app)
        served.terminate()
    said = sum(len(json.dumps(m, ensure_ascii=False)) for m in messages)
    payloads, whole, snapshots = map(int, c.psql(STORED, ctx.db)[0])
    first, last = _median(spent, 5, 15), _median(spent, turns - 11, turns - 1)
    first_asked, last_asked = _median(asking, 5, 15), _median(asking, turns - 11, turns - 1)
    return {
        "first_token_p50_ms": round(statistics.median(firsts), 1),
        "first_token_p95_ms": round(statistics.quantiles(firsts, n=20)[-1], 1),
        "turns": turns,
        "messages_kB": round(said / 1000, 1),
        "stored_kB": round(payloads / 1000, 1),
        "stored_per_byte": round(payloads / said, 3),
        "columns_per_byte": round(whole / said, 3),
        "snapshots": snapshots,
        "turn_10_ms": c.ms(first),
        f"turn_{turns}_ms": c.ms(last),
        "request_10_ms": c.ms(first_asked),
        f"request_{turns}_ms": c.ms(last_asked),
        "last_to_first": round((last + last_asked) / (first + first_asked), 2),
    }


async def first_tokens(app: fb.App) -> list[float]:
    """Milliseconds from a request's arrival at a server of this process to the first word of its answer at a reader.

    The server answers at once, so the first word leaves later than that, and the way of it is shorter.
    """
    took: list[float] = []
    with ScriptedModel() as model:
        model.on("", "Here are some words, one after the other, as models say them. " * 3, pace=0.002)
        quick = fb.agent("quick", "Be quick.", model=fb.Model("m", base_url=model.base_url))
        for _ in range(ASKED):
            run = await app.start(quick, question="Say it.")
            async for event in run.stream():
                if isinstance(event, fb.events.Streamed):
                    took.append((time.monotonic() - model.requests[-1].at) * 1000)
                    break
            await run.result()
    return took


class LongTalk(ScriptedModel):
    """Wants something looked up in each of its answers but the last; keeps no requests, which would be 600 MB."""

    def __init__(self, turns: int) -> None:
        super().__init__()
        self._turns = turns

    def answer(self, asked: Asked) -> tuple[int | None, Reply]:
        """The next turn's."""
        turn = 1 + sum(m["role"] == "assistant" for m in asked.messages)
        calls = (("look", json.dumps({"n": turn})),) if turn < self._turns else ()
        return 200, Reply(text_of(turn), calls, usage=(1000, 200))


def _noting(real: Any, asking: list[float], spent: list[float]) -> Any:
    """Asks as the agent does; notes the CPU of each request, and what was spent between two of them."""
    ended = [0.0]

    async def answer(*args: Any) -> Any:
        began = time.thread_time()
        if ended[0]:
            spent.append(began - ended[0])
        said = await real(*args)
        ended[0] = time.thread_time()
        asking.append(ended[0] - began)
        return said

    return answer


def _median(values: list[float], first: int, last: int) -> float:
    return statistics.median(values[first:last])


def serve(ctx: c.Ctx) -> dict[str, Any]:
    """The server, until it is killed: another process, so that its work is nobody else's."""
    with LongTalk(ctx.size(TURNS)) as model:
        print(model.base_url, flush=True)
        threading.Event().wait()
    return {}


c.main("flowbook", ["flowbook-jupyter"], {"AGENT": agent, "_serve": serve})
