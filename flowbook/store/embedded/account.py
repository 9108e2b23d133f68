"""Which account runs Postgres, and where its files may lie.

Owns: the choice of an unprivileged account for root (Postgres refuses to run as root), and the *seat*: the folder that
holds data, sockets and copied binaries. Refuses: adding users, changing the mode of any folder that is not the home
itself, and setuid helpers: the account is entered by ``Popen(user=, group=, extra_groups=[])``.

For an ordinary user there is no choice to make: the account is the user and the seat is the home.
"""

from __future__ import annotations

import os
import secrets
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from flowbook.errors import EmbeddedUnavailable

if sys.platform != "win32":
    import pwd

ROOT_HOME = Path("/var/lib/flowbook")
_CANDIDATES = ("postgres", "nobody")


class RunAs(TypedDict, total=False):
    """What is handed on to ``subprocess.Popen``; empty when no change of account is needed."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class Account:
    """A uid and gid that Postgres runs under."""

    uid: int
    gid: int
    name: str
    """For messages; the uid as text where the account has no name."""
    switch: bool
    """Whether this process must change account to become it, which only root can."""

    def run_as(self) -> RunAs:
        """Arguments for ``subprocess.Popen`` / ``run``."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.switch else {}

    def give(self, path: Path) -> None:
        """Make ``path`` (one file or folder, not its contents) belong to the account."""
        if self.switch:
            os.chown(path, self.uid, self.gid)

    def may_enter(self, folder: Path) -> bool:
        """Whether the account can walk into ``folder`` and all folders above it, judged by owner, group and mode."""
        for part in (folder, *folder.parents):
            info = part.stat()
            if info.st_uid == self.uid:
                allowed = info.st_mode & stat.S_IXUSR
            elif info.st_gid == self.gid:
                allowed = info.st_mode & stat.S_IXGRP
            else:
                allowed = info.st_mode & stat.S_IXOTH
            if not allowed:
                return False
        return True


def service_account(owner: int | None = None) -> Account:
    """The account for this process: itself, or an unprivileged one for root.

    ``owner``: uid that existing data belongs to; root keeps to it, since Postgres refuses data of another owner.
    Raises ``EmbeddedUnavailable`` for root on a machine without any of the usual accounts.
    """
    if sys.platform == "win32":
        raise EmbeddedUnavailable(
            "the embedded Postgres does not run on Windows; set FLOWBOOK_DATABASE_URL to a Postgres of your own"
        )
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), _name(os.geteuid()), switch=False)
    if owner:
        try:
            gid = pwd.getpwuid(owner).pw_gid
        except KeyError:
            gid = owner
        return Account(owner, gid, _name(owner), switch=True)
    for name in _CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid, name, switch=True)
    raise EmbeddedUnavailable(
        f"Postgres does not run as root and this machine has none of the accounts {_CANDIDATES!r}; "
        "start flowbook as an ordinary user or set FLOWBOOK_DATABASE_URL"
    )


def seat(home: Path, account: Account) -> Path:
    """The folder for data, sockets and copied binaries of ``home``; created when it is missing.

    It is the home itself wherever the account can go there. Root's home often lies in a folder closed to everybody
    else (``/root``): then the seat is made under ``/var/lib/flowbook/homes`` and its path is written to ``home/seat``.
    If that path is gone later (a container was replaced, its volume kept), that is an error, not an empty database.
    Raises ``EmbeddedUnavailable`` then, and ``OSError`` where a folder cannot be made.
    """
    note = home / "seat"
    if note.exists():
        there = Path(note.read_text(encoding="utf-8").strip())
        if not there.is_dir():
            raise EmbeddedUnavailable(
                f"the data of {str(home)!r} was kept in {str(there)!r}, which is gone; bring it back, "
                f"or delete {str(note)!r} to start with an empty database"
            )
        return there
    if not account.switch:
        return home
    if account.may_enter(home.parent):
        home.chmod(stat.S_IMODE(home.stat().st_mode) | stat.S_IXOTH)  # pass through, not list
        return home
    there = ROOT_HOME / "homes" / secrets.token_hex(6)
    there.mkdir(mode=0o711, parents=True)
    for folder in (there, there.parent, ROOT_HOME):
        if folder.stat().st_uid == os.geteuid() and not account.may_enter(folder):
            folder.chmod(0o711)  # ours, made a moment ago under a strict umask
    (there / "home").write_text(f"{home}\n", encoding="utf-8")
    half = home / f"seat.{os.getpid()}"
    half.write_text(f"{there}\n", encoding="utf-8")
    half.rename(note)
    return there


def _name(uid: int) -> str:
    if sys.platform == "win32":
        return str(uid)
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
