"""The statements about flows that are defined as data.

Owns: their SQL and the reason for its shape. Refuses: the code that runs are pinned to (`statements.py`).
"""

from __future__ import annotations

from typing import Final

from flowbook.store.driver import Statement

_COLUMNS: Final = "namespace, name, version, spec, fingerprint, by, created_at, ended_at"

DEFINE_SPEC: Final = Statement(
    "define spec",
    f"""
    with newest as (
        select version, spec, ended_at from flowbook.defined where namespace = $1 and name = $2
        order by version desc limit 1
    )
    insert into flowbook.defined (namespace, name, version, spec, fingerprint, by)
    select $1, $2, 1 + coalesce((select version from newest), 0), $3, $4, $5
    where not exists (select from newest where ended_at is null and spec = $3)
    on conflict (namespace, name, version) do nothing
    returning {_COLUMNS}
    """,  # noqa: S608
    "A version is never changed: another spec is another version, and the same one again nothing. Who counts the same "
    "version at the same moment gets no row, looks again and finds the other's.",
)

SPEC_VERSIONS: Final = Statement(
    "spec versions",
    f"select {_COLUMNS} from flowbook.defined where namespace = $1 and name = $2 order by version desc",  # noqa: S608
    "All versions of a name, newest first; also those that were taken back: runs may be pinned to any.",
)

SPECS: Final = Statement(
    "specs",
    f"""
    select distinct on (namespace, name) {_COLUMNS} from flowbook.defined
    where ended_at is null and ($1::text is null or namespace = $1) order by namespace, name, version desc
    """,  # noqa: S608
    "What is defined: the newest version of each name that was not taken back.",
    fresh=True,
)

END_SPEC: Final = Statement(
    "end spec",
    """
    with moment as (select date_trunc('milliseconds', clock_timestamp()) as at)
    update flowbook.defined set ended_at = moment.at from moment
    where namespace = $1 and name = $2 and ended_at is null returning ended_at
    """,
    "Takes a name back before its runs are counted: who starts one looks at the name again once the run is durable, so "
    "either the count finds the run, or the start finds the name gone.",
)

RESTORE_SPEC: Final = Statement(
    "restore spec",
    "update flowbook.defined set ended_at = null where namespace = $1 and name = $2 and ended_at = $3",
    "Runs were active after all: nothing was taken back.",
)

ACTIVE_RUNS: Final = Statement(
    "active runs",
    """
    select id from flowbook.run
    where namespace = $1 and flow = $2 and status in ('pending', 'running', 'waiting') order by id limit 11
    """,
    "Whether a definition is in use; ten are named and an eleventh says that there are more.",
    fresh=True,
)
