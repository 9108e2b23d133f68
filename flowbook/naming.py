"""Naming: flows by their names.

Owns: finding the code of a flow whose name somebody typed, registered here or rebuilt from what is stored. Refuses:
judging whether stored source may run (`graph/rebuild.py`: signed with this user's key, or not at all).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowbook import defining, preparing
from flowbook.errors import CodeMissing, NotPortable, SignatureRefused
from flowbook.graph.flow import Graph
from flowbook.graph.rebuild import rebuild
from flowbook.ports import Definition

if TYPE_CHECKING:
    from flowbook.app import App
    from flowbook.handle import Run


async def named(app: App, flow: str) -> Graph:
    """The code of a flow by its name: as this namespace defines it (`defining.py`), else the version that was promoted
    last, else as it is registered here, else the newest that is stored, rebuilt.

    Raises `CodeMissing`, `NotDefined` for a name that was taken back, `SpecRefused` for a definition that names what is
    not registered here.
    """
    graph, stored = await defining.graph_named(app, flow), await promoted(app, flow)
    if graph is None:
        graph = app.engine.newest(flow) if stored is None else app.engine.graph(stored.fingerprint)
    if graph is not None:
        return graph
    stored = stored or next(iter(await app.store.definitions(app.options.namespace, flow)), None)
    if stored is None:
        raise CodeMissing(
            f"no flow {flow!r} is stored in namespace {app.options.namespace!r}: `flowbook flows` lists those that "
            f"are; `--module my.flows` brings one that was never run"
        )
    try:
        return rebuilt(app, stored)
    except (NotPortable, SignatureRefused) as error:
        raise CodeMissing(
            f"flow {flow!r} (version {stored.version}) is not registered here, and cannot be built from its stored "
            f"source: {error.message}. Name the module that declares it: `--module my.flows`"
        ) from error


async def promoted(app: App, flow: str) -> Definition | None:
    """The version of a flow that was promoted last; None: none was."""
    kept = await preparing.pinned(app, flow)
    return None if kept is None else await app.store.definition(app.options.namespace, flow, kept.fingerprint)


def rebuilt(app: App, definition: Definition) -> Graph:
    """The graph of a stored definition, to be looked at or started. Raises `NotPortable`, `SignatureRefused`."""
    if definition.fingerprint not in app.rebuilt:
        app.rebuilt[definition.fingerprint] = rebuild(definition, key=app.options.key)
    return app.rebuilt[definition.fingerprint]


async def start_named(app: App, flow: str, input: dict[str, Any], **options: Any) -> Run:
    """Start a run of a flow by its name, for whichever worker claims it (``carry=True``: here). See `App.start`."""
    return await app.start(flow, input, **{"carry": False, **options})
