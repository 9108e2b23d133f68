"""Commands about flows that are defined as data: ``definitions``, ``define``, ``undefine``.

Owns: their arguments and what is said. Refuses: reading specs and the audit itself (`flowbook/defining.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowbook.cli.options import JsonOption, ModuleOption, UrlOption
from flowbook.cli.session import with_app

if TYPE_CHECKING:
    from flowbook.app import App
    from flowbook.ports import Defined

NamespaceOption = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Of this namespace alone.", show_default=False)
]


def add_to(app: typer.Typer) -> None:
    """Make these commands of ``app``."""
    app.command(epilog="Example:  flowbook definitions -m my.steps || echo 'some cannot be used with this code'")(
        definitions
    )
    app.command(epilog="Example:  flowbook define invoice invoice.yaml -m my.steps --namespace org-a")(define)
    app.command(epilog="Example:  flowbook undefine invoice --namespace org-a")(undefine)


def definitions(
    module: ModuleOption = None, namespace: NamespaceOption = None, url: UrlOption = None, json: JsonOption = False
) -> None:
    """Audit flows that are defined as data against the code that is here; exits with 5 if one cannot be used."""
    from flowbook.cli import output
    from flowbook.cli.exits import Exit

    async def body(app: App) -> list[dict[str, Any]]:
        _load(module)
        return [
            {**_record(a.defined), "state": a.state, "about": a.about} for a in await app.audit(namespace=namespace)
        ]

    found = with_app(url, body)
    if json:
        output.as_json(found)
    else:
        from flowbook.show.text import table_of

        heads = ("namespace", "flow", "version", "since", "by", "code", "about")
        rows = [
            (f["namespace"], f["name"], str(f["version"]), f["created_at"][:19], f["by"], f["state"], f["about"])
            for f in found
        ]
        output.tell(*table_of(heads, rows, "no flow is defined as data"))
    if any(f["state"] == "refused" for f in found):
        raise typer.Exit(Exit.CODE)


def define(
    name: Annotated[str, typer.Argument(help="What the flow is called.")],
    spec: Annotated[Path, typer.Argument(help="A file of YAML or JSON (docs/specs.md).")],
    module: ModuleOption = None,
    namespace: NamespaceOption = None,
    by: Annotated[str, typer.Option(help="Who does it, for the audit.")] = "",
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Define a flow from a file, for all workers of a namespace at once."""
    from flowbook.cli import output

    async def body(app: App) -> Defined:
        _load(module)
        return await app.define(name, spec, namespace=namespace, by=by)

    found = with_app(url, body)
    if json:
        output.as_json(_record(found))
        return
    output.say(f"flow {found.name!r} of namespace {found.namespace!r} is at version {found.version}")


def undefine(
    name: Annotated[str, typer.Argument(help="What the flow is called.")],
    namespace: NamespaceOption = None,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Take a flow back, if no run of it is active."""
    from flowbook.cli import output

    async def body(app: App) -> Defined:
        return await app.undefine(name, namespace=namespace)

    found = with_app(url, body)
    if json:
        output.as_json(_record(found))
        return
    output.say(f"flow {found.name!r} of namespace {found.namespace!r} is not defined any more")


def _load(modules: list[str] | None) -> None:
    """Import what registers steps."""
    from flowbook.cli.code import load_module

    for each in modules or ():
        load_module(each)


def _record(found: Defined) -> dict[str, Any]:
    return {
        "namespace": found.namespace, "name": found.name, "version": found.version, "by": found.by,
        "fingerprint": found.fingerprint, "created_at": found.created_at.isoformat() if found.created_at else "",
        "ended_at": found.ended_at.isoformat() if found.ended_at else None, "spec": found.spec,
    }  # fmt: skip
