"""Redaction: what a kernel tells its front end holds no secret's value, so no saved notebook does.

Owns: looking through the kernel's messages on their way: prints, displays, results, errors, widgets. Refuses: what the
user types: a key that stands in a cell's source stays there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flowbook import secret


def install(ip: Any) -> Callable[[], None]:
    """Begin to look; what ends it again. Does nothing where there is no kernel."""
    session = getattr(getattr(ip, "kernel", None), "session", None)
    if session is None:
        return lambda: None
    behind = session.send

    def send(stream: Any, message: Any, content: Any = None, *args: Any, **more: Any) -> Any:
        if secret.known:
            content = secret.redacted(content)
            if isinstance(message, dict) and "content" in message:
                message = {**message, "content": secret.redacted(message["content"])}
        return behind(stream, message, content, *args, **more)

    session.send = send

    def undo() -> None:
        if session.__dict__.get("send") is send:
            del session.send

    return undo
