"""Streaming on Postgres, between processes: one runs and is killed, another one reads.

Owns: what `tests/unit/run/test_streams.py` promises, where a database and several processes are needed to believe it.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import flowbook as fb
from flowbook.app import App, Options
from flowbook.graph.flow import graph
from flowbook.graph.step import step
from flowbook.handle import Run
from flowbook.observe.events import RunEvent
from flowbook.store.driver import Phase, set_tap
from flowbook.store.postgres import PostgresStore

pytestmark = [pytest.mark.timeout(120), pytest.mark.skipif(sys.platform == "win32", reason="processes are killed here")]

ROOT = Path(__file__).resolve().parents[2]

CHILD = '''
"""argv: url, file: a run under the key "k" that streams; with each word it waits until the file has as many lines."""
import asyncio, sys
import flowbook as fb

WORDS = "it was the best of times ".split(" ")

async def may(n):
    while sum(1 for _ in open(sys.argv[2])) <= n:
        await asyncio.sleep(0.005)

@fb.step
async def say(ctx) -> str:
    for n, word in enumerate(WORDS):
        await may(n)
        await ctx.stream(word + " ")
    return " ".join(WORDS)

async def main():
    async with fb.connect(sys.argv[1]) as app:
        run = await app.start(fb.graph("tale", say), key="k")
        await run.result()

asyncio.run(main())
'''
TALE = "it was the best of times  "


def text(found: list[RunEvent], path: str = "say#1") -> str:
    """What a reader who follows the rules has of a path."""
    said = ""
    for event in found:
        if isinstance(event, fb.events.Streamed) and event.path == path:
            said = event.text if event.begins else said + event.text
    return said


async def follow(run: Run, heard: Callable[[RunEvent], None]) -> None:
    """Read a run to its end."""
    async for event in run.stream():
        heard(event)


@contextmanager
def runner(url: str, file: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that carries the run, killed at the end."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, url, str(file)], cwd=ROOT, text=True)
    try:
        yield child
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait(timeout=10)


async def eventually(true: Any, seconds: float = 40.0) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(seconds):
        while not await true():
            await asyncio.sleep(0.01)


def test_a_reader_elsewhere_outlives_the_runner_and_gets_nothing_twice(
    fresh_database: str, tmp_path: Path, always_suspend: bool
) -> None:
    """SIGKILL in mid-stream: the half text is there for all, as no answer; the next attempt's takes its place."""
    file = tmp_path / "words"
    file.write_text("\n" * 3)

    async def whole() -> None:
        async with App(PostgresStore(fresh_database), Options("default", b"key", always_suspend)) as app:
            found: list[RunEvent] = []

            async def half() -> bool:
                return text(found) == "it was the "

            with runner(fresh_database, file):

                async def there() -> bool:
                    return bool(await app.runs())

                await eventually(there)
                run = await app.run((await app.runs())[0].id)
                reading = asyncio.create_task(follow(run, found.append))
                await eventually(half)
            late: list[RunEvent] = []

            looking = asyncio.create_task(follow(run, late.append))

            async def seen() -> bool:
                return text(late) == "it was the "

            await eventually(seen)
            assert not [e for e in late if isinstance(e, fb.events.StepFinished)]
            file.write_text("\n" * 20)
            with runner(fresh_database, file):
                await asyncio.wait_for(asyncio.gather(reading, looking), 40)
            for events in (found, late):
                assert text(events) == TALE
                assert isinstance(events[-1], fb.events.RunCompleted)
                assert sum(isinstance(e, fb.events.StepFinished) for e in events) == 1
            assert [e.begins for e in found if isinstance(e, fb.events.Streamed)].count(True) == 2
            places = [tuple(map(int, e.position.split("."))) for e in found]
            assert places == sorted(places)
            assert len(set(places)) == len(places)

    asyncio.run(whole())


def test_a_step_that_does_not_stream_costs_no_statement_more_and_one_that_does_a_few(fresh_database: str) -> None:
    """Counted at the wire: the appends of both runs are the same, and text goes by statements of its own."""
    names: Counter[str] = Counter()

    def tap(name: str, phase: Phase) -> None:
        if phase == "sent":
            names[name] += 1

    @step
    async def quiet(n: int) -> dict[str, Any]:
        return {"n": n + 1}

    @step
    async def loud(n: int, ctx: Any) -> dict[str, Any]:
        for _ in range(200):
            await ctx.stream("word ")
        return {"n": n + 1}

    async def counted(app: App, body: Any) -> Counter[str]:
        chain = body
        for i in range(9):
            chain = chain >> body.as_(f"again{i}")
        names.clear()
        await (await app.start(graph(body.name, chain), n=0)).result()
        return Counter({k: v for k, v in names.items() if k in ("append one", "append", "settle") or "chunk" in k})

    async def whole() -> None:
        async with App(PostgresStore(fresh_database), Options("default", b"key")) as app:
            await app.register(graph("warm", quiet))
            set_tap(tap)
            try:
                without = await counted(app, quiet)
                with_it = await counted(app, loud)
            finally:
                set_tap(None)
            writing = with_it.pop("write chunks")
            assert writing <= 20, "a first and a last piece for each of ten steps"
            with_it.pop("sweep chunks", None)
            assert not [name for name in without if "chunk" in name]
            assert with_it == without

    asyncio.run(whole())


def test_a_script_without_a_loop_reads_and_goes_on_from_a_position(fresh_database: str) -> None:
    """`for event in run.stream()`, and `async for` on any loop."""

    @step
    async def say(ctx: Any) -> str:
        await ctx.stream("hel")
        await ctx.stream("lo")
        return "hello"

    with fb.connect(fresh_database) as app:
        run = app.start(graph("f", say))
        found = list(run.stream())
        assert text(found) == "hello"
        assert isinstance(found[-1], fb.events.RunCompleted)
        assert list(run.stream(after=found[-2].position)) == found[-1:]

        async def elsewhere() -> list[RunEvent]:
            return [event async for event in run.stream(after=found[-2].position)]

        assert asyncio.run(elsewhere()) == found[-1:]
