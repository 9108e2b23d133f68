"""Naming: flows by their names.

Owns: finding the code of a flow whose name somebody typed, registered here or rebuilt from what is stored. Refuses:
judging whether stored source may run (`graph/rebuild.py`: signed with this user's key, or not at all).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowbook import defining
from flowbook.errors import CodeMissing, NotPortable, SignatureRefused
from flowbook.graph.flow import Graph
from flowbook.graph.rebuild import rebuild
from flowbook.ports import Definition

if TYPE_CHECKING:
    from flowbook.app import App
    from flowbook.handle import Run


async def named(app: App, flow: str) -> Graph:
    """The code of a flow by its name: as this namespace defines it (`defining.py`), else as it is registered here, else
    the newest that is stored, rebuilt.

    Raises `CodeMissing`, `NotDefined` for a name that was taken back, `SpecRefused` for a definition that names what is
    not registered here.
    """
    graph = await defining.graph_named(app, flow) or app.engine.newest(flow)
    if graph is not None:
        return graph
    stored = await app.store.definitions(app.options.namespace, flow)
    if not stored:
        raise CodeMissing(
            f"no flow {flow!r} is stored in namespace {app.options.namespace!r}: `flowbook flows` lists those that "
            f"are; `--module my.flows` brings one that was never run"
        )
    try:
        return rebuilt(app, stored[0])
    except (NotPortable, SignatureRefused) as error:
        raise CodeMissing(
            f"flow {flow!r} (version {stored[0].version}) is not registered here, and cannot be built from its stored "
            f"source: {error.message}. Name the module that declares it: `--module my.flows`"
        ) from error


def rebuilt(app: App, definition: Definition) -> Graph:
    """The graph of a stored definition, to be looked at or started. Raises `NotPortable`, `SignatureRefused`."""
    if definition.fingerprint not in app.rebuilt:
        app.rebuilt[definition.fingerprint] = rebuild(definition, key=app.options.key)
    return app.rebuilt[definition.fingerprint]


async def start_named(app: App, flow: str, input: dict[str, Any], **options: Any) -> Run:
    """Start a run of a flow by its name, for whichever worker claims it (``carry=True``: here). See `App.start`."""
    return await app.start(flow, input, **{"carry": False, **options})
