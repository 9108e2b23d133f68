"""Identifiers of runs and workers.

Owns: making UUIDs of version 7 (RFC 9562: time-ordered, so that a b-tree grows at its right edge), the short form
people type, and the form that steps and handles get. Refuses: paths inside a run (`plan/paths.py`).
"""

from __future__ import annotations

import os
import time
from uuid import UUID

SHORT = 8
"""Characters of an id's tail that are shown to people: a v7 id begins with the time, so its tail tells runs apart."""


def new_id() -> UUID:
    """A new UUIDv7: 48 bits of milliseconds since 1970, then 74 random bits."""
    millis = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    return version7((millis & (1 << 48) - 1) << 80 | random)


def version7(value: int) -> UUID:
    """The UUIDv7 with these 128 bits, but for the six that say what it is."""
    value = value & ~(0xF << 76) | 7 << 76
    return UUID(int=value & ~(0x3 << 62) | 2 << 62)


def plain(run_id: UUID) -> UUID:
    """An id for people's hands: a driver's subclass of UUID, quick to hash, is nothing that a step could return."""
    return run_id if type(run_id) is UUID else UUID(int=run_id.int)


def short(run_id: UUID) -> str:
    """The form shown in tables and cells. `RunNotFound` if it is typed back and names more than one run."""
    return run_id.hex[-SHORT:]
