"""Eight processes spend one budget together."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

import flowbook as fb
from flowbook.testing import ScriptedModel

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = 8
COST = 0.02
CHILD = '''
"""argv: database, model's address: ask until the budget is used up; then how often it was asked with success."""
import asyncio, sys
import flowbook as fb
from flowbook.errors import BudgetReached

model = fb.Model("m", base_url=sys.argv[2], price=(10.0, 100.0))
asker = fb.agent("asker", "Be brief.", model=model, budget=fb.Budget(usd=0.50, shared="team"))

async def main():
    async with fb.connect(sys.argv[1]) as app:
        await app.spent("team")
        print("ready", flush=True)
        sys.stdin.readline()
        done = 0
        while True:
            try:
                await (await app.start(asker, question="Yes?")).result(timeout=60)
                done += 1
            except BudgetReached:
                print(done, flush=True)
                return

asyncio.run(main())
'''


@pytest.mark.crash
def test_a_budget_that_eight_processes_share_is_overrun_by_the_calls_in_flight_at_most(fresh_database: str) -> None:
    """$0.50 at $0.02 a call: 25 calls, and no more than were under way when it was reached; the database agrees."""
    with ScriptedModel() as model:
        model.on("", "Yes.", usage=(1_000, 100), pace=0.2)
        argv = [sys.executable, "-c", CHILD, fresh_database, model.base_url]
        children = [
            subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(PROCESSES)
        ]
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        done = [int(child.communicate(timeout=120)[0]) for child in children]
        asked = model.count()

    async def spent() -> tuple[float, int, int]:
        async with fb.connect(fresh_database) as app:
            it = await app.spent("team")
            return round(it.usd, 6), it.calls, it.tokens

    assert asyncio.run(spent()) == (round(asked * COST, 6), asked, asked * 1_100)
    assert sum(done) == asked, json.dumps(done)
    assert 25 <= asked <= 25 + PROCESSES, done
    assert sum(n > 0 for n in done) > 1, "one process spent it alone"
