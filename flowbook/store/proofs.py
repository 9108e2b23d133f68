"""Proofs and promotions in Postgres.

Owns: keeping them, and clearing the namespace that a proof ran in. Refuses: proving (`flowbook/proving.py`). Every
statement here may be sent twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from flowbook.ports import KeptProof
from flowbook.store import proof_statements as sql
from flowbook.store.driver import Record
from flowbook.store.retrying import Line


class Proofs:
    """`flowbook.ports.ProofStore` over one connection."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def keep(self, namespace: str, flow: str, fingerprint: str, passed: bool, report: Mapping[str, Any]) -> None:
        """Keep the newest proof of a version."""
        await self._line.fetch(sql.KEEP_PROOF, namespace, flow, fingerprint, passed, json.dumps(dict(report)))

    async def of(self, namespace: str, flow: str) -> Sequence[KeptProof]:
        """What is known of the versions of a flow, newest first."""
        return [_proof(record) for record in await self._line.fetch(sql.PROOFS, namespace, flow)]

    async def promote(self, namespace: str, flow: str, fingerprint: str, by: str) -> KeptProof:
        """Pin this version of a flow, from now on."""
        return _proof((await self._line.fetch(sql.PROMOTE, namespace, flow, fingerprint, by))[0])

    async def clear(self, scratch: str) -> None:
        """Delete the runs and definitions of a namespace whose name begins with ``~``; of any other one nothing."""
        await self._line.fetch(sql.CLEAR_SCRATCH, scratch)


def _proof(record: Record) -> KeptProof:
    report = record["report"]
    return KeptProof(
        record["flow"], record["fingerprint"], record["at"], record["passed"],
        json.loads(report) if isinstance(report, str) else report, record["promoted_at"], record["promoted_by"],
    )  # fmt: skip
