"""``flowbook``: the commands put together.

Owns: the root command, and turning every error of flowbook's into one line and an exit code. Refuses: what the commands
do (`look.py`, `change.py`, `decide.py`, `travel.py`, `fleet.py`, `letters.py`,
`prepare.py`, `definitions.py`, `doctor.py`, `schedules.py`, `database.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from flowbook.cli import (
    change,
    database,
    decide,
    definitions,
    doctor,
    fleet,
    letters,
    look,
    notebooks,
    prepare,
    schedules,
    travel,
)
from flowbook.cli.exits import Exit, advice_on, exit_of
from flowbook.cli.output import aside, complain, say
from flowbook.errors import FlowbookError

app = typer.Typer(
    name="flowbook",
    help="Durable flows and notebooks: look at runs, carry them on, and mind the database.",
    epilog="Example:  flowbook runs --status failed\n\n"
    "Exit codes: 0 done, 1 run failed or cancelled, 2 usage, 3 no such run, 4 database, 5 code missing.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
look.add_to(app)
notebooks.add_to(app)
change.add_to(app)
decide.add_to(app)
travel.add_to(app)
fleet.add_to(app)
letters.add_to(app)
prepare.add_to(app)
definitions.add_to(app)
doctor.add_to(app)
app.add_typer(schedules.app, name="schedule")
app.add_typer(database.app, name="db")


def main(argv: Sequence[str] | None = None) -> None:
    """Take a command, carry it out, exit."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        app(schedules.paired(notebooks.paired(arguments)), prog_name="flowbook")
    except FlowbookError as error:
        code = exit_of(error)
        complain(error, advice_on(error), json_wanted="--json" in arguments, exit_code=code)
        sys.exit(code)
    except KeyboardInterrupt:
        aside().print("interrupted")
        sys.exit(Exit.INTERRUPTED)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # not `flowbook` itself: above it stand the other doors

        say(f"flowbook {version('flowbook-jupyter')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Durable flows and notebooks: look at runs, carry them on, and mind the database."""
