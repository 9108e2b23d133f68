"""Exit codes: what a script learns from a command without reading its words.

Owns: the codes, which error has which, and what to advise about it. Refuses: printing. docs/cli.md has the same table,
and a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from flowbook.errors import (
    AlreadyAnswered,
    CodeMissing,
    EmbeddedUnavailable,
    FlowbookError,
    NotExportable,
    NothingToDecide,
    NothingToReuse,
    NotPortable,
    NotProven,
    PayloadRefused,
    PointUnknown,
    RunNotFound,
    RunOver,
    RunUndone,
    SchemaMismatch,
    SignatureRefused,
    SpecError,
    StoreError,
    StoreUnavailable,
    TokenRefused,
    UsageError,
)
from flowbook.plan.records import Status


class Exit(IntEnum):
    """What a command ended with."""

    OK = 0
    """Done; a run that was followed has completed."""
    RUN = 1
    """The run failed or was cancelled, or another error of flowbook's (its code is in the message)."""
    USAGE = 2
    """The command cannot be taken as it was typed, or not by a run in this status."""
    NOT_FOUND = 3
    """No run has this id, or more than one has."""
    DATABASE = 4
    """The database cannot be reached, started or used."""
    CODE = 5
    """The code of the run is missing, or may not be loaded."""
    INTERRUPTED = 130
    """Ctrl-C; the run stays as it is and can be resumed."""


MEANING: Mapping[Exit, str] = {
    Exit.OK: "done; a run that was followed has completed",
    Exit.RUN: "the run failed or was cancelled",
    Exit.USAGE: "the command cannot be taken as it was typed, or not by a run in this status",
    Exit.NOT_FOUND: "no run has this id, or more than one has",
    Exit.DATABASE: "the database cannot be reached, started or used",
    Exit.CODE: "the code of the run is missing, or may not be loaded",
    Exit.INTERRUPTED: "interrupted with Ctrl-C; the run is kept and can be resumed",
}

_ERRORS: tuple[tuple[type[FlowbookError], Exit], ...] = (
    (RunNotFound, Exit.NOT_FOUND),
    (RunOver, Exit.USAGE),
    (RunUndone, Exit.USAGE),
    (NothingToReuse, Exit.USAGE),
    (NotProven, Exit.USAGE),
    (NotExportable, Exit.CODE),
    (PayloadRefused, Exit.USAGE),
    (TokenRefused, Exit.USAGE),
    (AlreadyAnswered, Exit.USAGE),
    (NothingToDecide, Exit.USAGE),
    (PointUnknown, Exit.USAGE),
    (CodeMissing, Exit.CODE),
    (NotPortable, Exit.CODE),
    (SignatureRefused, Exit.CODE),
    (SpecError, Exit.USAGE),
    (StoreError, Exit.DATABASE),
    (UsageError, Exit.USAGE),
)
"""The first that fits decides."""

_ADVICE: tuple[tuple[type[FlowbookError], str], ...] = (
    (RunNotFound, "`flowbook runs` lists the runs of this database."),
    (SchemaMismatch, "`flowbook db status` shows which schema the database has."),
    (EmbeddedUnavailable, "Any Postgres will do instead: set FLOWBOOK_DATABASE_URL."),
    (StoreUnavailable, "`flowbook db status` shows which database is meant, and why."),
)
"""For errors whose own text does not already say what to type next."""


def exit_of(error: FlowbookError) -> Exit:
    """The code that a command ends with after this error."""
    return next((code for kind, code in _ERRORS if isinstance(error, kind)), Exit.RUN)


def advice_on(error: FlowbookError) -> str:
    """What to type next; empty where the error says so itself."""
    return next((text for kind, text in _ADVICE if isinstance(error, kind)), "")


def exit_of_status(status: Status) -> Exit:
    """The code of a command that followed a run to this status."""
    return Exit.RUN if status in (Status.FAILED, Status.CANCELLED, Status.SUPERSEDED) else Exit.OK
