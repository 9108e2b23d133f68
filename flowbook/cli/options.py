"""Options that several commands share, each written once.

Owns: their names, defaults and help. Refuses: using them.
"""

from __future__ import annotations

from typing import Annotated

import typer

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="Its id, the beginning or the ending of it, or `last` (the newest).")
]
UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="Postgres to use. Default: FLOWBOOK_DATABASE_URL, then DATABASE_URL, then the embedded one.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document (keys: docs/cli.md).")]
ModuleOption = Annotated[
    list[str] | None,
    typer.Option(
        "--module",
        "-m",
        metavar="MODULE",
        help="Import this module (`my.flows`) or file (`flows.py`), where the flow is declared. May be repeated.",
        show_default=False,
    ),
]
FromSourceOption = Annotated[
    bool, typer.Option("--from-source", help="Build the flow from the source that is stored with the run.")
]
AllowSourceOption = Annotated[
    bool,
    typer.Option("--allow-source", help="With --from-source: run it even though your key has not signed it."),
]
