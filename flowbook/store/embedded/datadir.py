"""Making a new cluster: ``initdb``, the database, the password.

Owns: the one moment in which a folder ``pg18/`` comes to be. Refuses: touching a folder that exists already, and
weakening durability: what initdb writes unsynced is synced before the folder gets its name.

Everything is made in ``.pg18.PID`` and appears by one rename. A crash before it leaves a folder that the next start
deletes, a crash after it leaves a complete cluster; there is no state in between to recognise.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from pathlib import Path

from flowbook.errors import EmbeddedUnavailable
from flowbook.store.embedded.account import Account
from flowbook.store.embedded.binaries import Binaries
from flowbook.store.embedded.layout import DATABASE, ROLE, Cell, cell, replace_file

_TIMEOUT = 120.0  # seconds for one program; a slow network disk needs some


def server_env() -> dict[str, str]:
    """The environment of every Postgres program: nothing of the user's.

    ``PG*`` variables would redirect it, locale variables would decide about sorting, and secrets of the
    notebook have no business in a process that outlives it.
    """
    kept = ("PATH", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    return {k: v for k, v in os.environ.items() if k in kept} | {"LC_ALL": "C", "TZ": "UTC"}


def ensure(seat: Path, binaries: Binaries, account: Account) -> Cell:
    """The cell of ``binaries.major`` below ``seat``, made if it is not there. The caller holds the supervisor's lock.

    Raises ``EmbeddedUnavailable`` with the program's own words when a program fails, or when
    a folder is there and has no data in it.
    """
    home = cell(seat, binaries.major)
    for left in seat.glob(f".pg{binaries.major}.*"):
        shutil.rmtree(left, ignore_errors=True)
    if home.path.exists():
        if not (home.data / "PG_VERSION").exists():
            raise EmbeddedUnavailable(f"{str(home.path)!r} has no database in it; move it away or restore it")
        return home
    half = Cell(seat / f".pg{binaries.major}.{os.getpid()}")
    try:
        _make(half, binaries, account)
        half.path.rename(home.path)
        _sync(seat)
    except BaseException:
        shutil.rmtree(half.path, ignore_errors=True)
        raise
    return home


def _make(half: Cell, binaries: Binaries, account: Account) -> None:
    half.path.mkdir(mode=0o711)
    half.path.chmod(0o711)  # whatever the umask: the account must pass through to data/
    half.data.mkdir(mode=0o700)
    account.give(half.data)
    password = secrets.token_hex(24)  # hex: goes into a URL as it is
    replace_file(half.password, password)
    for_initdb = half.path / "password.initdb"
    replace_file(for_initdb, password, account)
    locale = ["--locale=C"]
    if binaries.major >= 17:
        locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    _run(
        [
            binaries.program("initdb"),
            "-D",
            str(half.data),
            "-U",
            ROLE,
            "-E",
            "UTF8",
            *locale,
            "--no-sync",
            "--no-instructions",
            "--auth-local=scram-sha-256",
            "--auth-host=scram-sha-256",
            f"--pwfile={for_initdb}",
        ],
        account,
    )
    for_initdb.unlink()
    # Single-user mode needs no server, no socket and no client program.
    _run(
        [
            binaries.program("postgres"),
            "--single",
            "-F",
            "-j",
            "-c",
            "exit_on_error=true",
            "-D",
            str(half.data),
            "postgres",
        ],
        account,
        typed=f"CREATE DATABASE {DATABASE}\n",
    )
    _run([binaries.program("initdb"), "--sync-only", "-D", str(half.data)], account)
    _sync(half.path)


def _run(command: list[str], account: Account, *, typed: str = "") -> None:
    try:
        done = subprocess.run(
            command,
            input=typed,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            cwd="/",
            env=server_env(),
            check=False,
            **account.run_as(),
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedUnavailable(f"{command[0]!r} could not be run as {account.name!r}: {error}") from error
    if done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip())[-1500:]
        raise EmbeddedUnavailable(f"{command[0]!r} ended with {done.returncode} as {account.name!r}: {words}")


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
