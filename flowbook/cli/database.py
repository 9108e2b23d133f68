"""``flowbook db``: the database that the other commands, the kernels and the scripts share.

Owns: the arguments of these commands. Refuses: SQL and the server's life (`store/`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowbook.cli.options import JsonOption, UrlOption
from flowbook.cli.session import connection

if TYPE_CHECKING:
    from flowbook.connecting import Connection

app = typer.Typer(
    help="The database: up, down, status, upgrade, url, psql, gc.",
    no_args_is_help=True,
    epilog="Example:  flowbook db status --json",
)


@app.command(epilog="Example:  flowbook db up && flowbook runs")
def up(json: JsonOption = False) -> None:
    """Start the embedded Postgres and keep it up until `flowbook db down`.

    It starts by itself whenever it is needed; this keeps it up in between, for other programs.
    """
    from flowbook.cli import output
    from flowbook.cli.holder import hold

    where = _embedded(connection(None), "up")
    server = hold(where.home)
    if json:
        output.as_json({"up": True, "home": str(where.home), "port": server.port, "postgres": server.major})
        return
    output.say(f"Postgres {server.major} is up on port {server.port}, in {where.home}; `flowbook db down` stops it")


@app.command(epilog="Example:  flowbook db down")
def down(json: JsonOption = False) -> None:
    """Stop the embedded Postgres, whoever uses it; the next one to need it starts it again."""
    from flowbook.cli import output
    from flowbook.store.embedded import Cluster

    where = _embedded(connection(None), "down")
    cluster = Cluster(where.home)
    was_up = cluster.status() is not None
    cluster.down()
    if json:
        output.as_json({"up": False, "was_up": was_up, "home": str(where.home)})
        return
    output.say(f"stopped the Postgres in {where.home}" if was_up else f"no Postgres was running in {where.home}")


@app.command(epilog="Example:  flowbook db status || echo 'not running'")
def status(url: UrlOption = None, json: JsonOption = False) -> None:
    """Say which database is meant, why, and how it is. Starts and changes nothing; exits with 4 if it is not up."""
    import asyncio

    from flowbook.cli import output
    from flowbook.cli.exits import Exit
    from flowbook.errors import StoreError
    from flowbook.store import migrate

    where = connection(url)
    reach, server = where.url.url, None
    trouble: str | None = None
    if reach is None:
        from flowbook.store.embedded import Cluster

        server = Cluster(where.home).status()
        reach = server.url if server else None
        trouble = None if server else "it is not running; whatever needs it starts it"
    revision: str | None = None
    if reach is not None:
        try:
            revision = asyncio.run(migrate.current(reach))
        except (StoreError, OSError) as error:
            trouble = error.message if isinstance(error, StoreError) else str(error)
    record: dict[str, Any] = {
        "up": trouble is None,
        "source": where.url.source,
        "database": where.url.shown,
        "home": str(where.home) if where.url.source == "embedded" else None,
        "postgres": server.major if server else None,
        "port": server.port if server else None,
        "revision": revision,
        "head": migrate.HEAD,
        "trouble": trouble,
    }
    if json:
        output.as_json(record)
    else:
        output.say(_status_text(record))
    if trouble is not None:
        raise typer.Exit(Exit.DATABASE)


@app.command(epilog="Example:  flowbook db upgrade --url postgresql://ana@db.example.org/flows")
def upgrade(url: UrlOption = None, json: JsonOption = False) -> None:
    """Bring the schema up to date. Connecting does so by itself; this does it alone, e.g. while deploying."""
    import asyncio

    from flowbook.cli import output
    from flowbook.store import migrate

    async def body(reach: str) -> tuple[str | None, str | None]:
        before = await migrate.current(reach)
        await migrate.ensure(reach)
        return before, await migrate.current(reach)

    where = connection(url)
    with _Reached(where) as reach:
        before, after = asyncio.run(body(reach))
    if json:
        output.as_json({"before": before, "after": after, "head": migrate.HEAD})
        return
    output.say(f"the schema is at {after}" + (", as it was" if before == after else f" (was: {before or 'none'})"))


@app.command(epilog='Example:  psql "$(flowbook db url)"')
def url(
    show_password: Annotated[
        bool, typer.Option("--show-password", help="Do not mask the password on a terminal.")
    ] = False,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Print the database's URL, starting the embedded Postgres as `flowbook db up` does.

    On a terminal the password is masked, because terminals get pasted into tickets; a pipe gets all of it.
    """
    import sys

    from flowbook.cli import output
    from flowbook.store.url import masked

    where = connection(url)
    reach = where.url.url
    if reach is None:
        from flowbook.cli.holder import hold

        reach = hold(where.home).url
    secret = sys.stdout.isatty() and not show_password
    shown = masked(reach) if secret else reach
    if json:
        output.as_json({"url": shown, "source": where.url.source, "masked": secret and shown != reach})
        return
    output.say(shown)
    if secret and shown != reach:
        output.hint("the password is masked on a terminal: --show-password")


@app.command(
    epilog="Example:  flowbook db psql -- -c 'select flow, status, count(*) from flowbook.run group by 1, 2'",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def psql(
    context: typer.Context,
    url: UrlOption = None,
) -> None:
    """Open psql on the database; what follows `--` goes to psql."""
    from flowbook.cli.psql import run_psql

    with _Reached(connection(url)) as reach:
        code = run_psql(reach, context.args)
    raise typer.Exit(code)


@app.command(epilog="Example:  flowbook db gc --older-than 30d --dry-run")
def gc(
    older_than: Annotated[
        str, typer.Option(metavar="TIME", help="Runs that ended at least so long ago: `30d`, `12h`.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would go.")] = False,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Throw away runs that are over, with all they have, and large values that nothing needs any more.

    Workers may go on meanwhile. A fork keeps what it was forked from; children go with the run that started them. A
    value goes a day after its last use. Interrupted anywhere, the next call goes on.
    """
    from dataclasses import asdict

    from flowbook.cli import output
    from flowbook.cli.session import with_app
    from flowbook.graph.durations import seconds

    age = seconds(older_than)
    found = with_app(url, lambda app: app.store.housekeeping.gc(age, dry_run=dry_run))
    if json:
        output.as_json({**asdict(found), "older_than": age})
        return
    verb = "would go" if dry_run else "are gone"
    output.say(
        f"{found.runs:,} runs {verb}, with {found.entries:,} rows of journals and {found.outputs:,} outputs "
        f"({_size(found.bytes)}); {found.blobs:,} large values ({_size(found.blob_bytes)})"
    )


def _size(count: int) -> str:
    """Bytes for people."""
    size, units = float(count), ["TB", "GB", "MB", "kB", "B"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        units.pop()
    return f"{size:,.{0 if units[-1] == 'B' else 1}f} {units[-1]}"


class _Reached:
    """The URL of a database, with the embedded server attached to for as long as it is used."""

    def __init__(self, where: Connection) -> None:
        self._where = where

    def __enter__(self) -> str:
        if self._where.url.url is not None:
            return self._where.url.url
        from flowbook.store.embedded import Cluster

        self._cluster = Cluster(self._where.home)
        return self._cluster.attach().url

    def __exit__(self, *exc: object) -> None:
        if self._where.url.url is None:
            self._cluster.detach()


def _embedded(where: Connection, verb: str) -> Connection:
    from flowbook.errors import UsageError

    if where.url.source != "embedded":
        raise UsageError(
            f"{where.url.source} names {where.url.shown}, and `db {verb}` is for the embedded Postgres: unset it first"
        )
    return where


def _status_text(record: dict[str, Any]) -> str:
    why = {"argument": "--url says so", "embedded": "no URL is set"}.get(
        record["source"], f"{record['source']} says so"
    )
    lines = [f"database  {record['database']}", f"because   {why}"]
    if record["postgres"]:
        lines.append(f"server    Postgres {record['postgres']}, port {record['port']}")
    if record["trouble"]:
        return "\n".join([*lines, f"state     down: {record['trouble']}"])
    schema = record["revision"] or "none yet; the first connection makes it"
    newer = "" if record["revision"] in (None, record["head"]) else f" (this flowbook has {record['head']})"
    return "\n".join([*lines, "state     up", f"schema    {schema}{newer}"])
