"""Victims: clean processes that carry a run and are killed for it.

Owns: both sides of a proof's processes: `Nursery`, which asks for one victim after the other, and what such a process
does (``python -m flowbook.victim``). Refuses: what is proven with them (`proving.py`).

The process that is started has flowbook and nothing of the user's in it. For each request it forks: the child builds
the flow from its stored source, carries the run, and as soon as the outcome of a step is durable it sends SIGKILL to
itself, so nothing of it is ended in order. Requests are lines of JSON on standard input, which also brings the key
(it stands in no argument and no environment); answers are lines on what was standard output, and all that steps print
goes elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from typing import Any, Self
from uuid import UUID

from flowbook.app import App, Options
from flowbook.errors import FlowbookError
from flowbook.graph.rebuild import rebuild
from flowbook.plan.journal import OUTCOMES, Entry
from flowbook.plan.records import Status
from flowbook.ports import Ack

LOOK = 0.2
"""Seconds between two looks at a run that somebody still has."""
AHEAD = 2.0
"""Seconds: a run that is parked for longer than is left to the proof, and this, waits for somebody."""
LAST_WORDS = 4_000
"""Characters of what a victim has printed that an error tells."""


class Nursery:
    """Victims, one after the other. ``async with``; Raises `FlowbookError` where the process cannot be started."""

    def __init__(self) -> None:
        self._printed = tempfile.TemporaryFile(mode="w+b")  # noqa: SIM115 - closed at its end
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "flowbook.victim", stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE, stderr=self._printed, start_new_session=True, limit=2**24,
            )  # fmt: skip
        except BaseException:
            self._printed.close()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        process = self._process
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # and what its victims have started
            await process.wait()
        self._printed.close()

    async def carry(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """What a victim tells, up to its end: the last answer has ``ended``, the signal that killed it or 0."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(request).encode() + b"\n")
        await process.stdin.drain()
        while True:
            line = await process.stdout.readline()
            if not line:
                yield {"ended": -1, "printed": self.printed()}
                return
            answer = json.loads(line)
            yield answer
            if "ended" in answer:
                return

    def printed(self) -> str:
        """The last of what victims have printed."""
        self._printed.seek(0)
        return self._printed.read().decode("utf-8", "replace")[-LAST_WORDS:]


class _Told:
    """The way back to who asked."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def __call__(self, **answer: Any) -> None:
        os.write(self._handle, json.dumps(answer).encode() + b"\n")


class _Victim(App):
    """An app that dies when a step's outcome is durable."""

    def __init__(self, store: Any, options: Options, tell: _Told, after: int) -> None:
        super().__init__(store, options)
        self._tell = tell
        self._left = after

    def _heard(self, run_id: UUID, entries: Sequence[Entry], ack: Ack | None) -> None:
        super()._heard(run_id, entries, ack)
        done = [entry.path for entry in entries if entry.kind in OUTCOMES]
        if not done or not self._left:
            return
        self._left -= 1
        if not self._left:
            under_way = [p for runner in self.engine._runners.values() for p in runner.attempts if p not in done]
            self._tell(boundary=done, run=str(run_id), under_way=under_way)
            os.kill(os.getpid(), signal.SIGKILL)


async def _carried(request: dict[str, Any], tell: _Told) -> None:
    from flowbook.store.postgres import PostgresStore

    key = None if request["key"] is None else bytes.fromhex(request["key"])
    options, run_id = Options(request["namespace"], key), UUID(request["run"])
    async with _Victim(PostgresStore(request["url"]), options, tell, request["after"]) as app:
        row = await app.store.run(run_id)
        graph = rebuild(await app.definition(row), key=key)
        tell(rebuilt=graph.fingerprint)
        await app.register(graph)
        if row.status.over:
            tell(status=row.status.value)
            return
        loop = asyncio.get_running_loop()
        deadline = loop.time() + request["seconds"]
        await app.resume(run_id)
        while not app.engine.carries(run_id) and loop.time() < deadline:
            row = await app.store.run(run_id)  # one that was over in no time is carried no more
            if row.status.over or row.status is Status.WAITING:
                break
            await asyncio.sleep(LOOK)
            await app.resume(run_id)
        tell(resumed=True)
        while loop.time() < deadline:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(app.engine.over(run_id), LOOK)
            row = await app.store.run(run_id)
            if row.status.over:
                break
            if row.status is Status.WAITING and not app.engine.carries(run_id):
                due = (row.due_at - await app.store.now()).total_seconds()
                if due > deadline - loop.time() + AHEAD:
                    tell(parked=row.current)
                    return
        tell(status=row.status.value)


def _live(request: dict[str, Any], tell: _Told) -> None:
    try:
        asyncio.run(_carried(request, tell))
    except FlowbookError as error:
        tell(refused=error.message, code=error.code)
    except BaseException as error:
        tell(refused=f"{type(error).__name__}: {error}", code="")


def main() -> None:
    """Be asked for victims until there is nobody who asks."""
    handle = os.dup(1)
    os.dup2(2, 1)  # what steps print is no answer
    tell = _Told(handle)
    import flowbook.store.postgres  # noqa: F401 - loaded once, for all victims

    for line in sys.stdin.buffer:
        request = json.loads(line)
        sys.stdout.flush()
        child = os.fork()
        if not child:
            os.close(0)
            _live(request, tell)
            sys.stdout.flush()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        tell(ended=os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, pid=child)


if __name__ == "__main__":
    main()
