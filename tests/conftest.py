"""What every test may ask for.

Owns: the database fixtures, the Hypothesis profiles, the options of the suite and the line at the end that says what
was left out. Refuses: starting anything before a test asks for it, so that `tests/unit` runs without a database.

    flowbook_home     a private FLOWBOOK_HOME for the whole session
    database_url      a Postgres server for the whole session (one for all xdist workers)
    fresh_database    a new empty database on it, dropped after the test
    always_suspend    True under --always-suspend: runners should park and reload a run wherever they may

The server is a private embedded one under a new directory of /tmp, or the one of FLOWBOOK_TEST_DATABASE_URL, whose
role must be allowed to create databases.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import hypothesis
import pytest

HOME = pytest.StashKey[Path]()
"""Where the session's Postgres will live; the directory exists only once a test has asked for it."""

DESELECTED = pytest.StashKey[Counter[str]]()
"""Why tests were taken out by -m or -k, with their numbers."""

WHY_DESELECTED = {"crash": "long crash tests (make crash)", "other": "not asked for (-m or -k)"}

hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True, database=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")


# ---------------------------------------------------------------------------------------------------------- options


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("flowbook")
    group.addoption(
        "--always-suspend",
        action="store_true",
        help="park and reload a run wherever that is allowed, so that every test is also a test of resuming",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[DESELECTED] = Counter()
    worker: dict[str, Any] | None = getattr(config, "workerinput", None)
    config.stash[HOME] = Path(worker["flowbook_home"] if worker else f"{tempfile.gettempdir()}/fbt-{uuid4().hex[:12]}")


@pytest.fixture(scope="session")
def always_suspend(pytestconfig: pytest.Config) -> bool:
    """True when runners should park and reload a run wherever they may."""
    return bool(pytestconfig.getoption("--always-suspend"))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """`async def test_...` runs on asyncio; the engine has no other loop."""
    return "asyncio"


# --------------------------------------------------------------------------------------------------------- database


@pytest.fixture(scope="session")
def flowbook_home(pytestconfig: pytest.Config) -> Path:
    """The session's own FLOWBOOK_HOME, one for all xdist workers; removed at the end, with the server in it."""
    home = pytestconfig.stash[HOME]
    home.mkdir(exist_ok=True)
    # As root, Postgres runs as another account and has to get through, hence also directly under /tmp.
    home.chmod(0o711)
    return home


@pytest.fixture(scope="session")
def database_url(flowbook_home: Path) -> Iterator[str]:
    """A Postgres server for the whole session; use `fresh_database` for anything that writes."""
    given = os.environ.get("FLOWBOOK_TEST_DATABASE_URL")
    if given:
        yield given
        return
    from flowbook.store.embedded import Cluster  # here, because unit tests must not load the store

    cluster = Cluster(flowbook_home, grace=2.0)
    server = cluster.attach()
    try:
        yield server.url
    finally:
        cluster.detach()


@pytest.fixture
def fresh_database(database_url: str) -> Iterator[str]:
    """The URL of a new, empty database for one test."""
    with new_database(database_url) as url:
        yield url


@contextlib.contextmanager
def new_database(database_url: str) -> Iterator[str]:
    """The URL of a new, empty database, dropped at the end whoever may still be connected to it."""
    from sqlalchemy.engine import make_url  # here, because unit tests must not load SQLAlchemy

    name = f"t{uuid4().hex[:16]}"
    _in_own_loop(_execute(database_url, f"CREATE DATABASE {name} TEMPLATE template0"))
    yield make_url(database_url).set(database=name).render_as_string(hide_password=False)
    _in_own_loop(_execute(database_url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


async def _execute(url: str, statement: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def ask_database(url: str, question: str) -> Any:
    """The one value that a question has for its answer, over a connection of its own."""
    import asyncpg

    async def ask() -> Any:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(question)
        finally:
            await connection.close()

    found: list[Any] = []

    async def keep() -> None:
        found.append(await ask())

    _in_own_loop(keep())
    return found[0]


def _in_own_loop(work: Coroutine[Any, Any, None]) -> None:
    """Run ``work`` in a thread of its own: the test may have a loop already, and must keep it as it is."""
    trouble: list[BaseException] = []

    def body() -> None:
        try:
            asyncio.run(work)
        except BaseException as error:
            trouble.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if trouble:
        raise trouble[0]


def pytest_unconfigure(config: pytest.Config) -> None:
    """The last one out removes the session's Postgres: by now every worker has detached from it."""
    home = config.stash.get(HOME, None)
    if hasattr(config, "workerinput") or home is None or not home.exists():
        return
    from flowbook.store.embedded import Cluster

    try:
        Cluster(home).down(timeout=20.0)
    finally:
        shutil.rmtree(home, ignore_errors=True)


# ------------------------------------------------------------------------------------------------ what was left out


def pytest_deselected(items: list[pytest.Item]) -> None:
    for item in items:
        why = "crash" if item.get_closest_marker("crash") else "other"
        item.config.stash[DESELECTED][why] += 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    counts = session.config.stash[DESELECTED]
    if output is not None:
        output["flowbook_deselected"] = dict(counts)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """xdist: every worker is told of the one home."""
    node.workerinput["flowbook_home"] = str(node.config.stash[HOME])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """xdist: every worker collects everything, so the counts of one are the counts of all."""
    counts = getattr(node, "workeroutput", {}).get("flowbook_deselected")
    if counts:
        node.config.stash[DESELECTED] = Counter(counts)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """One line that says how many tests did not run, and why."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        reasons[str(report.longrepr[2]).removeprefix("Skipped: ")] += 1
    for why, number in config.stash[DESELECTED].items():
        reasons[WHY_DESELECTED[why]] += number
    terminalreporter.section("left out")
    if not reasons:
        terminalreporter.line("left out: nothing")
        return
    texts = [f"{number} x {reason}" for reason, number in reasons.most_common()]
    terminalreporter.line(f"left out: {reasons.total()} of the tests: {'; '.join(texts)}")
