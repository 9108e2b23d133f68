"""Which database: from what was typed, what the environment says, or the one that comes along.

Owns: the order of the places to look, and turning every common spelling of a Postgres URL into the one that asyncpg
takes. Refuses: connecting, starting anything, and reading the environment (the caller hands it in).

    argument > FLOWBOOK_DATABASE_URL > DATABASE_URL > embedded, in FLOWBOOK_HOME or the user's data folder

No message shows a password: URLs end up in notebooks, and notebooks end up on the web.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from flowbook.errors import BadDatabaseUrl
from flowbook.store.embedded import default_home

Source = Literal["argument", "FLOWBOOK_DATABASE_URL", "DATABASE_URL", "embedded"]

_SCHEMES = ("postgresql", "postgres")
_MASK = "***"
# The role's name must differ from the schema's: see _refuse_role.
_SCHEMA = "flowbook"
# Settings of one client library or another, which asyncpg would send to the server as parameters it does not know.
_NOT_FOR_THE_SERVER = frozenset(
    {
        *("async_fallback", "prepared_statement_cache_size", "prepared_statement_name_func"),  # SQLAlchemy
        *("channel_binding", "connect_timeout", "gssencmode", "tcp_user_timeout"),  # libpq
        *("keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval"),  # libpq
        *("connection_limit", "pgbouncer", "pool_timeout", "statement_cache_size"),  # Prisma and others
    }
)


@dataclass(frozen=True)
class DatabaseUrl:
    """Where the database is; nothing has been tried yet."""

    url: str | None
    """``postgresql://...`` for asyncpg; ``None`` when the source is ``embedded``: attaching to ``home`` gives it."""
    source: Source
    """Which place decided."""
    home: Path | None = None
    """The embedded database's folder; ``None`` for every other source."""

    @property
    def shown(self) -> str:
        """For people: the URL with its password masked, or the embedded database's folder."""
        return f"embedded Postgres in {self.home}" if self.url is None else masked(self.url)

    @property
    def fingerprint(self) -> str:
        """Which database, without any secret: 16 hex digits of its hosts and name, or of the embedded one's folder."""
        where = str(self.home)
        if self.url is not None:
            parts = urlsplit(self.url)
            more = [f"{k}={v}" for k, v in parse_qsl(parts.query) if k in ("host", "port", "dbname")]
            where = " ".join([parts.netloc.rpartition("@")[2], parts.path, *sorted(more)])
        return hashlib.blake2b(where.encode(), digest_size=8).hexdigest()

    def __repr__(self) -> str:
        return f"DatabaseUrl({self.shown!r}, source={self.source!r})"


def resolve(explicit: str | None, env: Mapping[str, str], home: Path | None) -> DatabaseUrl:
    """The first of the four places that says something; an empty text says nothing.

    ``explicit``: what the user typed. ``env``: the environment. ``home``: the embedded database's folder where the
    caller has decided on one; else ``FLOWBOOK_HOME`` (``~`` is expanded), else ``default_home()``.
    Raises ``BadDatabaseUrl`` for a URL that cannot be understood or used; the next place is not tried then.
    """
    stated: tuple[tuple[str | None, Source], ...] = (
        (explicit, "argument"),
        (env.get("FLOWBOOK_DATABASE_URL"), "FLOWBOOK_DATABASE_URL"),
        (env.get("DATABASE_URL"), "DATABASE_URL"),
    )
    for text, source in stated:
        if text is not None and text.strip():
            return DatabaseUrl(normalised(text.strip(), source), source)
    if home is None:
        named = env.get("FLOWBOOK_HOME", "").strip()
        home = Path(named).expanduser() if named else default_home()
    return DatabaseUrl(None, "embedded", home.absolute())


def normalised(text: str, source: Source = "argument") -> str:
    """``text`` as a plain ``postgresql://`` URL that asyncpg takes.

    A driver (``postgresql+asyncpg://``) is dropped, SQLAlchemy's ``ssl=`` becomes ``sslmode=``, settings of other
    client libraries go, and name and password are quoted anew, since asyncpg splits an unquoted one at its first ``@``.
    The host may be missing (a unix socket) or several. Raises ``BadDatabaseUrl``; ``source`` is named in its text.
    """
    try:
        parts = urlsplit(text)
        query = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError as error:
        raise BadDatabaseUrl(f"{source} {masked(text)!r} is not a URL: {error}") from None
    scheme, _, _driver = parts.scheme.partition("+")
    if scheme not in _SCHEMES:
        raise BadDatabaseUrl(
            f"{source} {masked(text)!r} does not begin with 'postgresql://': flowbook keeps its journal "
            "in Postgres only; leave the URL out to use the embedded one"
        )
    if not text[len(parts.scheme) :].startswith("://"):
        raise BadDatabaseUrl(f"{source} {masked(text)!r} needs two slashes after the scheme: 'postgresql://...'")
    if parts.fragment or text.endswith("#"):
        raise BadDatabaseUrl(f"{source} {masked(text)!r} has a '#' in it; in a name or password write it '%23'")
    login, at, hosts = parts.netloc.rpartition("@")
    _check_ports(hosts, text, source)
    user, colon, password = login.partition(":")
    kept = {("sslmode" if k == "ssl" else k): v for k, v in query if k not in _NOT_FOR_THE_SERVER and v}
    _refuse_role(kept.get("user", unquote(user)), text, source)
    login = quote(unquote(user), safe="") + (colon and ":" + quote(unquote(password), safe=""))
    tail = "?" + urlencode(kept, safe="/,:") if kept else ""
    return f"postgresql://{login}{at}{hosts}{parts.path}{tail}"


def masked(text: str) -> str:
    """``text`` with what may be a password replaced, also when it is no valid URL."""
    # Up to the *last* "@": an unquoted one in the password must not show the rest of it.
    text = re.sub(r"(://[^:/?@]*):.*@", rf"\1:{_MASK}@", text, flags=re.DOTALL)
    return re.sub(r"(?i)((?:ssl)?password=)[^&#]*", rf"\1{_MASK}", text)


def _check_ports(hosts: str, text: str, source: Source) -> None:
    for host in hosts.split(","):
        port = host.rpartition("]")[2].rpartition(":")[2] if ":" in host.rpartition("]")[2] else ""
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise BadDatabaseUrl(
                f"{source} {masked(text)!r}: the port must be a number from 1 to 65535; "
                "if this is a piece of the password, write its '/' as '%2F' and its '@' as '%40'"
            )


def _refuse_role(user: str, text: str, source: Source) -> None:
    if user == _SCHEMA:
        raise BadDatabaseUrl(
            f"{source} {masked(text)!r} logs in as role {user!r}, which is also the name of flowbook's schema: "
            'Postgres looks into the schema named like the role first (search_path is "$user", public), so migrations '
            "would take their tables for the default schema's; use a role of another name"
        )
