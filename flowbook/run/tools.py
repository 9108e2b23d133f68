"""Tools: what the runners of a process have in common.

Owns: `Tools`. Refuses: making them (`app.py` puts them together) and using them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from flowbook.capture.collector import Collector
from flowbook.capture.figures import Studio
from flowbook.clock import DICE, Clock
from flowbook.errors import NotConnected
from flowbook.graph.flow import Graph
from flowbook.plan.commands import StartStep
from flowbook.plan.records import Run
from flowbook.ports import Definition, Executor, NewRun, RunRow, Sink, Store
from flowbook.run.eager import Stages
from flowbook.run.gates import Gates
from flowbook.run.latch import Ticker
from flowbook.run.resources import Resources
from flowbook.run.streams import Streams
from flowbook.run.ward import Ward


async def _nobody(_: object) -> Any:
    raise NotConnected("these tools belong to no engine, so nothing can be started with them")


@dataclass(frozen=True, slots=True)
class Tools:
    """What every runner of a process is made with."""

    store: Store
    clock: Clock
    threads: Executor
    processes: Executor
    sink: Sink | None = None
    key: bytes | None = None
    """Signs and verifies pickles."""
    namespace: str = "default"
    ticker: Ticker = field(default_factory=Ticker)
    stages: Stages = field(default_factory=Stages)
    ward: Ward = field(default_factory=Ward)
    gates: Gates = field(default_factory=Gates)
    resources: Resources = field(default_factory=Resources)
    """What steps have asked for; closed with the app."""
    around: list[Callable[[RunRow, StartStep], AbstractContextManager[Any]]] = field(default_factory=list)
    """What bodies run within: none, or one (`flowbook.telemetry`), of the runs that are loaded from then on."""
    always_suspend: bool = False
    """Drop the record after every step and fold it anew from the store: slow, and must change nothing."""
    roll: Callable[[], float] = field(default=DICE.random)
    define: Callable[[Graph], Awaitable[Definition]] = _nobody
    """Know a flow's code here and store its definition (the app's)."""
    start: Callable[[NewRun], Awaitable[tuple[RunRow, bool]]] = _nobody
    """Start a child, and carry it here if it may be; its row, and whether it began just now (the engine's)."""
    adopt: Callable[[RunRow], Awaitable[None]] = _nobody
    """See to it that a child is carried, here if nobody else does (the engine's)."""
    ended: Callable[[UUID], Run | None] = lambda _: None
    """The record of a run that has ended here lately (the engine's)."""
    outputs: Collector | None = None
    """What steps print and display; None: it is not kept (the engine's)."""
    studio: Studio = field(default_factory=Studio)
    """Where steps plot, one at a time."""
    graph: Callable[[str], Graph | None] = lambda _: None
    """The registered code behind a fingerprint (the engine's)."""
    streams: Streams = field(init=False)
    """What bodies say while they run."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "streams", Streams(self.store))
