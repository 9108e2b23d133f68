"""A large run on a page: 500 nodes, 20,000 journal entries, ten updates a second; what that takes.

Owns: the cells that make such a run and change it, and the numbers. Refuses: verdicts: the test judges what the page
itself does, `make bench ARGS=PAGE` also how long people wait.
"""

from __future__ import annotations

import re
import statistics
import time
from dataclasses import dataclass
from typing import Any

from tests.browser.lab import Lab, NotebookPage

NODES, ROUNDS, UPDATES = 500, 40, 50

MAKE = f"""\
import random, time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from flowbook.observe.folding import Folding
from flowbook.plan.events import StepFinished
from flowbook.plan.journal import to_entry
from flowbook.plan.records import Status
from flowbook.ports import RunRow
from flowbook.show import live as live_module
from flowbook.show.live import LiveRun

pick = random.Random(7)
ways = {{i: [] for i in range({NODES})}}
for i in range(1, {NODES}):
    for p in {{pick.randrange(max(0, i - 14), i) for _ in range(pick.choice([1, 1, 2]))}}:
        ways[p].append(f"step_{{i}}")
nodes = [{{"name": f"step_{{i}}", "ways": [[t] for t in w] or [[]]}} for i, w in ways.items()]
spec = {{"name": "large", "entry": ["step_0"], "nodes": nodes}}
now = datetime.now(UTC)
fields = dict.fromkeys(RunRow.__dataclass_fields__)
fields |= {{"id": uuid4(), "flow": "large", "version": 1, "status": Status.RUNNING, "lost": 0, "metadata": {{}},
            "created_at": now - timedelta(minutes=5), "started_at": now - timedelta(minutes=5)}}
row = RunRow(**fields)
fold = Folding(row.id, spec, {{}})

def finish(i, n):
    event = StepFinished(f"step_{{i}}#{{n}}", 1, {{"n": n}}, {{"n": n}}, 0, 0.001 * i)
    fold.add(replace(to_entry(event), seq=fold.seq + 1, at=datetime.now(UTC)))

for n in range(1, {ROUNDS + 1}):
    for i in range({NODES} if n < {ROUNDS} else {NODES} // 2):
        finish(i, n)
"""
SHOW = """\
live_module.CROWD = 10**6  # each of them is drawn
began = time.time()
live = LiveRun(fold.view(row, {}), {})
display(live)
print("BEGAN", round(began * 1000))
"""
CHANGE = f"""\
took = []
for tick in range({UPDATES}):
    due = time.monotonic() + 0.1
    for k in range(8):
        finish((tick * 8 + k) % {NODES}, {ROUNDS + 1} + tick // 60)
    running = {{f"step_{{(tick * 8 + 8 + k) % {NODES}}}#{ROUNDS + 5}": 1 for k in range(8)}}
    cpu = time.thread_time()
    live.update(fold.view(row, running))
    took.append(time.thread_time() - cpu)
    time.sleep(max(0.0, due - time.monotonic()))
took.sort()
print("KERNEL", round(1000 * took[int(len(took) * 0.95)], 2), "LAST", live._head is not None)
"""
_WATCH = """() => {
    window.fbLags = [];
    window.fbLong = [];
    window.fbPainted = 0;
    new PerformanceObserver((list) => {
        for (const it of list.getEntries()) window.fbLong.push([Date.now(), it.duration]);
    }).observe({type: 'longtask'});
    new MutationObserver((changes) => {
        if (!window.fbPainted && document.querySelector('.fb-live svg .fb-node')) {
            window.fbPainted = -1;
            requestAnimationFrame(() => requestAnimationFrame(() => (window.fbPainted = Date.now())));
        }
        for (const it of changes)
            if (it.attributeName === 'data-sent') window.fbLags.push(Date.now() - Number(it.target.dataset.sent));
    }).observe(document.body, {subtree: true, childList: true, attributes: true, attributeFilter: ['data-sent']});
}"""
_SPENT = ("ScriptDuration", "LayoutDuration", "RecalcStyleDuration")


@dataclass
class Measured:
    """What a large run took; milliseconds."""

    first_paint: float
    """From the call that makes the view to the frame that shows it."""
    lag_p50: float
    lag_p95: float
    """From `LiveRun.update` to the changed page."""
    longest_task: float
    """Of the page's, while it is updated; 0: none was longer than 50."""
    page_per_update: float
    """CPU that script, style and layout take on the page."""
    kernel_p95: float
    """CPU that making and sending an update takes in the kernel."""
    updates: int
    """How many of `UPDATES` the page has shown."""


def measure(lab: Lab) -> tuple[Measured, NotebookPage]:
    """Show a large run and change it, in a notebook of this server's."""
    lab.write_notebook("large.ipynb", [MAKE, SHOW, CHANGE])
    page = lab.open("large.ipynb")
    page.run(0, 120)
    page.page.evaluate(_WATCH)
    began = int(re.findall(r"BEGAN (\d+)", page.run(1, 120))[0])
    page.page.wait_for_function("window.fbPainted > 0", timeout=60_000)
    first = float(page.page.evaluate("window.fbPainted")) - began
    cdp: Any = page.page.context.new_cdp_session(page.page)
    cdp.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.page.evaluate("window.fbLags.length = 0; window.fbLong.length = 0")
    before = _spent(cdp)
    kernel = float(re.findall(r"KERNEL ([\d.]+)", page.run(2, 120))[0])
    _settled(page)
    spent = _spent(cdp) - before
    lags = sorted(page.page.evaluate("window.fbLags"))
    tasks = [duration for _, duration in page.page.evaluate("window.fbLong")]
    return Measured(
        first, statistics.median(lags), lags[int(len(lags) * 0.95)], max(tasks, default=0.0),
        1000 * spent / max(1, len(lags)), kernel, len(lags),
    ), page  # fmt: skip


def _spent(cdp: Any) -> float:
    told = {m["name"]: m["value"] for m in cdp.send("Performance.getMetrics")["metrics"]}
    return float(sum(told[name] for name in _SPENT))


def _settled(page: NotebookPage) -> None:
    """Until no more updates come."""
    seen = -1
    while seen != (seen := page.page.evaluate("window.fbLags.length")):
        time.sleep(1.0)
