"""Proofs and promotions, of a memory store.

Owns: the same answers as `proofs.py`. Refuses: durability.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from flowbook.ports import KeptProof
from flowbook.store.memory_database import MemoryDatabase


class MemoryProofs:
    """`flowbook.ports.ProofStore` over dictionaries."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def keep(self, namespace: str, flow: str, fingerprint: str, passed: bool, report: Mapping[str, Any]) -> None:
        """Keep the newest proof of a version."""
        kept = self._kept(namespace, flow, fingerprint)
        self._put(namespace, replace(kept, at=self._database.now(), passed=passed, report=dict(report)))

    async def of(self, namespace: str, flow: str) -> Sequence[KeptProof]:
        """What is known of the versions of a flow, newest first."""
        found = [p for (space, name, _), p in self._database.proofs.items() if (space, name) == (namespace, flow)]
        return sorted(found, key=lambda proof: proof.at, reverse=True)

    async def promote(self, namespace: str, flow: str, fingerprint: str, by: str) -> KeptProof:
        """Pin this version of a flow, from now on."""
        kept = self._kept(namespace, flow, fingerprint)
        self._put(namespace, replace(kept, promoted_at=self._database.now(), promoted_by=by))
        return self._kept(namespace, flow, fingerprint)

    async def clear(self, scratch: str) -> None:
        """Delete the runs and definitions of a namespace whose name begins with ``~``; of any other one nothing."""
        if not scratch.startswith("~"):
            return
        database = self._database
        database.runs = {k: v for k, v in database.runs.items() if v.row.namespace != scratch}
        database.definitions = {k: v for k, v in database.definitions.items() if k[0] != scratch}

    def _kept(self, namespace: str, flow: str, fingerprint: str) -> KeptProof:
        fresh = KeptProof(flow, fingerprint, self._database.now(), False, {}, None, "")
        found = self._database.proofs.get((namespace, flow, fingerprint))
        return fresh if found is None else found

    def _put(self, namespace: str, proof: KeptProof) -> None:
        self._database.proofs[namespace, proof.flow, proof.fingerprint] = proof
