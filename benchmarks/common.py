"""What the benchmark scripts share: the command line, fresh databases, the counters of the server.

Owns: the interface that a peer script is written against (the same as the peers' harness has, so that either can run
the other's scripts). Refuses: workloads. Only the standard library and the ``psql`` program are used.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Self

W1_STEPS = 100
W2_RUNS, W2_STEPS, W2_CONCURRENCY = 1000, 5, 64
W5_SAMPLES = 30
W6_SIZES = (100, 1000, 5000)
W8_SAMPLES = 5


def dsn(db: str) -> str:
    """Where a database of the server under test is."""
    env = os.environ
    return f"postgresql://{env.get('PGUSER', 'postgres')}@{env.get('PGHOST', '127.0.0.1')}:{env['PGPORT']}/{db}"


def psql(sql: str, db: str = "postgres") -> list[list[str]]:
    """Rows of a statement, as texts."""
    command = [os.environ.get("PSQL", "psql"), "-XAtq", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-d", dsn(db), "-c", sql]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [line.split("\t") for line in done.stdout.splitlines()]


def fresh_db(db: str) -> None:
    """An empty database of this name."""
    psql(f'drop database if exists "{db}" with (force)')
    psql(f'create database "{db}"')


def ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


@dataclass
class Ctx:
    """What a workload is called with."""

    peer: str
    db: str
    n: int = 0
    """Size, where the default is not wanted."""
    opts: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return dsn(self.db)

    @property
    def flags(self) -> list[str]:
        """The same database and options for a child."""
        return ["--db", self.db, *(x for k, v in self.opts.items() for x in ("-o", f"{k}={v}"))]

    def size(self, default: int) -> int:
        return self.n or default


class Timer:
    """``with Timer() as t``: ``t.s`` seconds."""

    def __enter__(self) -> Self:
        self._began = time.perf_counter()
        self.s = 0.0
        return self

    def __exit__(self, *exc: object) -> None:
        self.s = time.perf_counter() - self._began


def kill_self() -> None:
    """Die as by power loss."""
    os.kill(os.getpid(), signal.SIGKILL)


def since_spawn() -> float:
    """Seconds since the parent started this process."""
    return time.time() - float(os.environ["BENCH_T0"])


def child(script: str, *args: str, env: dict[str, str] | None = None, check: bool = True) -> dict[str, Any]:
    """This script again in a process of its own; its answer, or nothing if it was killed."""
    done = subprocess.run(
        [sys.executable, script, *args], capture_output=True, text=True, env={**os.environ, **(env or {})}, check=False
    )
    if check and done.returncode:
        raise SystemExit(f"{script} {' '.join(args)} failed:\n{done.stderr[-4000:]}")
    answers = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return json.loads(answers[-1]) if answers else {}


def resume_growth(ctx: Ctx, script: str) -> dict[str, float]:
    """W6: killed in step N + 1, resumed in a new process; milliseconds until that step begins again."""
    out: dict[str, float] = {}
    for n in (ctx.n,) if ctx.n else W6_SIZES:
        fresh_db(ctx.db)
        child(script, "_migrate", *ctx.flags)
        child(script, "_crash", "--n", str(n), *ctx.flags, check=False)
        env = {"BENCH_T0": repr(time.time())}
        metrics = child(script, "_resume", "--n", str(n), *ctx.flags, env=env)["metrics"]
        for what in ("process_ms", "engine_ms", "rerun"):
            out[f"{what}_{n}"] = metrics[what]
    return out


def cold_start(ctx: Ctx, script: str, line: str) -> dict[str, float]:
    """W8: an import, and a whole process with its first run; medians in milliseconds."""

    def wall(*args: str) -> float:
        with Timer() as t:
            subprocess.run([sys.executable, *args], check=True, capture_output=True)
        return t.s

    child(script, "_migrate", *ctx.flags)
    samples = [(wall("-c", "pass"), wall("-c", line), wall(script, "_first", *ctx.flags)) for _ in range(W8_SAMPLES)]
    bare, imported, first = (statistics.median(column) for column in zip(*samples, strict=True))
    return {"import_net_ms": ms(imported - bare), "first_run_ms": ms(first)}


def sql_per_step(ctx: Ctx, script: str, small: int = 100, big: int = 600) -> dict[str, float]:
    """What one more step costs the server: W1 at two sizes, the difference divided by the steps between."""
    few, many = _counted(ctx, script, small), _counted(ctx, script, big)
    return {name: round((many[name] - few[name]) / (big - small), 3) for name in few}


def _counted(ctx: Ctx, script: str, n: int) -> dict[str, float]:
    psql("select pg_stat_statements_reset()")
    child(script, "W1", "--n", str(n), *ctx.flags)
    time.sleep(1.2)  # the server's statistics are up to a second behind
    calls, wal = psql(
        "select coalesce(sum(s.calls), 0), coalesce(sum(s.wal_bytes), 0) from pg_stat_statements s "
        f"join pg_database d on d.oid = s.dbid where s.toplevel and d.datname = '{ctx.db}'"
    )[0]
    commits = psql(f"select xact_commit from pg_stat_database where datname = '{ctx.db}'")[0][0]
    return {"statements": float(calls), "wal_bytes": float(wal), "commits": float(commits)}


def main(peer: str, packages: list[str], workloads: dict[str, Callable[[Ctx], Any]]) -> None:
    """The command line of a peer script: one workload, one line of JSON."""
    parser = argparse.ArgumentParser(description=f"workloads of {peer}")
    parser.add_argument("workload", choices=sorted(workloads))
    parser.add_argument("--n", type=int, default=0)
    parser.add_argument("-o", "--opt", action="append", default=[], help="key=value")
    parser.add_argument("--db", default=f"peer_{peer}")
    given = parser.parse_args()
    ctx = Ctx(peer, given.db, given.n, dict(o.split("=", 1) for o in given.opt))
    metrics = workloads[given.workload](ctx)
    if inspect.isawaitable(metrics):
        metrics = asyncio.run(_finished(metrics))
    versions = {p: version(p) for p in packages}
    print(json.dumps({"peer": peer, "versions": versions, "workload": given.workload, "metrics": metrics}), flush=True)


async def _finished(work: Any) -> Any:
    return await work
