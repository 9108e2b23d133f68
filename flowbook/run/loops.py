"""Loops: what it means when something belongs to another event loop.

Owns: telling that error apart from a step's other errors, and explaining it. Refuses: mending it.
"""

from __future__ import annotations

import re

from flowbook.errors import WrongLoop

_SAID = re.compile(r"(attached to|bound to) a different (event )?loop")
"""asyncio's own words, of futures and of locks; every client that rests on them says the same."""


def explained(error: BaseException, step: str) -> BaseException:
    """The error itself, or `WrongLoop` in front of it."""
    inner: BaseException | None = error
    for _ in range(10):
        if inner is None:
            return error
        if isinstance(inner, RuntimeError) and _SAID.search(str(inner)):
            break
        inner = inner.__cause__ or inner.__context__
    else:
        return error
    told = WrongLoop(
        f"step {step!r} used something that belongs to another event loop. What is made in a cell (a client, a pool, a "
        f"lock) belongs to the notebook's loop, and steps run on flowbook's own. Make it in a resource, "
        f"`@fb.resource async def client(): ...`, and let the step ask for it by that name"
    )
    told.__cause__ = error
    return told
