"""Proofs: what came of killing a flow at each of its step boundaries.

Owns: the records. Refuses: proving (`flowbook/proving.py`) and drawing (`show/proved.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ProvenStep:
    """One step of the run that was killed."""

    path: str
    killed: bool
    """True: the process was killed as soon as this step's outcome was durable."""
    resumed: float | None
    """Seconds until another process had the run; None: the process was not killed here."""
    same: bool | None
    """True: its result is that of the run that nobody disturbed; None: it has none, or there is no such run."""
    begun: int
    """How often its body began; 1: its effects happened once."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What came of it."""

    flow: str
    fingerprint: str
    version: int
    spec: Mapping[str, Any]
    passed: bool
    why: tuple[str, ...]
    """What is wrong, one text per thing; empty where it has passed."""
    steps: tuple[ProvenStep, ...]
    """In the order in which they finished."""
    kills: int
    """How many processes were killed."""
    spared: int
    """Step boundaries at which the process was not killed, as there were more than the limit."""
    seconds: float
    """How long all of it took."""
    remarks: tuple[str, ...] = ()
    """What is good to know, and no fault."""

    @property
    def repeated(self) -> tuple[ProvenStep, ...]:
        """Steps whose body began more than once."""
        return tuple(s for s in self.steps if s.begun > 1)

    def __repr__(self) -> str:
        return f"<proof {self.flow} v{self.version}: {'passed' if self.passed else 'not passed'}, {self.kills} kills>"


def proof_record(proof: Proof) -> dict[str, Any]:
    """A proof as JSON."""
    return {
        "flow": proof.flow,
        "fingerprint": proof.fingerprint,
        "version": proof.version,
        "passed": proof.passed,
        "why": list(proof.why),
        "kills": proof.kills,
        "spared": proof.spared,
        "seconds": round(proof.seconds, 3),
        "remarks": list(proof.remarks),
        "steps": [
            {"path": s.path, "killed": s.killed, "resumed": s.resumed, "same": s.same, "begun": s.begun}
            for s in proof.steps
        ],
    }
