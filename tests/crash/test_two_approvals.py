"""Two calls of an agent wait for leave; two processes answer both of them at once, before and after a kill."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import flowbook as fb
from flowbook.testing import ScriptedModel

ROOT = Path(__file__).resolve().parents[2]
CHILD = '''
"""argv: carry DATABASE MODEL MARKS, or answer DATABASE WHO ORDER: what has become of it, as JSON."""
import asyncio, json, sys
import flowbook as fb
from flowbook.errors import AlreadyAnswered

async def pay(to: str, amount: int) -> str:
    """Pay."""
    with open(sys.argv[4], "a") as file:
        file.write(f"{to} {amount}\\n")
    return f"paid {to} {amount}"

async def carry():
    payer = fb.agent("payer", "Pay.", model=fb.Model("m", base_url=sys.argv[3]), tools=[pay], approve=["pay"])
    async with fb.connect(sys.argv[2]) as app:
        run = await app.start(payer, question="Pay both.", key="one")
        print(json.dumps([(await run.result())["answer"], (await run.state())["messages"]]), flush=True)

async def answer():
    who, told = sys.argv[3], {}
    async with fb.connect(sys.argv[2]) as app:
        (row,) = await app.runs(flow="payer", limit=1)
        print("ready", flush=True)
        sys.stdin.readline()
        for n in sys.argv[4]:
            to = {"1": "ana", "2": "bob"}[n]
            try:
                path = f"run_tools#1/answered#{n}/approved#1"
                await app.approve(row.id, path, edit={"to": to, "amount": {"x": 10, "y": 20}[who]}, by=who)
                told[n] = "taken"
            except AlreadyAnswered as error:
                told[n] = str(error)
    print(json.dumps(told), flush=True)

asyncio.run(carry() if sys.argv[1] == "carry" else answer())
'''


def begun(*argv: str) -> subprocess.Popen[str]:
    """A process of its own."""
    command = [sys.executable, "-c", CHILD, *argv]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def pending(database: str) -> int:
    """How many decisions the inbox has."""
    async with fb.connect(database) as app:
        return len(await app.inbox())


@pytest.mark.crash
@pytest.mark.timeout(300)
@pytest.mark.parametrize("killed", ["before the answers", "after the answers", "not at all"])
@pytest.mark.parametrize("orders", [("12", "12"), ("12", "21"), ("21", "21")], ids="-".join)
def test_of_two_who_answer_both_calls_at_once_each_call_hears_the_first(
    fresh_database: str, tmp_path: Path, killed: str, orders: tuple[str, str]
) -> None:
    """Each tool runs with what the first answer says, once (or once more, if the kill met it); the second is told."""
    marks = tmp_path / "marks"
    with ScriptedModel() as model:
        calls = [("pay", {"to": to, "amount": 1}) for to in ("ana", "bob")]
        model.on("Pay both.", calls=calls).on("paid", "Both are paid.")
        carrier = begun("carry", fresh_database, model.base_url, str(marks))
        deadline = time.monotonic() + 120
        while not model.count() or asyncio.run(pending(fresh_database)) < 2:
            assert time.monotonic() < deadline, "nobody was asked"
            time.sleep(0.1)
        if killed == "before the answers":
            carrier.send_signal(signal.SIGKILL)
            carrier.communicate(timeout=30)
        both = [begun("answer", fresh_database, who, order) for who, order in zip("xy", orders, strict=True)]
        for one in both:
            assert one.stdout is not None
            assert one.stdout.readline() == "ready\n"
        for one in both:
            assert one.stdin is not None
            one.stdin.write("go\n")
            one.stdin.flush()
        told: list[dict[str, str]] = [json.loads(one.communicate(timeout=120)[0]) for one in both]
        if killed == "after the answers":
            carrier.send_signal(signal.SIGKILL)
            carrier.communicate(timeout=30)
        if killed != "not at all":
            carrier = begun("carry", fresh_database, model.base_url, str(marks))
        out: list[Any] = json.loads(carrier.communicate(timeout=120)[0])

    amounts = {}
    for n in "12":
        first = [who for who, of in zip("xy", told, strict=True) if of[n] == "taken"]
        assert len(first) == 1, told
        second = told["xy".index(first[0]) ^ 1][n]
        assert f"answered already by {first[0]}" in second
        amounts[n] = {"x": 10, "y": 20}[first[0]]
    wanted = [f"paid ana {amounts['1']}", f"paid bob {amounts['2']}"]
    answer, messages = out
    assert answer == "Both are paid."
    assert [m["content"] for m in messages if m["role"] == "tool"] == wanted
    assert [m["tool_call_id"] for m in messages if m["role"] == "tool"] == [
        c["id"] for c in messages[1]["tool_calls"]
    ]  # fmt: skip
    done = Counter(marks.read_text().splitlines())
    assert set(done) == {text.removeprefix("paid ") for text in wanted}
    assert max(done.values()) <= (2 if killed == "after the answers" else 1)
