"""The order of places a database URL may come from, and what becomes of its spelling."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbook.errors import BadDatabaseUrl
from flowbook.store.embedded import default_home
from flowbook.store.url import DatabaseUrl, resolve

PLAIN = "postgresql://ana:secret@db.example:5433/lab"


def url_of(text: str) -> str:
    """What an explicit ``text`` becomes."""
    found = resolve(text, {}, None)
    assert found.url is not None
    return found.url


def test_the_argument_beats_both_variables_and_each_variable_the_next() -> None:
    """argument > FLOWBOOK_DATABASE_URL > DATABASE_URL > embedded."""
    env = {"FLOWBOOK_DATABASE_URL": "postgresql://h/ours", "DATABASE_URL": "postgresql://h/theirs"}
    assert resolve("postgresql://h/typed", env, None) == DatabaseUrl("postgresql://h/typed", "argument")
    assert resolve(None, env, None) == DatabaseUrl("postgresql://h/ours", "FLOWBOOK_DATABASE_URL")
    del env["FLOWBOOK_DATABASE_URL"]
    assert resolve(None, env, None) == DatabaseUrl("postgresql://h/theirs", "DATABASE_URL")
    assert resolve(None, {}, None).source == "embedded"


def test_an_empty_variable_says_nothing() -> None:
    """``DATABASE_URL=`` in a shell is how people unset a variable."""
    assert resolve(" ", {"FLOWBOOK_DATABASE_URL": "", "DATABASE_URL": "  "}, None).source == "embedded"


def test_a_bad_url_is_an_error_and_not_a_reason_to_use_the_next_place() -> None:
    """Falling through to another database would hide runs."""
    with pytest.raises(BadDatabaseUrl, match="FLOWBOOK_DATABASE_URL"):
        resolve(None, {"FLOWBOOK_DATABASE_URL": "mysql://h/d", "DATABASE_URL": PLAIN}, None)


def test_the_embedded_home_is_the_callers_then_the_variables_then_the_default(tmp_path: Path) -> None:
    """FLOWBOOK_HOME decides unless the caller has."""
    env = {"FLOWBOOK_HOME": str(tmp_path / "a")}
    assert resolve(None, env, None) == DatabaseUrl(None, "embedded", tmp_path / "a")
    assert resolve(None, env, tmp_path / "b").home == tmp_path / "b"
    assert resolve(None, {"FLOWBOOK_HOME": "~/x"}, None).home == Path.home() / "x"
    assert resolve(None, {}, None).home == default_home()


def test_resolving_to_the_embedded_database_starts_and_creates_nothing(tmp_path: Path) -> None:
    """The caller attaches, when it wants to."""
    resolve(None, {"FLOWBOOK_HOME": str(tmp_path / "none")}, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "scheme", ["postgresql", "postgres", "postgresql+asyncpg", "postgres+psycopg2", "POSTGRESQL+psycopg"]
)
def test_every_spelling_of_the_scheme_becomes_the_plain_one(scheme: str) -> None:
    """Heroku says postgres, SQLAlchemy adds a driver."""
    assert url_of(f"{scheme}://ana:secret@db.example:5433/lab") == PLAIN


@pytest.mark.parametrize(
    "text",
    [
        "postgresql:///lab",
        "postgresql:///lab?host=/var/run/postgresql",
        "postgresql://ana@/lab?host=/var/run/postgresql&port=5433",
        "postgresql://[::1]:5432/lab",
        "postgresql://a:1,b:2/lab?target_session_attrs=primary",
        "postgresql://h",
        "postgresql://h/lab?application_name=x&sslmode=require",
    ],
)
def test_what_asyncpg_understands_is_left_alone(text: str) -> None:
    """No host is a socket, several hosts are a choice, IPv6 has brackets."""
    assert url_of(text) == text


def test_settings_of_other_client_libraries_do_not_reach_the_server() -> None:
    """asyncpg sends what it does not know to the server, which then refuses the connection."""
    given_url = "postgresql+asyncpg://h/lab?ssl=require&prepared_statement_cache_size=0&channel_binding=require"
    assert url_of(given_url) == "postgresql://h/lab?sslmode=require"


def test_an_unquoted_at_sign_in_a_password_is_quoted() -> None:
    """Browsers and urllib split at the last ``@``, asyncpg at the first."""
    assert url_of("postgresql://ana:p@ss@h/lab") == "postgresql://ana:p%40ss@h/lab"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sqlite:///x.db", "Postgres only"),
        ("mysql://ana:secret@h/d", "Postgres only"),
        ("h/lab", "Postgres only"),
        ("postgresql:lab", "two slashes"),
        ("postgresql://ana:secret@h:port/lab", "port"),
        ("postgresql://ana:secret@h:70000/lab", "port"),
        ("postgresql://ana:secret@[::1/lab", "not a URL"),
        ("postgresql://ana:sec#ret@h/lab", "%23"),
        ("postgresql://flowbook:secret@h/lab", "search_path"),
        ("postgresql://h/lab?user=flowbook&password=secret", "search_path"),
        ("postgresql://flow%62ook:secret@h/lab", "search_path"),
    ],
)
def test_an_unusable_url_is_refused_with_the_reason_and_without_the_password(text: str, says: str) -> None:
    """The text says what to do, and can be pasted into an issue."""
    with pytest.raises(BadDatabaseUrl) as caught:
        resolve(text, {}, None)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "ret@h" not in str(caught.value)


def test_a_database_called_flowbook_is_fine() -> None:
    """Only the role's name is in the way."""
    assert url_of("postgresql://ana@h/flowbook") == "postgresql://ana@h/flowbook"


def test_the_embedded_database_is_shown_by_its_folder(tmp_path: Path) -> None:
    """There is no URL yet."""
    assert resolve(None, {}, tmp_path).shown == f"embedded Postgres in {tmp_path}"


@given(password=st.text(min_size=1).filter(lambda t: t.isprintable()))
def test_a_password_survives_and_is_never_shown(password: str) -> None:
    """Quoted or not on the way in, quoted on the way out, masked for people."""
    marked = f"<{password}>"
    found = resolve(f"postgresql://ana:{quote(marked, safe='')}@h/lab?password=<2>", {}, None)
    assert found.url is not None
    assert found.url.startswith(f"postgresql://ana:{quote(marked, safe='')}@h/lab")
    assert found.shown == "postgresql://ana:***@h/lab?password=***"
    assert quote(marked, safe="") not in repr(found)
