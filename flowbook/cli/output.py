"""Output: where the commands' words go.

Owns: standard output for what was asked for, standard error for everything else, and the rule that tables, colours and
live pictures are for terminals only: a pipe gets plain lines, ``--json`` gets one JSON document. Refuses: deciding what
to say.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from flowbook.errors import FlowbookError


def console() -> Console:
    """Standard output, as it is now (tests replace it)."""
    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def aside() -> Console:
    """Standard error: hints, progress, errors."""
    return Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())


def tell(picture: RenderableType, text: str) -> None:
    """A table on a terminal, its plain text elsewhere."""
    out = console()
    out.print(picture if out.is_terminal else Text(text))


def say(text: str) -> None:
    """One plain sentence that answers the command."""
    console().print(Text(text))


def hint(text: str) -> None:
    """Something good to know, out of the way of pipes."""
    aside().print(Text(text, "dim"))


def as_json(thing: Any) -> None:
    """One JSON document."""
    sys.stdout.write(json.dumps(thing, indent=2, ensure_ascii=False) + "\n")


def complain(error: FlowbookError, advice: str, *, json_wanted: bool, exit_code: int) -> None:
    """An error with its code and what to do about it; never a traceback."""
    if json_wanted:
        record = {"code": error.code, "type": type(error).__name__, "message": error.message, "advice": advice}
        sys.stderr.write(json.dumps({"error": record, "exit": exit_code}, indent=2, ensure_ascii=False) + "\n")
        return
    out = aside()
    out.print(Text.assemble(("error", "bold red"), f" [{error.code}] {error.message}"))
    if advice:
        out.print(Text(advice, "dim"))
