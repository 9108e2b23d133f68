"""Manifests: what a checkpoint consists of, signed.

Owns: the shape of a manifest, its signature, and verifying it before a byte of its pickles is loaded. Refuses: pickles
and pieces. A manifest is plain JSON; it names its pieces by their blake3 digests, so the signature covers all of them.
"""

from __future__ import annotations

import hmac
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from flowbook.errors import CheckpointRefused
from flowbook.namespace.pieces import Cut

FORMAT: Final = 1
_CONTEXT: Final = b"flowbook checkpoint\0"
"""Apart from what else is signed with the same key: one never passes for the other."""


@dataclass(frozen=True, slots=True)
class Group:
    """Variables that are kept together, because they share something that both can change."""

    names: tuple[str, ...]
    stream: Cut
    buffers: tuple[Cut, ...] = ()
    needs: tuple[str, ...] = ()
    """Classes and functions of the notebook that it names."""
    settled: bool = False
    """Nobody but the namespace holds these, so only code that names them can change them."""

    @property
    def size(self) -> int:
        """Bytes, the buffers included."""
        return self.stream.size + sum(b.size for b in self.buffers)

    @property
    def digests(self) -> list[bytes]:
        """Of all its pieces."""
        return [d for cut in (self.stream, *self.buffers) for d in cut.digests]

    def to_json(self) -> dict[str, Any]:
        """For the manifest."""
        it: dict[str, Any] = {"names": list(self.names), "stream": self.stream.to_json()}
        if self.buffers:
            it["buffers"] = [b.to_json() for b in self.buffers]
        if self.needs:
            it["needs"] = list(self.needs)
        if self.settled:
            it["settled"] = True
        return it

    @classmethod
    def from_json(cls, it: Mapping[str, Any]) -> Group:
        """From the manifest."""
        return cls(
            tuple(it["names"]), Cut.from_json(it["stream"]), tuple(map(Cut.from_json, it.get("buffers", ()))),
            tuple(it.get("needs", ())), bool(it.get("settled")),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Lost:
    """A variable that the checkpoint does not have."""

    name: str
    type: str
    reason: str
    cell: str | None = None
    """The cell that defines it."""

    def __str__(self) -> str:
        where = f", defined in cell {self.cell}" if self.cell is not None else ""
        return f"{self.name} ({self.type}{where}): {self.reason}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """A checkpoint, without its pieces."""

    groups: tuple[Group, ...] = ()
    modules: Mapping[str, str] = field(default_factory=dict)
    """Variable -> the module that it is."""
    imports: tuple[str, ...] = ()
    """Modules that cells have imported, in order: a submodule is not imported by importing what it is in."""
    ambient: Cut | None = None
    """Working directory, environment, random states and settings of libraries."""
    sources: Mapping[str, Cut] = field(default_factory=dict)
    """File name that a function's code has -> the source of its cell."""
    lost: tuple[Lost, ...] = ()
    captured: tuple[str, ...] = ()
    """Variables that some function ever named."""
    defined: Mapping[str, str] = field(default_factory=dict)
    """Variable -> the cell that bound it last."""

    @property
    def digests(self) -> set[bytes]:
        """Of all pieces that this checkpoint needs."""
        cuts = [*self.sources.values(), *([self.ambient] if self.ambient else [])]
        return {d for g in self.groups for d in g.digests} | {d for cut in cuts for d in cut.digests}

    def to_json(self) -> dict[str, Any]:
        """As JSON, unsigned."""
        return {
            "format": FORMAT,
            "python": list(sys.version_info[:2]),
            "groups": [g.to_json() for g in self.groups],
            "modules": dict(self.modules),
            "imports": list(self.imports),
            "ambient": self.ambient.to_json() if self.ambient else None,
            "sources": {name: cut.to_json() for name, cut in self.sources.items()},
            "lost": [{"name": x.name, "type": x.type, "reason": x.reason, "cell": x.cell} for x in self.lost],
            "captured": list(self.captured),
            "defined": dict(self.defined),
        }


def sign(manifest: Manifest, key: bytes) -> dict[str, Any]:
    """A manifest as JSON with its signature. Raises `CheckpointRefused` for an empty key."""
    it = manifest.to_json()
    return {**it, "signature": _signature(it, key)}


def verify(it: Mapping[str, Any], key: bytes) -> Manifest:
    """The manifest in a signed one; nothing of its pickles is looked at.

    Raises:
        CheckpointRefused: It is not signed, not with this key, or was changed since; or another release of Python or
            flowbook wrote it.
    """
    signature = it.get("signature")
    if not isinstance(signature, str):
        raise CheckpointRefused("this checkpoint is not signed, so nothing of it was loaded; run the cells again")
    body = {name: value for name, value in it.items() if name != "signature"}
    if not hmac.compare_digest(signature.encode("utf-8", "replace"), _signature(body, key).encode()):
        raise CheckpointRefused(
            "this checkpoint is not signed with your key, or was changed since, so nothing of it was loaded; use the "
            "FLOWBOOK_HOME that it was written with, or run the cells again"
        )
    if it.get("format") != FORMAT:
        raise CheckpointRefused(
            f"this checkpoint has the format {it.get('format')!r}, this release reads {FORMAT}; run the cells again"
        )
    if it["python"] != list(sys.version_info[:2]):
        wrote, reads = ".".join(map(str, it["python"])), ".".join(map(str, sys.version_info[:2]))
        raise CheckpointRefused(
            f"this checkpoint was written by Python {wrote} and cannot be loaded by {reads}; choose a kernel with "
            f"Python {wrote}, or run the cells again"
        )
    return Manifest(
        groups=tuple(Group.from_json(g) for g in it["groups"]), modules=it["modules"], imports=tuple(it["imports"]),
        ambient=None if it["ambient"] is None else Cut.from_json(it["ambient"]),
        sources={name: Cut.from_json(cut) for name, cut in it["sources"].items()},
        lost=tuple(Lost(x["name"], x["type"], x["reason"], x["cell"]) for x in it["lost"]),
        captured=tuple(it["captured"]), defined=it["defined"],
    )  # fmt: skip


def digests(it: Mapping[str, Any]) -> set[bytes]:
    """The digests of all pieces that a signed manifest needs, for garbage collection; nothing is verified."""
    cuts: list[Any] = [it.get("ambient"), *it.get("sources", {}).values()]
    for group in it.get("groups", ()):
        cuts += [group["stream"], *group.get("buffers", ())]
    return {bytes.fromhex(d) for cut in cuts if isinstance(cut, dict) for d in cut["pieces"]}


def listed(lost: Sequence[Lost]) -> str:
    """What was lost, one line each; empty if nothing was."""
    return "\n".join(map(str, lost))


def _signature(it: Mapping[str, Any], key: bytes) -> str:
    if not key:
        raise CheckpointRefused("the signing key is empty; `flowbook doctor` says where it should be")
    body = json.dumps(it, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
    return hmac.new(key, _CONTEXT + body, "sha256").hexdigest()
