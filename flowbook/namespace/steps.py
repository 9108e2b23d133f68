"""Durable steps of a session: what a cell has assigned, kept by its code and its inputs.

Owns: what goes into a cell and what comes out of it (by analysis, or as it is told), whether the same went in before,
and why not. Refuses: running the cell, and showing anything (`jupyter/steps.py`).

Inputs are the variables that the cell reads before it binds them, and those that the notebook's functions which it
names read in turn. Outputs are what it binds, what it changes of its inputs, and what is new. What a cell reads from
files or the network is not seen: ``--always`` runs it each time.
"""

from __future__ import annotations

import ast
import hmac
import json
import time
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from flowbook.namespace.ambient import Ambient
from flowbook.namespace.fingerprint import fingerprint, names_in
from flowbook.namespace.groups import pickled, plain
from flowbook.namespace.keeper import users_names
from flowbook.namespace.manifest import Group, Lost, Manifest, sign, verify
from flowbook.namespace.pickling import dump
from flowbook.namespace.pieces import Cutter
from flowbook.namespace.reach import reach
from flowbook.namespace.reads import reads
from flowbook.namespace.restoring import Restoring
from flowbook.namespace.saving import Saver
from flowbook.namespace.sources import sources_of
from flowbook.namespace.vault import Vault, digest

_CONTEXT: Final = b"flowbook step\0"
_UNKNOWN: Final = "?"
"""The digest of an input that cannot be compared."""


class Notes(Protocol):
    """Small texts by key; the last one that was written is the one that is there."""

    def note(self, key: bytes, text: bytes) -> None:
        """Write one."""
        ...

    def noted(self, key: bytes) -> bytes | None:
        """Read one."""
        ...


class StepVault(Vault, Notes, Protocol):
    """Where steps are kept."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a step's first line and its body say."""

    name: str
    source: str
    """The body as Python."""
    inputs: tuple[str, ...] | None = None
    """``--in``; None: found by analysis."""
    outputs: tuple[str, ...] | None = None
    always: bool = False


@dataclass(slots=True)
class Begun:
    """A step that is about to run."""

    call: Call
    code: str
    inputs: dict[str, str]
    """Variable -> digest."""
    why: str
    """Why it runs, for people; empty: it never ran before."""
    names: frozenset[str]
    """Variables that were there."""
    around: dict[str, Any] = field(default_factory=dict)
    since: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class Restored:
    """A step that need not run."""

    name: str
    at: datetime
    """When it ran, UTC."""
    seconds: float
    """How long it took then."""
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """A step that has run."""

    name: str
    seconds: float
    why: str
    outputs: tuple[str, ...] = ()
    size: int = 0
    """Bytes of what was kept."""
    not_kept: str = ""
    """Why nothing was kept."""


class Steps:
    """The steps of one session (a notebook), in one vault."""

    def __init__(self, namespace: dict[str, Any], vault: StepVault, key: bytes, session: str) -> None:
        self.namespace, self.vault, self._key, self._session = namespace, vault, key, session
        self._cutter = Cutter()
        self._saver = Saver(vault)
        self._ambient = Ambient()

    def arrive(self, call: Call) -> Begun | Restored:
        """Restore what the step gave for the same code and the same inputs, or say why it has to run."""
        code = digest(ast.dump(ast.parse(call.source)).encode()).hex()
        inputs = {name: self._digest(name) for name in self._inputs(call)}
        begun = Begun(call, code, inputs, "", frozenset(users_names(self.namespace)))
        exact = self._record(self._exact(begun))
        if call.always:
            begun.why = "--always"
        elif exact is None:
            begun.why = _differs(self._record(self._last(call)), begun)
        elif unknown := [n for n, d in inputs.items() if d == _UNKNOWN]:
            begun.why = f"input {_ticked(unknown)} cannot be compared; --in names those that matter"
        else:
            try:
                return self._restore(call, exact)
            except Exception as error:
                begun.why = f"what was kept cannot be restored: {error}"
        begun.around = self._ambient.capture()
        begun.since = time.monotonic()
        return begun

    def finish(self, begun: Begun) -> Kept:
        """The step has run: keep what it gave, durably once the saver has written it."""
        seconds = time.monotonic() - begun.since
        call = begun.call
        self._cutter = Cutter()  # what was in the vault an hour ago may be gone; the saver asks
        outputs = self._outputs(begun)
        manifest, problem = self._manifest(begun, outputs)
        if manifest is None:
            return Kept(call.name, seconds, begun.why, not_kept=problem)
        signed = sign(manifest, self._key)
        gone = sorted(n for n in begun.names if n not in self.namespace)
        record = {
            "name": call.name, "code": begun.code, "inputs": begun.inputs, "outputs": outputs, "gone": gone,
            "at": datetime.now(UTC).isoformat(), "seconds": seconds, "manifest": signed,
        }  # fmt: skip
        self._saver.save(self._cutter.take(), signed)
        try:
            self._saver.wait()
        except Exception as error:
            self._saver = Saver(self.vault)
            return Kept(call.name, seconds, begun.why, not_kept=f"the database did not take it: {error}")
        text = json.dumps({**record, "signature": self._signature(record)}).encode()
        self.vault.note(self._exact(begun), text)
        self.vault.note(self._last(call), text)
        size = sum(g.size for g in manifest.groups)
        return Kept(call.name, seconds, begun.why, tuple(outputs), size)

    # -- records ------------------------------------------------------------------------------------------------------

    def _exact(self, begun: Begun) -> bytes:
        call = begun.call
        return digest(repr((self._session, begun.code, sorted(begun.inputs.items()), call.outputs)).encode())

    def _last(self, call: Call) -> bytes:
        return digest(repr((self._session, "last", call.name)).encode())

    def _record(self, key: bytes) -> dict[str, Any] | None:
        """A record that this user has signed; None: there is none."""
        text = self.vault.noted(key)
        if text is None:
            return None
        record: dict[str, Any] = json.loads(text)
        signature = record.pop("signature", "")
        return record if hmac.compare_digest(str(signature).encode(), self._signature(record).encode()) else None

    def _signature(self, record: Mapping[str, Any]) -> str:
        body = json.dumps(record, sort_keys=True, separators=(",", ":")).encode()
        return hmac.new(self._key, _CONTEXT + body, "sha256").hexdigest()

    def _restore(self, call: Call, record: Mapping[str, Any]) -> Restored:
        manifest = verify(record["manifest"], self._key)
        report = Restoring(manifest, self.vault, self.namespace).begin(lazily=False)
        if report.lost:
            raise ValueError(str(report.lost[0]))
        for name in record["gone"]:
            self.namespace.pop(name, None)
        at = datetime.fromisoformat(record["at"])
        return Restored(call.name, at, float(record["seconds"]), tuple(record["outputs"]))

    # -- what goes in and comes out -----------------------------------------------------------------------------------

    def _inputs(self, call: Call) -> list[str]:
        """Variables that go in, those included that the notebook's functions read."""
        namespace = self.namespace
        if call.inputs is not None:
            return sorted(call.inputs)
        found: set[str] = set()
        todo = [n for n in reads(call.source) if n in namespace]
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo += names_in(namespace[name], namespace)
        ours = set(users_names(namespace))
        return sorted(found & ours)

    def _digest(self, name: str) -> str:
        if name not in self.namespace:
            return "absent"
        try:
            return fingerprint(self.namespace[name], self.namespace)
        except Exception:
            return _UNKNOWN

    def _outputs(self, begun: Begun) -> list[str]:
        call, namespace = begun.call, self.namespace
        if call.outputs is not None:
            return [n for n in call.outputs if n in namespace]
        bound = reach(call.source).stored
        now = users_names(namespace)
        changed = {n for n, d in begun.inputs.items() if n in namespace and self._digest(n) != d and d != _UNKNOWN}
        return [n for n in now if n in bound or n in changed or n not in begun.names]

    def _manifest(self, begun: Begun, outputs: Sequence[str]) -> tuple[Manifest | None, str]:
        """What came out, and what shares with it; or why that cannot be kept."""
        namespace = self.namespace
        missing = [n for n in begun.call.outputs or () if n not in namespace]
        if missing:
            return None, f"--out names {_ticked(missing)}, which the cell did not bind"
        modules = {n: namespace[n].__name__ for n in outputs if isinstance(namespace[n], types.ModuleType)}
        values = [n for n in outputs if n not in modules]
        others = [n for n in begun.inputs if n in namespace and n not in outputs and n not in modules]
        others = [n for n in others if not isinstance(namespace[n], types.ModuleType)]
        found, lost = pickled([*values, *others], namespace)
        wrong = [Lost(n, *lost[n]) for n in values if n in lost]
        if wrong:
            kind, reason = wrong[0].type, wrong[0].reason
            return None, f"{_ticked([wrong[0].name])} ({kind}) cannot be kept: {reason}. --out names what to keep"
        groups = []
        for it in found:
            inside = [n for n in it.names if n in values]
            if not inside:
                continue
            made = it.it
            if len(inside) < len(it.names):
                if not all(plain(namespace[n]) for n in it.names):
                    outside = _ticked([n for n in it.names if n not in values])
                    shares = f"{_ticked(inside)} shares what it is made of with {outside}"
                    return None, f"{shares}, which the cell has not made"
                made = dump({n: namespace[n] for n in inside}, namespace, {})  # small texts and numbers share nothing
            stream, buffers = self._cutter.cut(made.stream, inline=True), tuple(map(self._cutter.cut, made.buffers))
            groups.append(Group(tuple(inside), stream, buffers, tuple(sorted(made.needs))))
        changed = {k: v for k, v in self._ambient.capture().items() if repr(begun.around.get(k)) != repr(v)}
        around = self._cutter.cut(dump(changed, namespace, {}).stream, inline=True)
        texts = sources_of([namespace[n] for n in values], namespace)
        sources = {f: self._cutter.cut(memoryview(t.encode()), inline=True) for f, t in texts.items()}
        return Manifest(tuple(groups), modules, reach(begun.call.source).imports, around, sources), ""


def _differs(last: Mapping[str, Any] | None, begun: Begun) -> str:
    """Why a step has to run again, beside what it was when it ran last."""
    if last is None:
        return ""
    if last["code"] != begun.code:
        return "its code changed"
    before: Mapping[str, str] = last["inputs"]
    changed = [n for n, d in begun.inputs.items() if n in before and before[n] != d]
    new = [n for n in begun.inputs if n not in before]
    gone = [n for n in before if n not in begun.inputs]
    said = [f"{'inputs' if len(n) > 1 else 'input'} {_ticked(n)} {word}"
            for n, word in ((changed, "changed"), (new, "is new" if len(new) == 1 else "are new"),
                            (gone, "is gone" if len(gone) == 1 else "are gone")) if n]  # fmt: skip
    return "; ".join(said) or "--out changed"


def _ticked(names: Sequence[str]) -> str:
    return ", ".join(f"`{n}`" for n in names)
