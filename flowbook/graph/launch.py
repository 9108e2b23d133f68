"""The current app: how ``research.start(...)`` finds who runs it.

Owns: one slot per process, filled by the doors and by `flowbook.connect`. Refuses: knowing what an app is, so that the
declaring floor stays free of engine and database.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from flowbook.errors import NotConnected


class Launcher(Protocol):
    """What can start runs."""

    def start(
        self,
        graph: Any,
        input: Mapping[str, Any],
        *,
        key: str | None,
        namespace: str | None,
        metadata: Mapping[str, Any],
        priority: int,
    ) -> Any: ...

    def runs(self, *, flow: str | None = None, status: str | None = None, limit: int = 50) -> Any: ...

    def run(self, graph: Any, input: Mapping[str, Any], *, key: str | None) -> Any: ...


_current: list[Launcher] = []


def current() -> Launcher:
    """The app that is connected last. Raises `NotConnected`."""
    if not _current:
        raise NotConnected(
            "no app is connected in this process: in a notebook run `%load_ext flowbook`, in a script use "
            "`with flowbook.connect() as app:`"
        )
    return _current[-1]


def push(launcher: Launcher) -> None:
    """Make this the current app."""
    _current.append(launcher)


def pop(launcher: Launcher) -> None:
    """Take it away again, wherever it stands."""
    if launcher in _current:
        _current.remove(launcher)
