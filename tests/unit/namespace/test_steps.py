"""Durable steps: when they run, when they need not, and why."""

from __future__ import annotations

import linecache
from uuid import uuid4

import pytest

from flowbook.namespace.reads import reads
from flowbook.namespace.steps import Begun, Call, Kept, Restored, Steps, StepVault
from flowbook.namespace.vault import MemoryVault

KEY = b"k" * 32


class Session:
    """One kernel on a notebook, and its steps."""

    def __init__(self, vault: StepVault, key: bytes = KEY, notebook: str = "a.ipynb") -> None:
        self.namespace: dict[str, object] = {"__name__": "__main__"}
        self.steps = Steps(self.namespace, vault, key, notebook)

    def cell(self, source: str) -> None:
        """An ordinary cell."""
        file = f"<cell {uuid4().hex}>"
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        exec(compile(source, file, "exec"), self.namespace)

    def step(
        self, source: str, *, inputs: str | None = None, outputs: str | None = None, always: bool = False
    ) -> Restored | Kept:
        """A step cell."""
        split = [None if x is None else tuple(x.split(",")) for x in (inputs, outputs)]
        found = self.steps.arrive(Call("it", source, split[0], split[1], always))
        if not isinstance(found, Begun):
            return found
        self.cell(source)
        return self.steps.finish(found)

    def why(self, source: str) -> str:
        """Why the step ran; ``restored`` if it did not."""
        found = self.step(source)
        return "restored" if isinstance(found, Restored) else found.why


BEFORE = """
import pandas as pd
rate = 3
def inner(x): return x * rate
def times(x): return inner(x)
class Pair:
    size = 2
    def of(self, x): return [x] * self.size
names = {"alpha", "beta", "gamma", "delta"}
df = pd.DataFrame({"n": [1.0, 2.0], "s": ["x", "y"]})
untouched = [1]
"""
STEP = "out = times(df['n']).sum() + len(names) + len(Pair().of(1))"


@pytest.fixture
def vault() -> MemoryVault:
    """What all kernels of a test have in common."""
    return MemoryVault()


def kernel(vault: MemoryVault) -> Session:
    """Another kernel in which the cells before the step have run."""
    made = Session(vault)
    made.cell(BEFORE)
    return made


def test_a_step_runs_once(vault: MemoryVault) -> None:
    """The same code on the same inputs, in any kernel; how the code is laid out is no difference."""
    first = kernel(vault)
    assert first.why(STEP) == ""
    assert first.why(STEP) == "restored"
    other = kernel(vault)
    assert other.why(STEP + "  # said") == "restored"
    assert other.namespace["out"] == first.namespace["out"] == 15.0


@pytest.mark.parametrize(
    "change, why",
    [
        ("rate = 4", "input `rate` changed"),  # two functions away
        ("def inner(x): return x * rate * 1", "input `inner` changed"),
        ("df.loc[0, 'n'] = 9.0", "input `df` changed"),
        ("df['new'] = 1", "input `df` changed"),
        ("names.add('x')", "input `names` changed"),
        ("Pair.size = 3", "input `Pair` changed"),
        ("untouched.append(2)", "restored"),
        ("rate = 3", "restored"),
        ("def times(x):\n    # better said\n    return inner(x)", "restored"),
        ("rate = 4; names = {'z'}", "inputs `names`, `rate` changed"),
        ("import threading; rate = threading.Lock()", "input `rate` changed"),
    ],
)
def test_why_a_step_runs_again(vault: MemoryVault, change: str, why: str) -> None:
    """What it reads, however far away; nothing else."""
    kernel(vault).step(STEP)
    other = kernel(vault)
    other.cell(change)
    try:
        assert other.why(STEP) == why
    except TypeError:  # a lock cannot be multiplied; why it ran was settled before
        assert "Lock" in change


def test_an_input_that_cannot_be_compared_is_told(vault: MemoryVault) -> None:
    """It is never taken for the same; --in leaves it out."""
    session = Session(vault)
    session.cell("import threading\nlock = threading.Lock()\nn = 1")
    source = "with lock: out = n + 1"
    session.step(source)
    assert session.why(source) == "input `lock` cannot be compared; --in names those that matter"
    session.step(source, inputs="n")
    assert isinstance(session.step(source, inputs="n"), Restored)


def test_what_a_step_changes_of_its_inputs_is_restored_too(vault: MemoryVault) -> None:
    """Also what it deletes and what it imports, and a seed that it sets."""
    import random

    source = "import json as j, random\nitems.append(3)\ndel gone\nrandom.seed(5)"
    for n in range(2):
        session = Session(vault)
        session.cell("items = [1]; gone = 2")
        random.seed(n)
        assert isinstance(session.step(source), Restored if n else Kept)
        assert session.namespace["items"] == [1, 3]
        assert "gone" not in session.namespace
        assert session.namespace["j"].__name__ == "json"  # type: ignore[attr-defined]
        assert random.random() == pytest.approx(0.6229016948897019)


def test_what_cannot_be_kept_is_told_and_nothing_is_kept(vault: MemoryVault) -> None:
    """Half of what a cell gave would be a surprise."""
    session = Session(vault)
    session.cell("import threading\nshared = [1]")
    found = session.step("lock = threading.Lock()\nn = 1")
    assert isinstance(found, Kept)
    assert "`lock` (_thread.lock) cannot be kept" in found.not_kept
    found = session.step("holder = [shared]")
    assert isinstance(found, Kept)
    assert found.not_kept == "`holder` shares what it is made of with `shared`, which the cell has not made"
    found = session.step("n = 1", outputs="m")
    assert isinstance(found, Kept)
    assert "--out names `m`" in found.not_kept
    assert isinstance(session.step("n = 1"), Kept)
    assert isinstance(session.step("n = 1", always=True), Kept)


def test_another_users_or_a_changed_record_is_not_used(vault: MemoryVault) -> None:
    """What is in the database cannot make anybody load anything, nor another notebook's step this one's."""
    Session(vault).step("n = 1")
    assert isinstance(Session(vault, b"o" * 32).step("n = 1"), Kept)
    Session(vault).step("n = 1", always=True)
    for key, text in vault._notes.items():
        vault._notes[key] = text.replace(b'"outputs": ["n"]', b'"outputs": ["m"]')
    assert isinstance(Session(vault).step("n = 1"), Kept)
    assert isinstance(Session(vault, notebook="b.ipynb").step("n = 1"), Kept)
    assert isinstance(Session(vault).step("n = 1"), Restored)


def test_a_step_whose_pieces_are_gone_runs_again_and_says_so(vault: MemoryVault) -> None:
    """Losing a cache costs time and nothing else."""
    source = "text = 'x' * 100_000"
    Session(vault).step(source)
    vault.pieces.clear()
    found = Session(vault).step(source)
    assert isinstance(found, Kept)
    assert "cannot be restored" in found.why
    assert isinstance(Session(vault).step(source), Restored)


@pytest.mark.parametrize(
    "source, names",
    [
        ("a = 1\nb = a + c", {"c"}),
        ("a += 1", {"a"}),
        ("a['x'] = b", {"a", "b"}),
        ("def f(x): return x + y\nf(1)", {"y"}),
        ("r = [x for x in xs if x > low]", {"xs", "low"}),
        ("if test: a = 1\nprint(a)", {"test", "a"}),
        ("for i in rows: pass", {"rows"}),
        ("del old", {"old"}),
        ("import os\nos.getcwd()", set()),
        ("with open(path) as f: text = f.read()", {"path"}),
        ("class A(Base):\n    k = size\n    def f(self): return other", {"Base", "size", "other"}),
        ("x = await fetch(url)", {"fetch", "url"}),
        ("g = lambda q: q + n", {"n"}),
    ],
)
def test_what_a_cell_reads_is_found(source: str, names: set[str]) -> None:
    """Its own scopes and orders are respected."""
    assert set(reads(source)) - {"open", "print"} == names
