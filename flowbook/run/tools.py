"""Tools: what the runners of a process have in common.

Owns: `Tools`. Refuses: making them (`app.py` puts them together) and using them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from flowbook.clock import Clock
from flowbook.ports import Executor, Sink, Store
from flowbook.run.latch import Ticker
from flowbook.run.resources import Resources
from flowbook.run.ward import Ward


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
    ward: Ward = field(default_factory=Ward)
    resources: Resources = field(default_factory=Resources)
    """What steps have asked for; closed with the app."""
    always_suspend: bool = False
    """Drop the record after every step and fold it anew from the store: slow, and must change nothing."""
    roll: Callable[[], float] = field(default=random.random)
