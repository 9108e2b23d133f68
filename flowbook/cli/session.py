"""A session: one connection for one command.

Owns: the door's view of the environment, finding the run that was typed, and running a coroutine to its end. Refuses:
everything the app does.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from flowbook.errors import RunNotFound

if TYPE_CHECKING:
    from flowbook.app import App
    from flowbook.connecting import Connection
    from flowbook.ports import RunRow

T = TypeVar("T")


def connection(url: str | None) -> Connection:
    """The connection that was asked for; not open yet. Raises `BadDatabaseUrl`."""
    from flowbook.connecting import connect

    return connect(url, env=os.environ)


def with_app(url: str | None, body: Callable[[App], Awaitable[T]]) -> T:
    """Connect, do one thing, disconnect."""
    import asyncio  # 40 ms that `--help` need not wait for

    async def session() -> T:
        async with connection(url) as app:
            return await body(app)

    return asyncio.run(session())


async def find(app: App, text: str) -> RunRow:
    """The run that was typed. Raises `RunNotFound`."""
    if text == "last":
        newest = await app.runs(limit=1)
        if not newest:
            raise RunNotFound("there is no run yet, so there is no last one")
        return newest[0]
    return await app.store.find(text)
