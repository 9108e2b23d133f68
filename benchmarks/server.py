"""A Postgres to measure on: private, durable, with statement statistics.

Owns: starting and stopping it for the length of one benchmark. Refuses: tuning; durability and settings are
Postgres' defaults, so that ratios mean something elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flowbook.store.embedded.account import service_account
from flowbook.store.embedded.binaries import candidates, choose, placed
from flowbook.store.embedded.datadir import server_env

SETTINGS = """
listen_addresses = '127.0.0.1'
max_connections = 200
shared_preload_libraries = 'pg_stat_statements'
pg_stat_statements.max = 10000
pg_stat_statements.track = all
"""


@contextlib.contextmanager
def server() -> Iterator[dict[str, str]]:
    """Environment variables (PGHOST, PGPORT, PGUSER, PSQL) of a server that lives as long as the block."""
    home = Path(tempfile.mkdtemp(prefix="fbbench-"))
    home.chmod(0o711)
    account = service_account()
    # The peers' harness reads a column of pg_stat_wal that Postgres 18 no longer has, so an older one is preferred.
    older = next((b for b in candidates() if b.major < 18), None)
    binaries = placed(older or choose(()), account, home)
    data = home / "data"
    data.mkdir(mode=0o700)
    account.give(data)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    run: Any = {**account.run_as(), "env": server_env(), "cwd": "/"}
    subprocess.run(
        [binaries.program("initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8"],
        check=True, stdout=subprocess.DEVNULL, **run,
    )  # fmt: skip
    (data / "postgresql.auto.conf").write_text(SETTINGS)
    log = (home / "server.log").open("ab")
    process = subprocess.Popen(
        [binaries.program("postgres"), "-D", str(data), "-p", str(port), "-k", ""],
        stdout=log, stderr=log, stdin=subprocess.DEVNULL, **run,
    )  # fmt: skip
    env = {**os.environ, "PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "postgres",
           "PSQL": binaries.program("psql"),
           "PGMAJOR": str(binaries.major)}  # fmt: skip
    try:
        _until_ready(env, process)
        yield env
    finally:
        process.terminate()  # SIGTERM: waits for clients; every workload has closed its own by now
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()
        shutil.rmtree(home, ignore_errors=True)


def _until_ready(env: dict[str, str], process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        if process.poll() is not None:
            raise SystemExit("the benchmark's Postgres did not start")
        ask = [env["PSQL"], "-XAtqc", "create extension if not exists pg_stat_statements", "-d", "postgres"]
        if subprocess.run(ask, env=env, capture_output=True, check=False).returncode == 0:
            return
        time.sleep(0.05)
    raise SystemExit("the benchmark's Postgres did not answer within 10 s")
