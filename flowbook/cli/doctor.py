"""``flowbook doctor``: what is in the way of flowbook here, and what to do about it.

Owns: its arguments and what is said. Refuses: looking (`flowbook/doctor.py`) and mending.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from flowbook.cli.options import JsonOption, UrlOption
from flowbook.cli.session import connection

if TYPE_CHECKING:
    from flowbook.ports import Finding


def add_to(app: typer.Typer) -> None:
    """Make it a command of ``app``."""
    app.command(epilog="Example:  flowbook doctor --url postgresql://ana@db.example.org/flows")(doctor)


def doctor(url: UrlOption = None, json: JsonOption = False) -> None:
    """Look at the database and at this machine, and say what to do. Changes nothing.

    Exits with 0 if nothing fails (warnings are no failure), with 4 if the database does, else with 1.
    """
    import asyncio
    from dataclasses import asdict

    from flowbook.cli import output
    from flowbook.cli.database import _Reached
    from flowbook.cli.exits import Exit
    from flowbook.doctor import diagnose

    where = connection(url)

    async def body(reach: str) -> list[Finding]:
        found = []
        async for finding in diagnose(reach, where.home):
            found.append(finding)
            if not json:
                output.say(_line(finding))
        return found

    with _Reached(where) as reach:
        found = asyncio.run(body(reach))
    failed = [finding.name for finding in found if finding.state == "fail"]
    if json:
        records: list[dict[str, Any]] = [asdict(finding) for finding in found]
        output.as_json({"ok": not failed, "findings": records})
    if failed:
        here = {"key", "pictures", "jupyter", "code"}
        raise typer.Exit(Exit.DATABASE if set(failed) - here else Exit.RUN)


def _line(finding: Finding) -> str:
    head = f"{finding.state:<5} {finding.name:<12} {finding.about}"
    return f"{head}\n{'':<18} -> {finding.advice}" if finding.advice else head
