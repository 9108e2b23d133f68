"""Defining flows while the program runs: specs of tenants, by namespace and name.

Owns: `define`, `undefine`, `defined`, starting a flow by its name, the graph of a stored spec, and the audit of what is
stored against the code that is here. Refuses: reading specs (`graph/reading.py`) and any code but the templates that
were registered with this app: what a namespace has stored is data, and is never executed.

Every worker looks a name up in the database when it meets a run of it, so a definition is there for all of them the
moment it is stored. A version is never changed. Runs are pinned to the code that they began with, as all runs are; a
run of an older version is carried by whoever has the same templates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowbook.errors import DefinitionInUse, FlowbookError, NotDefined, SpecRefused
from flowbook.graph.flow import Graph
from flowbook.graph.names import checked
from flowbook.ports import Defined

if TYPE_CHECKING:
    from flowbook.app import App


@dataclass(frozen=True, slots=True)
class Audited:
    """A definition, and what the templates that are here make of it."""

    defined: Defined
    state: str
    """``ok``; ``changed``: other code under the same names; ``refused``: it cannot be read here."""
    about: str
    """What is missing, or to be done."""


async def define(
    app: App, name: str, spec: Mapping[str, Any] | str | Path, *, namespace: str | None = None, by: str = ""
) -> Defined:
    """Store a flow as data, for all workers of a namespace at once: ``app.define("invoice", spec, namespace="org-a")``.

    ``spec``: a dict, YAML, JSON or a path; it may name what was registered with `App.register`, or by ``fb.steps``.
    ``namespace``: None: this app's own. ``by``: who it was, for the audit. Another spec is another version; the same
    one again changes nothing. Nothing is executed.

    Raises `SpecRefused` with every mistake, and then nothing is stored.
    """
    from flowbook.graph.reading import from_spec, loaded  # pydantic: only who uses specs pays for it

    checked(name, "flow")
    data = {**loaded(spec), "name": name}
    graph = from_spec(data, app.steps)
    where = app.options.namespace if namespace is None else namespace
    return await app.store.specs.define(Defined(where, name, data, graph.fingerprint, by))


async def undefine(app: App, name: str, *, namespace: str | None = None) -> Defined:
    """Take a flow back: it is not started any more. What was defined stays readable, for the runs that it had.

    Raises `NotDefined`, and `DefinitionInUse` while runs of it are active: cancel them, or wait.
    """
    where, store = app.options.namespace if namespace is None else namespace, app.store.specs
    await _unused(app, where, name)
    ended_at = await store.end(where, name)
    if ended_at is None:
        raise NotDefined(f"no flow {name!r} is defined in namespace {where!r}; {await _there_are(app, where)}")
    try:
        await _unused(app, where, name)  # one may have been started meanwhile
    except DefinitionInUse:
        await store.restore(where, name, ended_at)
        raise
    return (await store.versions(where, name))[0]


async def defined(app: App, *, namespace: str | None = None) -> Sequence[Defined]:
    """The flows that are defined in a namespace (None: this app's own), the newest version of each."""
    return await app.store.specs.live(app.options.namespace if namespace is None else namespace)


async def graph_named(app: App, name: str) -> Graph | None:
    """The flow that is defined under a name, from the templates that are here; None: none ever was.

    Raises `NotDefined` for one that was taken back, `SpecRefused` if it names a template that is not registered here.
    """
    versions = await app.store.specs.versions(app.options.namespace, name)
    if not versions:
        return None
    if versions[0].ended_at is not None:
        where = app.options.namespace
        raise NotDefined(f"flow {name!r} of namespace {where!r} was taken back; {await _there_are(app, where)}")
    return graph_of(app, versions[0])


async def still(app: App, name: str) -> None:
    """Raises `NotDefined` if a name has been taken back; asked when a run of it has become durable."""
    versions = await app.store.specs.versions(app.options.namespace, name)
    if versions and versions[0].ended_at is not None:
        raise NotDefined(f"flow {name!r} of namespace {app.options.namespace!r} was taken back while it was started")


async def graph_for(app: App, flow: str, fingerprint: str) -> Graph | None:
    """The graph of some version of a name that has this very fingerprint here; None: none has."""
    for version in await app.store.specs.versions(app.options.namespace, flow):
        try:
            graph = graph_of(app, version)
        except SpecRefused:
            continue
        if graph.fingerprint == fingerprint:
            return graph
    return None


def graph_of(app: App, found: Defined) -> Graph:
    """The graph of a stored spec. Raises `SpecRefused`."""
    from flowbook.graph.reading import from_spec

    return from_spec(found.spec, app.steps, name=found.name)


async def audit(app: App, *, namespace: str | None = None) -> Sequence[Audited]:
    """Every definition of a namespace (None: of all) against the templates that are here."""
    return [_audited(app, each) for each in await app.store.specs.live(namespace)]


def _audited(app: App, found: Defined) -> Audited:
    try:
        graph = graph_of(app, found)
    except FlowbookError as error:
        return Audited(found, "refused", error.message)
    if graph.fingerprint != found.fingerprint:
        why = "its templates have other code now: new runs take it, and runs that began before need the old one"
        return Audited(found, "changed", why)
    return Audited(found, "ok", "")


async def _unused(app: App, namespace: str, name: str) -> None:
    active = await app.store.specs.active(namespace, name)
    if active:
        named = ", ".join(str(run_id) for run_id in active[:10])
        count = f"{len(active)} run{'s' if len(active) > 1 else ''}" if len(active) < 11 else "more than 10 runs"
        raise DefinitionInUse(
            f"flow {name!r} of namespace {namespace!r} has {count} under way ({named}): cancel them, or wait for them"
        )


async def _there_are(app: App, namespace: str) -> str:
    names = ", ".join(repr(each.name) for each in await app.store.specs.live(namespace))
    return f"those that are: {names}" if names else "none is"
