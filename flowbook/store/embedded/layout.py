"""What lies where in a home, and the record of the running server.

Owns: the names of all files, the default home, ``server.json`` and the folder for the socket. Refuses: starting things.

    HOME/                    the folder that clients know
      boot.lock clients.lock supervisor.lock      see locks.py
      server.json            the running server, 0600; missing while none runs
      stopped                left by ``down``: nobody revives the server until somebody attaches anew
      supervisor.log
      seat                   only where root's data must lie elsewhere, see account.py
    SEAT/                    almost always HOME itself
      run/                   the unix socket
      bin/                   copied binaries, if any
      pg18/                  one folder per Postgres major
        data/ password port postgres.log
"""

from __future__ import annotations

import json
import os
import stat
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from flowbook.store.embedded.account import ROOT_HOME, Account
from flowbook.store.embedded.locks import FileLock

ROLE = "postgres"  # a role named like the schema would shadow it: Postgres' search_path starts with "$user"
DATABASE = "flowbook"
HOST = "127.0.0.1"
# sun_path is 104 bytes on macOS and 108 on Linux, with its final NUL; the name is at most "/.s.PGSQL.65535".
_LONGEST_SOCKET_FOLDER = 103 - len("/.s.PGSQL.65535")


def default_home() -> Path:
    """Where the embedded database lives unless someone says otherwise; creates nothing.

    ``/var/lib/flowbook`` for root, else the platform's folder for user data (``~/.local/share/flowbook``,
    ``~/Library/Application Support/flowbook``, ``~/AppData/Local/flowbook``).
    """
    if sys.platform == "win32":
        return Path.home() / "AppData" / "Local" / "flowbook"
    if os.geteuid() == 0:
        return ROOT_HOME
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "flowbook"
    return Path.home() / ".local" / "share" / "flowbook"


@dataclass(frozen=True)
class Home:
    """The paths of one home."""

    path: Path
    """Absolute."""

    @property
    def record(self) -> Path:
        """``server.json``."""
        return self.path / "server.json"

    @property
    def stopped(self) -> Path:
        """The mark that ``down`` leaves."""
        return self.path / "stopped"

    @property
    def log(self) -> Path:
        """What the supervisor has to say."""
        return self.path / "supervisor.log"

    def lock(self, name: str) -> FileLock:
        """The lock ``boot``, ``clients`` or ``supervisor``; nothing is taken yet."""
        return FileLock(self.path / f"{name}.lock")


@dataclass(frozen=True)
class Cell:
    """The folder of one Postgres major below a seat."""

    path: Path

    @property
    def data(self) -> Path:
        """``PGDATA``."""
        return self.path / "data"

    @property
    def password(self) -> Path:
        """The password of the role, readable by the owner of the home only."""
        return self.path / "password"

    @property
    def port(self) -> Path:
        """The port of last time, used again so that URLs survive a restart."""
        return self.path / "port"

    @property
    def log(self) -> Path:
        """What Postgres has to say."""
        return self.path / "postgres.log"


def cell(seat: Path, major: int) -> Cell:
    """The folder for ``major``."""
    return Cell(seat / f"pg{major}")


def majors(seat: Path) -> list[int]:
    """The majors that have a folder in ``seat``."""
    return sorted(int(p.name[2:]) for p in seat.glob("pg*") if p.name[2:].isdigit())


@dataclass(frozen=True)
class Record:
    """What ``server.json`` says: enough to shake hands and to build the URL."""

    port: int
    """TCP port on loopback, and the number in the socket's name."""
    sockets: str
    """Folder of the unix socket."""
    cell: str
    """Folder of the running major."""
    major: int
    source: str
    """``wheel`` or ``system``."""

    def write(self, to: Path) -> None:
        """Replace the file at ``to`` in one step, mode 0600."""
        replace_file(to, json.dumps(asdict(self)))

    @staticmethod
    def read(path: Path) -> Record | None:
        """The record, or nothing when there is no (readable, complete) file."""
        try:
            return Record(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None


def replace_file(path: Path, text: str, account: Account | None = None) -> None:
    """Write ``text`` to ``path`` so that readers see the old or the new whole; mode 0600, owned by ``account``."""
    half = path.with_name(f".{path.name}.{os.getpid()}")
    half.unlink(missing_ok=True)
    fd = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as out:
        out.write(text)
    if account is not None:
        account.give(half)
    half.rename(path)


def socket_folder(seat: Path, account: Account) -> Path:
    """A folder of the account, mode 0700, short enough for a unix socket; created when missing.

    ``seat/run``, or a fresh folder below the system's temporary one when that path is too long or has a character
    that Postgres' list of socket folders would take for a separator.
    """
    direct = seat / "run"
    if len(os.fsencode(direct)) <= _LONGEST_SOCKET_FOLDER and not set(',"') & set(str(direct)):
        direct.mkdir(mode=0o700, exist_ok=True)
        account.give(direct)
        return direct
    note = seat / "run.path"
    if note.exists():
        known = Path(note.read_text(encoding="utf-8"))
        if _is_private(known, account):
            return known
    base = "/tmp" if os.access("/tmp", os.W_OK | os.X_OK) else None  # TMPDIR may itself be too long
    # A random name: a foreseeable one could be made by somebody else before us.
    fresh = Path(tempfile.mkdtemp(prefix="flowbook-", dir=base))
    account.give(fresh)
    replace_file(note, str(fresh))
    return fresh


def _is_private(folder: Path, account: Account) -> bool:
    try:
        info = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(info.st_mode) and info.st_uid == account.uid and stat.S_IMODE(info.st_mode) == 0o700
