"""What an open live view costs a run at full speed: the same work in a real kernel, with a view and without.

Owns: the two loads (one long run; W2's many short runs beside a long one), their interleaving, the numbers. Refuses:
the page's side, which a real browser is asked about (`page.py`).

The kernel is a real one, so the view is made, watched and sent as in a notebook. What is judged is how much of a core
the view takes: CPU time that a load takes more with a view than without, per second of watching. A run at full speed is
bound by the one core that its loop and Python's lock leave it, so that share is what it loses. Ratios of speed are told
and not judged: where other work shares the machine, a run is slow and the view is not.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import common as c

ROUNDS = 6
LONG = 5000
"""Steps of the long run: several seconds, so that what a display costs once counts as what it is."""
SETTLE = 0.4
"""Seconds after a load in which what it has left to do is counted as well: a last picture comes late."""
RUNS, STEPS = 200, 5

CELL = """\
import asyncio, json, sys, time
sys.path.insert(0, {here!r})
import live
print("MEASURED " + json.dumps(live.measured({url!r}, {load!r}, {shown!r})))
"""


def measured(url: str, load: str, shown: bool) -> dict[str, float]:
    """Inside the kernel: one load, with or without a live view of its long run; seconds of CPU and wall, and steps."""
    from IPython import get_ipython

    import flowbook as fb
    from flowbook.graph import launch

    ip = get_ipython()
    if "flowbook" not in ip.extension_manager.loaded:
        os.environ["FLOWBOOK_DATABASE_URL"] = url
        ip.run_line_magic("load_ext", "flowbook")

        @fb.step
        async def work(i: int) -> dict[str, int]:
            return {"i": i + 1}

        again = fb.branch(lambda s: s.i < s.n, {True: work, False: fb.END})
        ip.user_ns["chain"] = fb.graph("chain", work >> again, recursion_limit=10 * LONG)
        _finish(ip.user_ns["chain"].start(i=0, n=50))
    chain = ip.user_ns["chain"]
    app: Any = launch.current()
    time.sleep(SETTLE)
    cpu, wall = time.process_time(), time.perf_counter()
    steps = LONG
    run = chain.start(i=0, n=LONG)
    if shown:
        app.display(run)
    if load == "many":
        steps += RUNS * STEPS
        for started in [chain.start(i=0, n=STEPS) for _ in range(RUNS)]:
            _finish(started)
    _finish(run)
    wall = time.perf_counter() - wall
    time.sleep(SETTLE)
    return {"cpu": time.process_time() - cpu, "wall": wall, "steps": steps}


def _finish(run: Any) -> None:
    run.result(timeout=300)


async def live(ctx: c.Ctx) -> dict[str, Any]:
    """Both loads, `ROUNDS` pairs each; the medians of what a pair differs by."""
    from jupyter_client.manager import start_new_kernel

    c.fresh_db(ctx.db)
    manager, client = start_new_kernel(kernel_name="python3", extra_arguments=["--HistoryManager.enabled=False"])
    found: dict[str, Any] = {}
    try:
        for load in ("long", "many"):
            pairs: dict[bool, list[dict[str, float]]] = {False: [], True: []}
            for number in range(ctx.size(ROUNDS)):
                for shown in (False, True) if number % 2 else (True, False):
                    pairs[shown].append(_cell(client, ctx.url, load, shown))
            found |= {f"{load}_{what}": value for what, value in _told(pairs[True], pairs[False]).items()}
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    return found


def _told(shown: list[dict[str, float]], hidden: list[dict[str, float]]) -> dict[str, float]:
    more = [w["cpu"] - o["cpu"] for w, o in zip(shown, hidden, strict=True)]
    speed = [(w["steps"] / w["wall"]) / (o["steps"] / o["wall"]) for w, o in zip(shown, hidden, strict=True)]
    share = [m / w["wall"] for m, w in zip(more, shown, strict=True)]
    return {
        "core_percent": round(100 * statistics.median(share), 2),
        "speed_ratio": round(statistics.median(speed), 3),
        "cpu_us_per_step": round(statistics.median(1e6 * o["cpu"] / o["steps"] for o in hidden), 1),
        "steps_per_s": round(statistics.median(o["steps"] / o["wall"] for o in hidden), 1),
    }


def _cell(client: Any, url: str, load: str, shown: bool) -> dict[str, float]:
    """Run the cell as a page would; what it printed. Raises SystemExit with its traceback."""
    code = CELL.format(here=str(Path(__file__).resolve().parent), url=url, load=load, shown=shown)
    said: list[str] = []

    def hear(message: Any) -> None:
        content = message["content"]
        said.append(content.get("text", "") or "\n".join(content.get("traceback", [])))

    reply = client.execute_interactive(code, allow_stdin=True, timeout=600, output_hook=hear)
    text = "".join(said)
    if reply["content"]["status"] != "ok":
        raise SystemExit(text[-4000:])
    told: dict[str, float] = json.loads(text.partition("MEASURED ")[2].splitlines()[0])
    return told


if __name__ == "__main__":
    c.main("live", ["flowbook-jupyter", "ipykernel"], {"LIVE": live})
