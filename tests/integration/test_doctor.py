"""The doctor, and databases that are not as one would like."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

import flowbook as fb
from flowbook.cli import main
from flowbook.store.migrate import HEAD, KNOWN, downgrade, upgrade

Call = Callable[..., tuple[int, dict[str, Any]]]


@fb.step
def one() -> int:
    return 1


flow = fb.graph("doctored", one)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private home."""
    monkeypatch.setenv("FLOWBOOK_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def call(home: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """``flowbook doctor --json`` on a database: exit code, and name -> finding."""

    def run(url: str) -> tuple[int, dict[str, Any]]:
        capsys.readouterr()
        code: Any = 0
        try:
            main(["doctor", "--json", "--url", url])
        except SystemExit as ended:
            code = ended.code or 0
        found = json.loads(capsys.readouterr().out)
        assert found["ok"] is (code == 0)
        assert all(f["advice"] for f in found["findings"] if f["state"] != "ok")
        return code, {finding["name"]: finding for finding in found["findings"]}

    return run


async def _sql(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


def sql(url: str, *statements: str) -> None:
    """Meddle."""
    asyncio.run(_sql(url, *statements))


def as_role(url: str, role: str) -> str:
    """The same database, as another role."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{role}:secret@{parts.netloc.rpartition('@')[2]}").geturl()


def test_a_healthy_place_has_nothing_to_mend(fresh_database: str, call: Call, home: Path) -> None:
    """Everything ok once a run has been there; before, only the schema is missing. Nothing is changed by looking."""
    code, found = call(fresh_database)
    assert (code, found["schema"]["state"]) == (0, "warn")
    with fb.connect(fresh_database, home=home) as app:
        assert app.start(flow).result() == {"one": 1}
    code, found = call(fresh_database)
    states = {name: f["state"] for name, f in found.items() if name not in ("jupyter", "connections")}
    assert set(states.values()) == {"ok"}, found
    assert set(states) >= {
        "database", "version", "writing", "connection", "clock", "schema", "rights", "runs", "key", "code", "pictures",
    }  # fmt: skip
    assert code == 0


def test_what_is_wrong_is_told_with_what_to_do(fresh_database: str, call: Call, home: Path) -> None:
    """A dead owner, an open key, an older and an unknown schema, a standby, no database: each by its name."""
    with fb.connect(fresh_database, home=home) as app:
        run = app.start(flow)
        run.result()
    sql(
        fresh_database,
        f"update flowbook.run set status = 'running', worker_id = gen_random_uuid() where id = '{run.id}'",
    )
    (home / "key").chmod(0o644)
    code, found = call(fresh_database)
    assert (code, found["runs"]["state"], str(run.id) in found["runs"]["about"]) == (1, "warn", True)
    assert (found["key"]["state"], "chmod 600" in found["key"]["advice"]) == ("fail", True)
    (home / "key").chmod(0o600)
    asyncio.run(downgrade(fresh_database, KNOWN[-2]))
    code, found = call(fresh_database)
    assert (code, found["schema"]["state"], found["schema"]["advice"]) == (0, "warn", "flowbook db upgrade")
    sql(fresh_database, "update flowbook.alembic_version set version_num = '9999'")
    assert call(fresh_database)[1]["schema"]["state"] == "fail"
    name = urlsplit(fresh_database).path[1:]
    sql(fresh_database, f'alter database "{name}" set default_transaction_read_only = on')
    code, found = call(fresh_database)
    assert (code, found["writing"]["state"]) == (4, "fail")
    code, found = call("postgresql://nobody@127.0.0.1:1/nothing")
    assert (code, found["database"]["state"], "pictures" in found) == (4, "fail", True)


def test_a_role_that_may_create_nothing_works_on_a_schema_that_its_owner_prepared(
    fresh_database: str, call: Call, home: Path
) -> None:
    """The owner upgrades, the role runs flows; without its grants the doctor says which."""
    role = f"worker_{uuid4().hex[:8]}"
    asyncio.run(upgrade(fresh_database))
    sql(fresh_database, f"create role {role} login password 'secret'")
    theirs = as_role(fresh_database, role)
    try:
        code, found = call(theirs)
        assert (code, found["rights"]["state"]) == (4, "fail")
        sql(
            fresh_database,
            f"grant usage on schema flowbook to {role}",
            f"grant select, insert, update, delete on all tables in schema flowbook to {role}",
        )
        with fb.connect(theirs, home=home) as app:
            assert app.start(flow).result() == {"one": 1}
            assert len(app.runs()) == 1
        code, found = call(theirs)
        assert (code, found["rights"]["state"], "another role owns" in found["rights"]["about"]) == (0, "ok", True)
        assert found["schema"]["about"] == f"at {HEAD}"
    finally:
        sql(fresh_database, f"drop owned by {role}", f"drop role {role}")
