"""Agents on Postgres: processes that are killed, and a notebook."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowbook.testing import ScriptedModel
from tests.integration.test_notebook import LOAD, Kernel

pytestmark = [pytest.mark.timeout(180), pytest.mark.skipif(sys.platform == "win32", reason="processes are killed here")]

ROOT = Path(__file__).resolve().parents[2]
TURNS = 6
CHILD = '''
"""argv: database, model's address, file for what the tools do, key: one question, and its transcript at the end."""
import asyncio, json, sys
import flowbook as fb

async def note(turn: int, side: str) -> str:
    """Write it down."""
    with open(sys.argv[3], "a") as file:
        file.write(f"{turn}{side}\\n")
    await asyncio.sleep(0.05)
    return f"noted {turn}{side}"

clerk = fb.agent("clerk", "You take notes.", model=fb.Model("m", base_url=sys.argv[2]), tools=[note], approve=
                 lambda name, arguments: arguments == {"turn": 3, "side": "b"})

async def main():
    async with fb.connect(sys.argv[1]) as app:
        run = await app.start(clerk, question="take notes", key=sys.argv[4])
        while not (await run.status()).over:
            for step in (await run.view()).steps:
                if step.wait and step.state == "waiting":
                    await run.approve(step.path)
            await asyncio.sleep(0.05)
        print(json.dumps([await run.result(), (await run.state())["messages"]]), flush=True)

asyncio.run(main())
'''


@pytest.fixture
def model() -> Iterator[ScriptedModel]:
    """A model that wants two notes taken in each of six turns, and then says so, word by word."""

    def after(turn: int) -> Any:
        return lambda messages: sum(m["role"] == "assistant" for m in messages) == turn

    with ScriptedModel() as model:
        for turn in range(1, TURNS + 1):
            calls = [("note", {"turn": turn, "side": side}) for side in "ab"]
            model.on(after(turn - 1), f"Turn {turn} of it.", calls=calls, pace=0.02)
        yield model.on(after(TURNS), "All of it is written down now.", pace=0.02)


def begin(database: str, model: ScriptedModel, marks: Path, key: str) -> subprocess.Popen[str]:
    """A process that carries the run of this key."""
    argv = [sys.executable, "-c", CHILD, database, model.base_url, str(marks), key]
    return subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def per_turn(model: ScriptedModel) -> Counter[int]:
    """Turn -> how often a model was asked for it."""
    return Counter(sum(m["role"] == "assistant" for m in asked.messages) for asked in model.requests)


def test_killed_in_the_middle_of_its_answers_an_agent_says_and_does_what_it_would_have(
    fresh_database: str, model: ScriptedModel, tmp_path: Path
) -> None:
    """What was answered is not asked again, what was done is not done again, and the conversation is the same."""
    marks = tmp_path / "marks"
    kills = 0
    for wanted in (1, 3, 4, 6, 8):
        child = begin(fresh_database, model, marks, "killed")
        deadline = time.monotonic() + 60
        while model.count() < wanted and child.poll() is None:
            assert time.monotonic() < deadline, f"{model.count()} of {wanted} requests came"
            time.sleep(0.005)
        time.sleep(0.06)  # a few words into the answer
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=10)
        kills += 1
    last = begin(fresh_database, model, marks, "killed")
    out, _ = last.communicate(timeout=120)
    result, said = json.loads(out)
    assert result == {"answer": "All of it is written down now."}
    asked = per_turn(model)
    assert set(asked) == set(range(TURNS + 1))
    assert sum(asked.values()) <= TURNS + 1 + kills, asked
    done = Counter(marks.read_text().split())
    assert set(done) == {f"{turn}{side}" for turn in range(1, TURNS + 1) for side in "ab"}
    assert sum(done.values()) <= 2 * TURNS + 2 * kills, done

    whole = begin(fresh_database, model, tmp_path / "others", "unbroken")
    out, _ = whole.communicate(timeout=120)
    assert json.loads(out) == [result, said]


@pytest.fixture
def talk(fresh_database: str, flowbook_home: Path, tmp_path: Path) -> Iterator[Kernel]:
    """A kernel with the extension loaded."""
    foreign = ("JUPYTER", "JPY_", "PYTEST", "DATABASE_URL", "FLOWBOOK_", "OPENAI_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
    kernel = Kernel(
        env
        | {
            "FLOWBOOK_DATABASE_URL": fresh_database,
            "FLOWBOOK_HOME": str(flowbook_home),
            "IPYTHONDIR": str(tmp_path / "ipython"),
            "PYTHONPATH": str(Path.cwd()),
        }
    )
    assert kernel(LOAD).printed.startswith("flowbook: ")
    yield kernel
    kernel.close()


def test_an_agent_is_declared_and_asked_in_cells(talk: Kernel) -> None:
    """Its picture, its answer with what it called and cost, and a second question that knows the first."""
    with ScriptedModel() as model:
        model.on("2 and 3", calls=[("add", {"a": 2, "b": 3})]).on("5", "The sum is **5**.", usage=(100, 7))
        model.on(lambda m: "once more" in m[-1]["content"] and len(m) == 6, "Still <script>5</script>.")
        talk("def add(a: int, b: int) -> int:\n    'Add.'\n    return a + b")
        declared = talk(f"%%agent adder --model m --base-url {model.base_url} --tools add --max-turns 5\nYou add.")
        assert not declared.error
        assert "data:image/svg" in declared.html
        asked = talk("%%ask adder --wait\nWhat are 2 and 3?")
        assert not asked.error
        last = asked.html
        assert "The sum is <strong>5</strong>." in last
        assert "add({&quot;a&quot;: 2, &quot;b&quot;: 3})" in last
        assert "100 → 7 tokens" in last
        again = talk("%%ask adder --wait\nonce more")
        assert "Still &lt;script&gt;5&lt;/script&gt;." in again.html
        assert "Refused" not in talk("adder.run(question='2 and 3')['answer']").text
        # a server on stdio, although a kernel's stderr has no file descriptor
        server = str(ROOT / "tests/unit/agents/mcp_server.py")
        talk(f"import sys, flowbook as fb\nsums = fb.mcp(command=[sys.executable, {server!r}], tools=['add'])")
        assert not talk(f"%%agent remote --model m --base-url {model.base_url} --tools sums\nYou add.").error
        assert "The sum is **5**." in talk("remote.run(question='2 and 3')['answer']").text


WRONG = {
    "%%agent a --tools add\nYou add.": "needs --model",
    "%%agent a --model m --tools ad\nYou add.": "no 'ad'; did you mean 'add'?",
    "%%agent a --model m\n \n": "needs the agent's instructions",
    "%%agent a --model m --budget much\nYou add.": "USD, as in --budget 0.50",
    "%%agent a --model mine --budget 1\nYou add.": "whose price is not known",
    "%%agent a --model m --tools add --approve ad\nYou add.": "no such tool",
    "%%ask nobody\nWhat?": "there is no flow 'nobody'",
}


def test_help_and_mistakes_of_agent_cells_are_short_and_say_what_works(talk: Kernel) -> None:
    """In one line, with what would be right; one kernel for all of them."""
    talk("def add(a: int, b: int) -> int:\n    'Add.'\n    return a + b")
    for cell, why in WRONG.items():
        reply = talk(cell)
        assert why in reply.error
        assert "Traceback" not in reply.error
    assert "%%agent researcher --model" in talk("%%agent --help\n ").printed
    assert "Example: %%ask researcher" in talk("%%ask --help\n ").printed


EVALUATES = '''
"""argv: database, model's address: an evaluation of eight samples, and its rows at the end."""
import json, sys
import flowbook as fb

def right(output, expected):
    return output == expected

guide = fb.agent("guide", "You know numbers.", model=fb.Model("m", base_url=sys.argv[2]))
samples = [{"question": f"what is {n}?", "expected": f"It is {n}."} for n in range(8)]
with fb.connect(sys.argv[1]):
    it = fb.evaluate(guide, samples, [right], concurrency=2)
    print(json.dumps([[row.output, row.scores, row.run.hex] for row in it]), flush=True)
'''


def test_an_evaluation_that_is_killed_asks_again_only_for_what_was_under_way(fresh_database: str) -> None:
    """Each sample is asked for once, but for those in flight at a kill; once over, repeating it asks for nothing."""

    def begun(model: ScriptedModel) -> subprocess.Popen[str]:
        argv = [sys.executable, "-c", EVALUATES, fresh_database, model.base_url]
        return subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    with ScriptedModel() as model:
        for n in range(8):
            model.on(f"what is {n}?", f"It is {n}.", pace=0.03)
        for wanted in (2, 5):
            child = begun(model)
            deadline = time.monotonic() + 60
            while model.count() < wanted and child.poll() is None:
                assert time.monotonic() < deadline, f"{model.count()} of {wanted} requests came"
                time.sleep(0.005)
            child.send_signal(signal.SIGKILL)
            child.communicate(timeout=10)
        out, _ = begun(model).communicate(timeout=120)
        rows = json.loads(out)
        assert [row[:2] for row in rows] == [[f"It is {n}.", {"right": 1.0}] for n in range(8)]
        asked = Counter(asked.last for asked in model.requests)
        assert set(asked) == {f"what is {n}?" for n in range(8)}
        assert sum(asked.values()) <= 8 + 2 * 2, asked
        before = model.count()
        out, _ = begun(model).communicate(timeout=120)
        assert json.loads(out) == rows
        assert model.count() == before


def test_an_evaluation_is_a_table_in_a_notebook(talk: Kernel) -> None:
    """Means, samples and errors, escaped, without a script; and two of them compared."""
    with ScriptedModel() as model:
        model.on("one", "<script>alert(1)</script>").on("two", "2", fails=[400])
        talk(f"%%agent teller --model m --base-url {model.base_url}\nYou tell.")
        talk("def right(output, expected):\n    return output == expected")
        talk("data = [{'question': 'one', 'expected': '1'}, {'question': 'two', 'expected': '2'}]")
        shown = talk("import flowbook as fb\na = fb.evaluate(teller, data, right)\na")
        assert not shown.error
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown.html
        assert "<script>alert" not in shown.html
        assert "BadRequestError" in shown.html
        compared = talk("b = fb.evaluate(teller, data, right)\na.compare(b)")
        assert "2 samples in both, 1 differ" in compared.html
        assert "'right'" in talk("list(a.df().columns)").text


def test_the_notebook_about_agents_runs_without_a_key(fresh_database: str, flowbook_home: Path, tmp_path: Path) -> None:
    """Each cell of 04_agents.ipynb, against the scripted model; what it says at its end is what it promises."""
    foreign = ("JUPYTER", "JPY_", "PYTEST", "DATABASE_URL", "FLOWBOOK_", "OPENAI_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(foreign)} | {
        "FLOWBOOK_DATABASE_URL": fresh_database, "FLOWBOOK_HOME": str(flowbook_home), "PYTHONPATH": str(ROOT),
        "IPYTHONDIR": str(tmp_path / "ipython"),
    }  # fmt: skip
    out = tmp_path / "04.ipynb"
    argv = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--output", str(out)]
    done = subprocess.run(
        [*argv, str(ROOT / "notebooks/04_agents.ipynb")],
        env=env,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    saved = out.read_text()
    assert "right: 0.667 (n=3)" in saved
    assert "right: -0.333 (n=3; 0 higher, 1 lower, 2 the same)" in saved
