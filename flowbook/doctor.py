"""The doctor: is everything here that flowbook needs, and what to do about what is not.

Owns: the list of things that are looked at, on this machine and in the database. Refuses: mending anything.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import stat
import sysconfig
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from flowbook.graph.portable import obstacles
from flowbook.graph.sign import verify
from flowbook.ports import Definition, Finding
from flowbook.store.checkup import examine, unfinished


async def diagnose(url: str, home: Path) -> AsyncIterator[Finding]:
    """All that there is to say, one thing after the other."""
    async for finding in examine(url):
        yield finding
    key = _key(home)
    yield key
    yield await _code(url, home if key.state != "fail" else None)
    yield _graphviz()
    yield _jupyter()


def _key(home: Path) -> Finding:
    path = home / "key"
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return Finding("key", "ok", f"there is none in {home} yet; the first connection makes it", "")
    except OSError as error:
        return Finding(
            "key", "fail", f"{path} cannot be read: {error.strerror}", "give it to the user who runs flowbook"
        )
    if mode & 0o077:
        told = f"{path} can be read by others (mode {mode:o}): who has it can have this user run code"
        return Finding("key", "fail", told, f"chmod 600 {path}, and make a new one if somebody may have read it")
    return Finding("key", "ok", f"{path} is this user's alone", "")


async def _code(url: str, home: Path | None) -> Finding:
    lost: list[str] = []
    found = await unfinished(url)
    key = (home / "key").read_bytes() if home is not None and (home / "key").is_file() else None
    for record in found:
        definition = _definition(record)
        d = definition
        signed = key is not None and d.signature and verify(
            key, d.namespace, d.flow, d.fingerprint, d.spec, d.sources, d.signature
        )  # fmt: skip
        why = obstacles(definition) or (() if signed else ("it is not signed with this user's key",))
        if why:
            lost.append(f"{d.flow} (version {d.version}): {why[0]}")
    if lost:
        told = f"{len(lost)} flows of unfinished runs cannot be built from their source: {'; '.join(lost[:3])}"
        return Finding(
            "code", "warn", told, "workers need the modules that declare them: `flowbook worker --module ...`"
        )
    return Finding("code", "ok", f"{len(found)} flows have unfinished runs, all can be built from their source", "")


def _definition(record: dict[str, Any]) -> Definition:
    spec, sources = (json.loads(v) if isinstance(v, str) else v for v in (record["spec"], record["sources"]))
    return Definition(
        record["namespace"], record["flow"], record["fingerprint"], spec, sources, record["signature"],
        record["version"],
    )  # fmt: skip


def _graphviz() -> Finding:
    pure = Path(sysconfig.get_path("scripts")) / "graphviz-pure"
    if shutil.which("dot"):
        return Finding("pictures", "ok", "Graphviz is installed", "")
    if pure.exists():
        return Finding("pictures", "ok", "graphviz-pure draws them", "")
    return Finding(
        "pictures", "warn", "there is no Graphviz: topologies are shown as text", "pip install graphviz-pure"
    )


def _jupyter() -> Finding:
    if importlib.util.find_spec("jupyter_server") is None:
        return Finding("jupyter", "ok", "there is no Jupyter server here", "")
    from jupyter_core.paths import jupyter_config_path  # only where Jupyter is

    places = [Path(folder) / "jupyter_server_config.d" / "flowbook.json" for folder in jupyter_config_path()]
    if any(place.is_file() for place in places):
        return Finding("jupyter", "ok", "the server extension is enabled", "")
    told = "the server extension is not enabled: buttons may not be heard while a cell runs"
    return Finding("jupyter", "warn", told, "jupyter server extension enable flowbook.server")
