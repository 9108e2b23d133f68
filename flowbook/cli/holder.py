"""The holder: what keeps the embedded Postgres up after ``flowbook db up`` has returned.

Owns: one attached process per home, without a terminal, that ends with ``flowbook db down``. Refuses: anything else; it
is a client of the server like any kernel, so a kernel's end never stops a server that was put up on purpose.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from flowbook.errors import EmbeddedUnavailable, FlowbookError
from flowbook.store.embedded import Cluster, Server
from flowbook.store.embedded.layout import Home
from flowbook.store.embedded.locks import is_held

_LOCK = "held"
_TICK = 0.25  # seconds between two looks


def holding(home: Path) -> bool:
    """Whether somebody keeps the server of this home up on purpose."""
    return is_held(Home(home.absolute()).lock(_LOCK).path)


def hold(home: Path) -> Server:
    """The running server, kept up until `Cluster.down`. Raises `EmbeddedUnavailable`."""
    cluster = Cluster(home)
    server = cluster.attach()  # here, so that what goes wrong is told here
    try:
        if not holding(home):
            subprocess.run(  # it forks and returns at once
                [sys.executable, "-m", "flowbook.cli.holder", str(cluster.home)],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C and a closed terminal pass by
                check=True,
            )
            deadline = time.monotonic() + 20.0
            while not holding(home):
                if time.monotonic() > deadline:
                    raise EmbeddedUnavailable(f"nothing could be left behind to keep {str(home)!r} up")
                time.sleep(0.02)
        return server
    finally:
        cluster.detach()


def stay(home: Path) -> int:
    """Be the holder: until the server is stopped on purpose, or its home is gone."""
    mine = Home(home).lock(_LOCK)
    cluster = Cluster(home)
    try:
        cluster.attach()
        if not mine.take(shared=False):
            return 0  # two were started at once
        while cluster.home.is_dir() and mine.in_place() and not Home(home).stopped.exists():
            time.sleep(_TICK)
    except FlowbookError:
        return 1
    finally:
        mine.release()
        cluster.detach()
    return 0


if __name__ == "__main__":
    # Before any thread or lock: whoever started it need not be its parent for long.
    if os.fork():
        os._exit(0)
    sys.exit(stay(Path(sys.argv[1])))
