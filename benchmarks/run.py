"""``make bench``: flowbook beside the physical limit, interleaved on one private Postgres, judged against its targets.

Owns: which scripts run, how often, the table, and the targets of the first slice. Refuses: absolute times as verdicts
(the machine is small and shared: only ratios of one round count).

Where the peers' folder lies beside the project (``../shared/peers``), its ``raw`` and ``floor`` take part; elsewhere
the project's own baseline does.

    make bench                      all workloads
    make bench ARGS="W2 --rounds 5"
    make bench ARGS="QUERY --size 1000000"
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from server import server

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent.parent / "shared" / "peers"
OWN = {
    **dict.fromkeys(("MAP", "MAPIN"), HERE / "map_memory.py"),
    "QUERY": HERE / "queries.py",
    "LIVE": HERE / "live.py",
    "KEEP": HERE / "checkpoints.py",
    "PAGE": HERE / "page.py",
    "AGENT": HERE / "agent.py",
}
"""Workloads that only we have, and their scripts."""
WORKLOADS = ("W1", "W2", "W5", "W6", "SQL", "IDLE", *OWN)
ONCE = ("W6", "SQL", "IDLE", *OWN)
Results = dict[tuple[str, str], list[dict[str, Any]]]


def scripts() -> dict[str, Path]:
    """Who takes part, by name; the limit first."""
    ours = {"flowbook": HERE / "peer_flowbook.py"}
    if not (PEERS / "peer_raw.py").exists():
        return {"baseline": HERE / "baseline.py", **ours}
    floor = {"floor": PEERS / "peer_floor.py"} if find_spec("orjson") else {}
    return {"raw": PEERS / "peer_raw.py", **floor, **ours}


def measure(name: str, script: Path, workload: str, env: dict[str, str], size: int = 0) -> dict[str, Any]:
    """One script on one workload; ``size``: 0: its own. Raises SystemExit with its words if it fails."""
    options = ["-o", "mode=group"] if (name, workload) == ("raw", "W2") else []
    options += ["--n", str(size)] if size else []
    done = subprocess.run(
        [sys.executable, str(script), workload, *options],
        capture_output=True, text=True, env=env, cwd=script.parent, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{name} failed on {workload}:\n{done.stderr[-3000:]}")
    metrics: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])["metrics"]
    metrics.pop("top", None)
    return metrics


def verdicts(results: Results, limit: str) -> Iterator[tuple[str, str, bool]]:
    """(target, measured, held)."""
    sql = results.get(("flowbook", "SQL"))
    if sql:
        for what, most in (("statements", 1.05), ("commits", 1.05), ("wal_bytes", 400.0)):
            value = statistics.median(m[what] for m in sql)
            yield f"{what} per step <= {most:g}", f"{value:g}", value <= most
    mine, theirs = results.get(("flowbook", "W2")), results.get((limit, "W2"))
    if mine and theirs:
        ratios = [t["steps_per_s"] / m["steps_per_s"] for m, t in zip(mine, theirs, strict=True)]
        best = max(t["steps_per_s"] for t in theirs) / max(m["steps_per_s"] for m in mine)
        ratio = statistics.median(ratios)
        yield f"W2 >= {limit} / 6", f"{limit} / {ratio:.2f} (best to best / {best:.2f})", ratio <= 6
    mine, theirs = results.get(("flowbook", "W5")), results.get((limit, "W5"))
    if mine and theirs:
        ratio = statistics.median(m["median_ms"] / t["median_ms"] for m, t in zip(mine, theirs, strict=True))
        yield f"W5: a signal is felt within 10x {limit}", f"{ratio:.1f}x", ratio <= 10
        p95 = statistics.median(m["across_p95_ms"] for m in mine)
        yield "W5: from another process within 50 ms (p95)", f"{p95:g} ms", p95 <= 50
    idle = results.get(("flowbook", "IDLE"))
    if idle:
        for what, most in (("cpu_percent", 1.0), ("statements_per_s", 5.0)):
            yield f"{idle[0]['parked']:,} parked runs: {what} < {most:g}", f"{idle[0][what]:g}", idle[0][what] < most
        median, latest = (idle[0][f"late_{what}_ms"] for what in ("median", "p95"))
        yield "timers among them: late by < 100 ms (p95)", f"{latest:g} ms (median {median:g} ms)", latest < 100
    for name, what in (("MAP", "results"), ("MAPIN", "items given")):
        large = results.get(("flowbook", name))
        if large:
            most, again = (max(m[k] for m in large for k in keys) for keys in (("mb_killed", "mb_resumed"), ("again",)))
            yield f"{name}: 100,000 {what} of 1 kB <= 200 MB", f"{most:g} MB, {again:g} items ran again", most <= 200
    lists = results.get(("flowbook", "QUERY"))
    if lists and lists[0]["runs"] >= 1_000_000:
        yield from _among_a_million(lists[0])
    elif lists:
        for verb in ("page", "cursor", "count", "summary"):
            value = max(m[f"{verb}_ms"] for m in lists)
            yield f"QUERY: {verb} among 100,000 runs < 50 ms", f"{value:g} ms", value < 50
    yield from _looked_at(results)
    yield from _kept(results)
    agent = results.get(("flowbook", "AGENT"))
    if agent:
        stored, later = agent[0]["stored_per_byte"], agent[0]["last_to_first"]
        yield "AGENT, 800 turns: stored <= 1.3x of the messages", f"{stored:g}x", stored <= 1.3
        first = agent[0]["first_token_p50_ms"]
        yield "AGENT: the first token is with its reader within 30 ms (p50)", f"{first:g} ms", first <= 30
        yield "AGENT: turn 800 <= 1.3x of turn 10 (CPU, with its request)", f"{later:g}x", later <= 1.3
    growth = results.get(("flowbook", "W6"))
    if growth:
        value = statistics.median(m["engine_ms_5000"] / m["engine_ms_100"] for m in growth)
        rerun = max(m[k] for m in growth for k in m if k.startswith("rerun"))
        yield "W6: 5,000 steps <= 1.5x of 100", f"{value:.2f}x, {rerun} steps ran again", value <= 1.5 and rerun == 0


def _among_a_million(found: dict[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """What has an index; orders by a time that is reckoned, and searches of texts, read every row and are told only."""
    for what in ("newest", "failed", "none", "flow", "metadata", "input", "current", "since"):
        value = found[f"page_{what}"]
        yield f"QUERY: page {what} among {found['runs']:,} runs < 20 ms", f"{value:g} ms", value < 20
    for what, most in (("cursor_ms", 20), ("first_ms", 20), ("count_flow", 20), ("summary_flow", 100)):
        value = found[what]
        yield f"QUERY: {what} among {found['runs']:,} runs < {most} ms", f"{value:g} ms", value < most


def _looked_at(results: Results) -> Iterator[tuple[str, str, bool]]:
    live = results.get(("flowbook", "LIVE"))
    if live:
        for load in ("long", "many"):
            share, speed = live[0][f"{load}_core_percent"], live[0][f"{load}_speed_ratio"]
            yield f"LIVE, {load}: a view takes < 5 % of a core", f"{share:g} % (speed x {speed:g})", share < 5
    page = results.get(("flowbook", "PAGE"))
    if page:
        for what, most in (("first_paint", 1000.0), ("lag_p95", 100.0), ("longest_task", 100.0)):
            value = page[0][what]
            yield f"PAGE, 500 nodes, 20,000 entries: {what} < {most:g} ms", f"{value:g} ms", value < most


def _kept(results: Results) -> Iterator[tuple[str, str, bool]]:
    keep = results.get(("flowbook", "KEEP"))
    if not keep:
        return
    it = keep[0]
    beside = f" (dill: {it['dill_ms']:g} ms, {it['dill_mb']:g} MB)" if "dill_ms" in it else ""
    for key, what, most in (
        ("apart_ms", "200 MB out of a cell's reach: it waits <= 20 ms", 20.0),
        ("reached_ms", "200 MB within its reach, unchanged: <= 150 ms", 150.0),
        ("column_ms", "16 MB of a frame of 192 MB changed: <= 100 ms", 100.0),
        ("cell_ms", "a small cell: <= 5 ms", 5.0),
        ("restore_first_ms", "1 GB restored: the first cell has run after < 1 s", 1000.0),
    ):
        yield f"KEEP: {what}", f"{it[key]:g} ms{beside if key == 'reached_ms' else ''}", it[key] <= most
    yield "KEEP: unchanged writes nothing", f"{it['unchanged_bytes']:,} B", it["unchanged_bytes"] < 20_000
    yield "KEEP: a changed column writes <= 1.2x of itself", f"{it['column_ratio']:g}x", it["column_ratio"] <= 1.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("workloads", nargs="*", default=list(WORKLOADS), help=f"{' '.join(WORKLOADS)} (all)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--size", type=int, default=0, help="how many (of steps, runs, ...), where a workload has a size"
    )
    given = parser.parse_args()
    console = Console()
    taking_part = scripts()
    limit = next(iter(taking_part))
    idle = {"flowbook": HERE / "idle.py"}
    results: Results = {}
    with server() as env:
        for workload in given.workloads:
            sides = idle if workload == "IDLE" else {"flowbook": OWN[workload]} if workload in OWN else taking_part
            for number in range(1 if workload in ONCE else given.rounds):
                for name, script in sides.items():
                    if name == "baseline" and workload == "W6":
                        continue  # it has nothing to resume
                    if script.parent == PEERS and workload == "SQL" and int(env["PGMAJOR"]) >= 18:
                        continue  # the peers' counters need an older server
                    metrics = measure(name, script, workload, env, given.size)
                    results.setdefault((name, workload), []).append(metrics)
                    shown = ", ".join(f"{k} {v:g}" for k, v in metrics.items() if isinstance(v, int | float))
                    console.print(f"[dim]{workload} round {number + 1}[/] {name}: {shown}", highlight=False)
    table = Table("target", "measured", "held")
    missed = 0
    for target, measured, held in verdicts(results, limit):
        table.add_row(target, measured, "[green]yes[/]" if held else "[red]no[/]")
        missed += not held
    console.print(table)
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
