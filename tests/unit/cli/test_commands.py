"""The command line without a database: what it takes, what it says, what it ends with."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from flowbook.cli import main
from flowbook.cli.exits import MEANING, Exit, exit_of, exit_of_status
from flowbook.errors import (
    BadDatabaseUrl,
    CodeMissing,
    FlowbookError,
    KeyConflict,
    NotConnected,
    RunNotFound,
    SignatureRefused,
    StoreUnavailable,
)
from flowbook.plan.records import Status

COMMANDS = [
    ["runs"], ["show"], ["journal"], ["resume"], ["retry"], ["cancel"],
    ["plan"], ["prove"], ["promote"], ["export"],
    ["worker"], ["start"], ["flows"], ["dead"], ["queues"], ["definitions"], ["define"], ["undefine"],
    *(["schedule", verb] for verb in ("add", "list", "pause", "resume", "remove", "next", "history", "backfill")),
    ["db", "up"], ["db", "down"], ["db", "status"], ["db", "upgrade"], ["db", "url"], ["db", "psql"],
    ["db", "gc"], ["doctor"],
]  # fmt: skip


def call(*arguments: str) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No database of the developer's is ever meant."""
    monkeypatch.delenv("FLOWBOOK_DATABASE_URL", raising=False)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("FLOWBOOK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "120")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_with_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """``--help`` ends with 0, shows a line to be copied, and all but psql offer ``--json``."""
    assert call(*command, "--help") == Exit.OK
    text = capsys.readouterr().out
    assert f"Example:  flowbook {' '.join(command)}" in text or "$(flowbook db url)" in text
    assert ("--json" in text) is (command != ["db", "psql"])


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    """Typing ``flowbook --help`` imports no database driver, no notebook and no numbers."""
    code = (
        "import sys\nfrom flowbook.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'asyncpg', 'sqlalchemy', 'alembic', 'IPython', 'ipywidgets', 'numpy', 'pandas', 'asyncio'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "HEAVY []" in done.stdout


def test_the_module_is_the_script() -> None:
    """``python -m flowbook.cli`` is the same command."""
    done = subprocess.run(
        [sys.executable, "-m", "flowbook.cli", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("flowbook ")


@pytest.mark.parametrize(
    "typed",
    [
        ["nonsense"],
        ["runs", "--bogus"],
        ["runs", "--limit", "0"],
        ["show"],
        ["resume", "last", "--allow-source"],
        ["resume", "last", "extra"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_taken_ends_with_2(typed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Usage errors are told on standard error, before any database is looked for."""
    assert call(*typed) == Exit.USAGE
    captured = capsys.readouterr()
    assert captured.err
    assert not captured.out


@pytest.mark.parametrize(
    "error, code",
    [
        (RunNotFound("x"), Exit.NOT_FOUND),
        (CodeMissing("x"), Exit.CODE),
        (SignatureRefused("x"), Exit.CODE),
        (StoreUnavailable("x"), Exit.DATABASE),
        (BadDatabaseUrl("x"), Exit.DATABASE),
        (NotConnected("x"), Exit.USAGE),
        (KeyConflict("x"), Exit.RUN),
    ],
)
def test_each_family_of_errors_has_its_exit_code(error: FlowbookError, code: Exit) -> None:
    """Scripts tell them apart without reading."""
    assert exit_of(error) is code


def test_the_exit_code_says_how_the_run_ended() -> None:
    """Failed and cancelled runs are told from completed ones, and unfinished ones are no failure."""
    bad = {s for s in Status if exit_of_status(s) is Exit.RUN}
    assert bad == {Status.FAILED, Status.CANCELLED, Status.SUPERSEDED}


def test_an_error_has_its_code_and_advice_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """A URL that is none is told in a line, with its password masked."""
    assert call("runs", "--url", "mysql://ana:secret@host/db") == Exit.DATABASE
    captured = capsys.readouterr()
    assert captured.err.startswith("error [FB405] ")
    assert "secret" not in captured.err
    assert "Traceback" not in captured.err
    assert not captured.out


def test_an_error_can_be_had_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """With ``--json`` standard error has one document and standard output nothing."""
    assert call("show", "abc", "--json", "--url", "mysql://host/db") == Exit.DATABASE
    captured = capsys.readouterr()
    told = json.loads(captured.err)
    assert told["exit"] == Exit.DATABASE
    assert set(told["error"]) == {"code", "type", "message", "advice"}
    assert told["error"]["code"] == "FB405"
    assert not captured.out


def test_up_and_down_are_for_the_embedded_server_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else's Postgres is neither started nor stopped."""
    monkeypatch.setenv("DATABASE_URL", "postgres://ana:secret@db.example.org/flows")
    for verb in ("up", "down"):
        assert call("db", verb) == Exit.USAGE
        told = capsys.readouterr().err
        assert "DATABASE_URL" in told
        assert "secret" not in told


def test_status_starts_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Asking for the database's status in an empty home leaves it empty, and says that it is down."""
    assert call("db", "status", "--json") == Exit.DATABASE
    told = json.loads(capsys.readouterr().out)
    assert told["up"] is False
    assert told["source"] == "embedded"
    assert told["trouble"]
    assert not (tmp_path / "home").exists()


class Terminal(io.StringIO):
    """Standard output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_url_is_whole_in_a_pipe_and_masked_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``psql "$(flowbook db url)"`` works, and a pasted terminal gives nothing away."""
    given = ["db", "url", "--url", "postgres://ana:se%2Fcret@db.example.org/flows"]
    assert call(*given) == Exit.OK
    assert capsys.readouterr().out == "postgresql://ana:se%2Fcret@db.example.org/flows\n"
    for more, whole in (([], False), (["--show-password"], True)):
        screen = Terminal()
        monkeypatch.setattr(sys, "stdout", screen)
        assert call(*given, *more) == Exit.OK
        assert ("cret" in screen.getvalue()) is whole


def test_the_documents_have_the_exit_codes() -> None:
    """docs/cli.md has the table that the code has."""
    text = (Path(__file__).parents[3] / "docs" / "cli.md").read_text(encoding="utf-8")
    for code, meaning in MEANING.items():
        assert f"| {code.value} | {meaning} |" in text
    assert set(MEANING) == set(Exit)
