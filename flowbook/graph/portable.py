"""Portability: why a definition cannot be rebuilt from its stored source.

Owns: the texts that tell the user what stands in the way and what to do. Refuses: finding names (`source.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowbook.graph.changes import Defined, nested


def is_portable(described: Defined) -> bool:
    """True if another process can rebuild it from what is stored."""
    return not obstacles(described)


def obstacles(described: Defined) -> tuple[str, ...]:
    """Why it cannot be rebuilt, one text per obstacle; empty: it can."""
    sources = described.sources
    carried = sources.get("carried")
    if carried is not None:  # a pickle holds what source cannot, unless it could not be made
        return (f"it cannot be pickled: {carried['reason']}",) if "reason" in carried else ()
    found = [_without_source(key, entry) for key, entry in sources["callables"].items() if entry.get("reason")]
    found += [_altered(key, entry["altered"]) for key, entry in sources["callables"].items() if entry.get("altered")]
    found += [_data(entry, sources["callables"]) for entry in sources["data"]]
    found += [_missing(entry) for entry in sources["missing"]]
    for flow in nested(described).values():
        found += [f"sub-flow `{flow.spec['name']}`: {text}" for text in obstacles(flow)]
    return tuple(found)


def remarks(described: Defined) -> tuple[str, ...]:
    """What a portable definition still needs where it is rebuilt, besides installed packages."""
    return tuple(
        f"it imports `{name}`, a file of yours: that must be importable where a run is resumed"
        for name in described.sources.get("local_modules") or ()
    )


def _without_source(key: str, entry: Mapping[str, Any]) -> str:
    return f"`{key}` has no source to store: {entry['reason']}"


def _altered(key: str, names: list[str]) -> str:
    if names == ["registry"]:
        return f"`{key}` has implementations that were registered with it, which are not stored: write an if or a dict"
    return f"`{key}` was changed after its definition ({_names(names)}): put that into the definition itself"


def _data(entry: Mapping[str, Any], callables: Mapping[str, Any]) -> str:
    name, readers = entry["name"], _names(entry["read_by"])
    if entry["why"]:
        return f"{readers} reads `{name}` ({entry['type']}): {entry['why']}"
    modules = {callables.get(r, {}).get("module") for r in entry["read_by"]}
    what = "notebook variable" if modules == {"__main__"} else "variable"
    advice = f"pass it as input or `%%flow --freeze {name}`"
    if not entry["storable"]:  # a logger, a client, a compiled pattern: it can be neither
        advice = "make it inside the step, or in a function that the step calls"
    return f"{readers} reads {what} `{name}` ({entry['type']}): {advice}"


def _missing(entry: Mapping[str, Any]) -> str:
    return f"{_names(entry['read_by'])} reads `{entry['name']}`, which nothing defines: define it before the flow"


def _names(keys: list[str]) -> str:
    return " and ".join(f"`{k}`" for k in keys)
