"""The command line: a door, one call into the app per command.

Owns: `main`, the console script ``flowbook``. Refuses: logic, and importing what is heavy before a command asks for it.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> None:
    """Take a command from ``argv`` (default: this process' arguments), carry it out, and exit with its code."""
    from flowbook.cli.main import main as run  # typer and rich, which ``flowbook.cli.holder`` can do without

    run(argv)
