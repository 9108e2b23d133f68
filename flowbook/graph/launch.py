"""The current app: how ``research.start(...)`` finds who runs it.

Owns: one slot per process, filled by the doors and by `flowbook.connect`, and the verbs of a flow. Refuses:
knowing what an app is, so that the declaring floor stays free of engine and database.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from flowbook.errors import NotConnected, UsageError


class Launched:
    """The verbs of a flow: each is handed to the app that is connected last."""

    def start(
        self,
        *,
        key: str | None = None,
        namespace: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        priority: int = 0,
        reuse: Any = None,
        **input: Any,
    ) -> Any:
        """Start a run with the current app and come back at once with its handle.

        ``reuse="last"``, or a run: one that reuses what `plan` calls reused, and makes the rest again. Raises
        `NotConnected` without an app, `KeyConflict` if ``key`` names a run with another input, `NothingToReuse`.
        """
        if reuse is not None:
            if key is not None or metadata or priority:
                raise UsageError("a run that reuses another one has that one's key-less place, metadata and priority")
            return current().reuse(self, input or None, against=reuse)
        return current().start(self, input, key=key, namespace=namespace, metadata=metadata or {}, priority=priority)

    def run(self, *, key: str | None = None, **input: Any) -> Any:
        """Start a run, show it where there is something to show it on, and return its result.

        The result is the state at the end, or what of it the flow declares as its outputs, or what a step halted the
        run with. Raises the step's own exception if the run fails.
        """
        return current().run(self, input, key=key)

    def plan(self, *, against: Any = None, **input: Any) -> Any:
        """What a run would do, relative to the last run with that input (or the run ``against``): a `Plan`.

        Of each node whether its results are reused, or why it runs again, and what that may take. Without inputs, with
        those of that run. Nothing is executed. A run that does no more than that: ``start(reuse="last")``.
        """
        return current().plan(self, input or None, against=against)

    def prove(
        self, *, signals: Mapping[str, Any] | None = None, ignore: tuple[str, ...] = (), timeout: float = 300.0,
        kills: int = 25, **input: Any,
    ) -> Any:  # fmt: skip
        """Build it from its stored source in clean processes and kill those at every step boundary: a `Proof`.

        Its steps really run, twice at least. ``signals``: name -> payload of what it waits for; ``ignore``: steps and
        state keys that may differ; ``timeout``: seconds for all of it; ``kills``: processes that are killed at most.
        """
        return current().prove(self, input, signals=signals, ignore=ignore, timeout=timeout, kills=kills)

    def promote(self, *, unproven: bool = False, by: str = "", cron: str | None = None, **schedule: Any) -> Any:
        """Pin this version: it is what is started by the flow's name from now on. Raises `NotProven`.

        ``cron="0 6 * * *"``, ``tz=``, ``input=`` and what else a schedule takes: hand it to the workers as well.
        """
        more = {**schedule, **({} if cron is None else {"cron": cron})}
        return current().promote(self, unproven=unproven, by=by, **more)


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

    def plan(self, graph: Any, input: Mapping[str, Any] | None, *, against: Any) -> Any: ...

    def reuse(self, graph: Any, input: Mapping[str, Any] | None, *, against: Any) -> Any: ...

    def prove(self, graph: Any, input: Mapping[str, Any], **options: Any) -> Any: ...

    def promote(self, graph: Any, **options: Any) -> Any: ...


_current: list[Launcher] = []


def current() -> Launcher:
    """The app that is connected last. Raises `NotConnected`."""
    if not _current:
        raise NotConnected(
            "no app is connected in this process: in a notebook run `%load_ext flowbook`, in a script use "
            "`with flowbook.connect() as app:`"
        )
    return _current[-1]


def connected() -> tuple[Launcher, ...]:
    """The apps that are connected, the last one last."""
    return tuple(_current)


def push(launcher: Launcher) -> None:
    """Make this the current app."""
    _current.append(launcher)


def pop(launcher: Launcher) -> None:
    """Take it away again, wherever it stands."""
    if launcher in _current:
        _current.remove(launcher)
