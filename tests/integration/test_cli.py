"""The command line on a real database: what it tells of runs, and that it carries them on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import flowbook as fb
from flowbook.cli import main
from flowbook.cli.exits import Exit
from flowbook.sync import SyncApp

FLOWS = """
import asyncio
from pathlib import Path

import flowbook as fb


@fb.step
def order(flag):
    with Path(flag + ".log").open("a") as file:
        file.write("order\\n")
    return {"price": 7}


@fb.step
async def pay(flag, price):
    with Path(flag + ".log").open("a") as file:
        file.write("pay\\n")
    while not Path(flag).exists():
        await asyncio.sleep(0.02)
    if Path(flag).read_text() == "broken":
        raise ValueError("the bank says no")
    return {"paid": price}


shop = fb.graph("shop", order >> pay)
"""

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a flow whose second step waits for a flag; the current directory."""
    for name in ("FLOWBOOK_DATABASE_URL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FLOWBOOK_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "shop_flows.py"
    file.write_text(FLOWS)
    monkeypatch.delitem(sys.modules, "shop_flows", raising=False)
    return file


@pytest.fixture
def call(fresh_database: str, capsys: pytest.CaptureFixture[str]) -> Call:
    """A command on a database of its own: exit code, output, errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--url", fresh_database])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def flag(tmp_path: Path) -> Path:
    """The file that the flow waits for."""
    return tmp_path / "flag"


def flow(file: Path) -> Any:
    """The flow, as a process that declares it has it."""
    from flowbook.cli.code import graphs_of, load_module

    return next(graphs_of(load_module(str(file))))


def until(app: SyncApp, run_id: UUID, done: int) -> None:
    """Wait until so many steps have finished, and the next one is at work."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        view = app.find(run_id).view()
        if view.done >= done and any(s.state == "running" for s in view.steps):
            return
        time.sleep(0.02)
    raise AssertionError("the run does not get on")


@pytest.fixture
def orphan(fresh_database: str, shop: Path, flag: Path) -> UUID:
    """A run whose first step has finished and whose process has left in good order."""
    with fb.connect(fresh_database, home=shop.parent / "home") as app:
        run = app.start(flow(shop), {"flag": str(flag)}, key="A-17")
        until(app, run.id, 1)
    return UUID(str(run.id))


def begun(flag: Path) -> list[str]:
    """Which steps have begun, in order."""
    return Path(f"{flag}.log").read_text().split()


def test_looking_at_nothing(call: Call) -> None:
    """An empty database has no runs, and none is found in it."""
    assert call("runs")[:2] == (Exit.OK, "no runs\n")
    assert call("runs", "--json")[:2] == (Exit.OK, "[]\n")
    for text in ("last", "abc", "not-an-id"):
        code, out, error = call("show", text)
        assert (code, out) == (Exit.NOT_FOUND, "")
        assert error.startswith("error [FB305]")
        assert "flowbook runs" in error
    assert call("runs", "--status", "nonsense")[0] == Exit.USAGE


def test_a_run_is_carried_on_from_a_module(call: Call, shop: Path, flag: Path, orphan: UUID) -> None:
    """Its finished step is kept, the other one begins again, and all looks agree."""
    code, out, _ = call("runs", "--json")
    (listed,) = json.loads(out)
    assert (code, listed["status"], listed["key"]) == (Exit.OK, "pending", "A-17")
    assert json.loads(call("show", "last", "--json")[1])["needs"].startswith("code: shop@")
    flag.touch()
    code, out, error = call("resume", str(orphan)[:18], "--module", shop.name)
    assert code == Exit.OK
    assert "✓ completed" in out
    assert "1 finished step kept" in error
    assert "pay#1 finished" in error
    assert begun(flag) == ["order", "pay", "pay"]
    shown = json.loads(call("show", orphan.hex[-8:], "--json")[1])
    assert [s["path"] for s in shown["steps"]] == ["order#1", "pay#1"]
    assert shown["steps"][1]["result"] == {"paid": 7}
    told = json.loads(call("journal", "last", "--json")[1])
    assert [e["seq"] for e in told] == list(range(1, len(told) + 1))
    assert told[-1]["kind"] == "completed"
    assert len(call("journal", "last")[1].splitlines()) == len(told)
    again = call("resume", "last", "-m", shop.name)
    assert again[0] == Exit.OK
    assert "nothing to carry on" in again[2]


def test_without_its_code_a_run_stays_and_says_what_it_needs(call: Call, shop: Path, orphan: UUID) -> None:
    """Neither no code nor other code of the same name is taken for it; nothing is changed."""
    code, _, error = call("resume", "last")
    assert code == Exit.CODE
    assert error.startswith("error [FB306]")
    for way in ("--from-source", "--module", "%flow resume"):
        assert way in error
    shop.write_text(FLOWS.replace('"price": 7', '"price": 8'))
    sys.modules.pop("shop_flows", None)
    code, _, error = call("resume", "last", "--module", shop.name)
    assert code == Exit.CODE
    assert "has flow 'shop' as" in error
    assert json.loads(call("show", "last", "--json")[1])["status"] == "pending"


def test_a_run_is_carried_on_from_its_stored_source(fresh_database: str, shop: Path, flag: Path, orphan: UUID) -> None:
    """Where no file declares the flow any more; and not by somebody whose key has not signed it."""
    shop.unlink()
    flag.touch()
    command = [sys.executable, "-m", "flowbook.cli", "resume", str(orphan), "--from-source", "--url", fresh_database]
    stranger = os.environ | {"FLOWBOOK_HOME": str(shop.parent / "stranger")}
    refused = subprocess.run(command, env=stranger, capture_output=True, text=True, check=False)
    assert refused.returncode == Exit.CODE
    assert refused.stderr.startswith("error [FB103]")
    assert begun(flag) == ["order", "pay"]
    done = subprocess.run([*command, "--json"], env=os.environ.copy(), capture_output=True, text=True, check=False)
    assert done.returncode == Exit.OK, done.stderr
    assert json.loads(done.stdout)["status"] == "completed"
    assert begun(flag) == ["order", "pay", "pay"]


def test_a_failed_run_ends_with_1_and_is_retried_from_where_it_failed(
    call: Call, shop: Path, flag: Path, orphan: UUID
) -> None:
    """What had finished before the failure is not done again."""
    flag.write_text("broken")
    code, out, error = call("resume", "last", "-m", shop.name)
    assert code == Exit.RUN
    assert "the bank says no" in out + error
    assert call("show", "last")[0] == Exit.OK
    assert call("show", "last", "--exit-status")[0] == Exit.RUN
    assert call("retry", "last")[0] == Exit.CODE
    flag.write_text("")
    code, out, _ = call("retry", "last", "-m", shop.name, "--json")
    assert code == Exit.OK
    assert json.loads(out)["status"] == "completed"
    assert begun(flag).count("order") == 1
    assert call("retry", "last", "-m", shop.name)[0] == Exit.USAGE


def test_a_run_without_owner_is_cancelled_here(call: Call, orphan: UUID) -> None:
    """Its code is not needed; a second cancel changes nothing, one after the end comes too late."""
    code, out, _ = call("cancel", "last", "--json")
    assert code == Exit.OK
    assert json.loads(out)["status"] == "cancelled"
    assert call("cancel", str(orphan))[0] == Exit.OK
    assert call("show", "last", "--exit-status")[0] == Exit.RUN


def test_a_signal_is_sent_from_a_terminal(call: Call, fresh_database: str, shop: Path) -> None:
    """Kept until a wait takes it; one that nobody waits for, or that comes too late, ends with 2."""
    shop.write_text('import flowbook as fb\n\n\ngate = fb.graph("gate", fb.wait("approved", timeout="2d"))\n')
    with fb.connect(fresh_database, home=shop.parent / "home") as app:
        run = app.start(flow(shop))
        while run.status != "waiting":
            time.sleep(0.02)
        (step,) = json.loads(call("show", "last", "--json")[1])["steps"]
        assert (step["state"], step["wait"]["signals"], step["wait"]["refused"]) == ("waiting", ["approved"], [])
        assert "approved" in call("show", "last")[1]
        code, _, err = call("signal", "last", "aproved")
        assert (code, "did you mean 'approved'?" in err) == (Exit.USAGE, True)
        assert call("signal", "last", "approved", "by")[0] == Exit.USAGE
        code, out, _ = call("signal", "last", "approved", "by=ana", "amount=120", 'tags=["a"]', "--json")
        assert code == Exit.OK
        assert json.loads(out)["id"] == str(run.id)
        assert run.result() == {"approved": {"by": "ana", "amount": 120, "tags": ["a"]}}
    assert call("signal", "last", "approved")[0] == Exit.USAGE
    assert "approved, delivery 1" in call("journal", "last")[1]


def test_a_run_that_is_over_cannot_be_cancelled(call: Call, shop: Path, flag: Path, orphan: UUID) -> None:
    """It says so, and ends with 2."""
    flag.touch()
    assert call("resume", "last", "-m", shop.name)[0] == Exit.OK
    code, _, error = call("cancel", "last")
    assert code == Exit.USAGE
    assert error.startswith("error [FB307]")


@pytest.fixture
def elsewhere(fresh_database: str, shop: Path, flag: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that carries a run, its first step finished."""
    code = (
        "import sys, flowbook as fb, shop_flows\n"
        f"with fb.connect({fresh_database!r}) as app:\n"
        f"    run = app.start(shop_flows.shop, {{'flag': {str(flag)!r}}})\n"
        "    print(run.id, flush=True)\n"
        "    run.result()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=shop.parent, stdout=subprocess.PIPE, text=True,
                               stderr=subprocess.DEVNULL)  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    deadline = time.monotonic() + 20
    while "pay" not in (begun(flag) if Path(f"{flag}.log").exists() else []):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_run_of_another_process_is_cancelled_there(call: Call, elsewhere: subprocess.Popen[str]) -> None:
    """The command waits for the end and tells it."""
    code, out, _ = call("cancel", "last")
    assert code == Exit.OK
    assert "is cancelled" in out


def test_a_run_of_a_killed_process_can_be_cancelled(call: Call, elsewhere: subprocess.Popen[str]) -> None:
    """Its process is found out to be dead, and the cancel carried out here."""
    elsewhere.send_signal(signal.SIGKILL)
    elsewhere.wait()
    code, out, _ = call("cancel", "last", "--timeout", "20")
    assert code == Exit.OK
    assert "is cancelled" in out


def test_a_run_of_a_killed_process_is_resumed(
    call: Call, shop: Path, flag: Path, elsewhere: subprocess.Popen[str]
) -> None:
    """At once, whether or not its death has been noticed already."""
    elsewhere.send_signal(signal.SIGKILL)
    elsewhere.wait()
    flag.touch()
    code, out, _ = call("resume", "last", "-m", shop.name)
    assert code == Exit.OK
    assert "✓ completed" in out
    assert begun(flag) == ["order", "pay", "pay"]


def test_ctrl_c_hands_the_run_back(fresh_database: str, shop: Path, flag: Path, orphan: UUID, call: Call) -> None:
    """The command ends with 130, and the run is nobody's again."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flowbook.cli", "resume", "last", "-m", shop.name, "--url", fresh_database],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 20
    while begun(flag).count("pay") < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert process.returncode == Exit.INTERRUPTED
    assert "Traceback" not in error
    assert json.loads(call("show", "last", "--json")[1])["status"] == "pending"


def test_the_database_is_told_of(call: Call) -> None:
    """Status before and after the migration."""
    assert json.loads(call("db", "status", "--json")[1])["revision"] is None
    changed = json.loads(call("db", "upgrade", "--json")[1])
    assert (changed["before"], changed["after"]) == (None, changed["head"])
    status = json.loads(call("db", "status", "--json")[1])
    assert (status["up"], status["revision"], status["source"]) == (True, status["head"], "argument")


def test_psql_is_started_on_the_database(fresh_database: str, tmp_path: Path) -> None:
    """With what follows ``--``, and its exit code is handed on."""
    command = [sys.executable, "-m", "flowbook.cli", "db", "psql", "--url", fresh_database, "--", "-Atc"]
    env = os.environ | {"FLOWBOOK_HOME": str(tmp_path)}
    done = subprocess.run([*command, "select 40 + 2"], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr
    assert subprocess.run([*command, "nonsense"], env=env, capture_output=True, check=False).returncode == 1


def test_a_database_that_is_not_there_ends_with_4(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """After the patience of a first connection, and with the password masked."""
    monkeypatch.setattr("flowbook.store.postgres.FIRST_CONNECTION", 0.2)
    monkeypatch.setenv("FLOWBOOK_HOME", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        main(["runs", "--url", "postgresql://ana:secret@127.0.0.1:1/none"])
    assert ended.value.code == Exit.DATABASE
    told = capsys.readouterr().err
    assert "error [FB401]" in told
    assert "secret" not in told


@pytest.fixture
def own_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home for a server of this test's own; directly under /tmp, where any account can go."""
    home = Path(tempfile.mkdtemp(prefix="fbcli-", dir="/tmp"))
    home.chmod(0o711)
    for name in ("FLOWBOOK_DATABASE_URL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FLOWBOOK_HOME", str(home))
    yield home
    from flowbook.store.embedded import Cluster

    Cluster(home).down()
    shutil.rmtree(home, ignore_errors=True)


@pytest.mark.slow
def test_the_embedded_server_stays_up_until_it_is_put_down(own_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Longer than the grace that follows its last client; and down means that nothing of it is left."""
    from flowbook.cli.holder import holding

    def command(*arguments: str) -> tuple[int, Any]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--json"])
        return int(ended.value.code or 0), json.loads(capsys.readouterr().out)

    assert command("db", "up")[0] == Exit.OK
    assert holding(own_home)
    assert command("db", "up")[0] == Exit.OK
    assert command("runs") == (Exit.OK, [])
    time.sleep(7)
    code, status = command("db", "status")
    assert (code, status["up"], status["home"]) == (Exit.OK, True, str(own_home))
    assert command("db", "url")[1]["url"].startswith("postgresql://")
    assert command("db", "down") == (Exit.OK, {"up": False, "was_up": True, "home": str(own_home)})
    deadline = time.monotonic() + 5
    while holding(own_home):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert command("db", "status")[0] == Exit.DATABASE


def test_a_run_is_forked(call: Call, shop: Path, flag: Path, orphan: UUID) -> None:
    """With an edited state; what came before the step is not run again, and the lineage is told."""
    flag.write_text("ok")
    Path(f"{flag}.log").write_text("")
    code, out, _ = call("fork", "last", "--at", "pay#1", "price=9", "--module", shop.name, "--json")
    fork = json.loads(out)
    assert (code, fork["status"], fork["steps"][-1]["result"]) == (Exit.OK, "completed", {"paid": 9})
    assert fork["lineage"] == [fork["id"], str(orphan)]
    assert (fork["forked"]["at"], fork["forked"]["edits"], fork["steps"][0]["kept"]) == ("pay#1", {"price": 9}, True)
    assert begun(flag) == ["pay"]
    out = call("show", fork["id"])[1]
    assert f"lineage: {fork['id']} <- {orphan}" in out
    assert f"forked from {orphan.hex[-8:]} at pay#1" in out
    assert call("journal", fork["id"])[1].split()[0] == "0"


def test_a_fork_is_made_from_stored_source_and_left_to_others(call: Call, shop: Path, orphan: UUID) -> None:
    """Signed with this user's key; a step that the run never came to is named with those that it did."""
    code, out, _ = call("fork", str(orphan), "--at", "order#1", "--pending", "--json")
    fork = json.loads(out)
    assert (code, fork["status"], fork["steps"]) == (Exit.OK, "pending", [])
    code, out, error = call("fork", str(orphan), "--at", "refund#1", "--pending")
    assert (code, out) == (Exit.USAGE, "")
    assert "It came to: order#1, pay#1" in error


def test_two_runs_are_compared(call: Call, shop: Path, flag: Path, orphan: UUID) -> None:
    """From stored source; on one line per step, or as JSON."""
    flag.write_text("ok")
    call("resume", str(orphan), "--module", shop.name)
    fork = json.loads(call("fork", str(orphan), "--at", "pay#1", "price=9", "--module", shop.name, "--json")[1])["id"]
    code, out, _ = call("diff", str(orphan), fork)
    assert code == Exit.OK
    assert "first difference at pay#1: input price, result; 1 step alike" in out
    assert "state paid: 7 -> 9" in out
    found = json.loads(call("diff", str(orphan), fork, "--json")[1])
    assert (found["first"], found["alike"], found["same"]) == ("pay#1", 1, False)
    assert found["state"] == [
        {"key": "price", "in_a": True, "in_b": True, "a": 7, "b": 9},
        {"key": "paid", "in_a": True, "in_b": True, "a": 7, "b": 9},
    ]
    assert json.loads(call("diff", fork, fork, "--json")[1])["same"]


def test_schedules_queues_and_dead_letters_are_looked_after_from_a_terminal(shop: Path, call: Call) -> None:
    """A schedule is added, listed, paused, backfilled and removed; a queue is limited; failed runs are retried."""
    code, out, err = call(
        "schedule", "add", "shop", "-m", shop.name, "--cron", "0 6 * * *", "--tz", "Europe/Berlin", "-p", "flag",
        "{{ fire_time | date }}", "--queue", "night", "--json",
    )  # fmt: skip
    assert code == Exit.OK, err
    made = json.loads(out)
    assert [at[11:19] for at in made["next"]] == ["06:00:00"] * 3
    assert (made["input"], made["fingerprint"]) == ({"flag": "{{ fire_time | date }}"}, None)
    assert "paused" in call("schedule", "pause", "shop")[1]
    assert "paused" in call("schedule", "list")[1]
    code, out, _ = call("schedule", "backfill", "shop", "--since", "2026-03-01", "--until", "2026-03-03", "--json")
    assert [fire["verdict"] for fire in json.loads(out)] == ["started"] * 2
    assert len(json.loads(call("schedule", "history", "shop", "--json")[1])) == 2
    assert call("queues", "night", "--limit", "1")[0] == Exit.OK
    (night,) = json.loads(call("queues", "--json")[1])
    assert (night["queue"], night["waiting"], night["running"], night["limit"]) == ("night", 2, 0, 1)
    assert call("queues", "night")[0] == Exit.USAGE
    assert call("schedule", "remove", "shop")[0] == Exit.OK
    assert call("schedule", "next", "shop")[0] == Exit.USAGE
    code, _, err = call("schedule", "add", "shop", "--cron", "0 25 * * *")
    assert code == Exit.USAGE
    assert "FB740" in err

    Path("bad").write_text("broken")
    assert call("start", "shop", "flag=bad", "--here")[0] == Exit.RUN
    (letters,) = json.loads(call("dead", "--json")[1])["letters"]
    assert (letters["flow"], letters["count"]) == ("shop", 1)
    assert "the bank says no" in letters["error"]
    assert "1 of 1 are retried" in call("dead", "--match", "bank", "--retry")[1]
    assert json.loads(call("dead", "--json")[1])["letters"] == []
