"""Exporting: a flow is written as a module that is the very same flow."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from flowbook.cli.code import graphs_of
from flowbook.errors import NotExportable
from flowbook.graph.export import module_of
from flowbook.graph.flow import Graph
from flowbook.graph.source import describe

Load = Callable[[str, str], ModuleType]

HEAD = """
import math
import operator
from dataclasses import dataclass
from typing import Annotated, TypedDict
import flowbook as fb
"""
CASES = {
    "chain": """
RATE = 0.25
NAMES = ("a", "b")

def helper(x):
    return math.floor(x * RATE)

@fb.step(retries=3, timeout="30s", backoff=[1, 2])
async def load(query, ctx: fb.Context):
    return {"docs": [query, *NAMES]}

@fb.step(retry_on=ValueError)
def count(docs):
    "How many."
    return helper(len(docs))

it = fb.graph("it", fb.START >> load >> count >> fb.END, version="one")
""",
    "branches": """
class State(TypedDict, total=False):
    query: str
    docs: Annotated[list[str], operator.add]
    judge: bool

@fb.step
def search(query): return {"docs": [query]}
@fb.step
def judge(docs) -> bool: return len(docs) > 2
@fb.step
def left(docs): return {"query": "l"}
@fb.step
def right(docs): return {"docs": ["r"]}
@fb.step
def write(docs): return {"query": docs[0]}
def often(s): return len(s.docs) < 9

it = fb.graph("it",
    search >> judge >> fb.branch(lambda s: s.judge, {True: write, False: search}),
    write >> [left, fb.when(often, right)] >> judge.as_("again") >> fb.END,
    state=State, run_timeout="2h", outputs=["docs"], recursion_limit=50)
""",
    "waiting": """
@dataclass
class Answer:
    by: str
@fb.step
def ask(): return {"urls": ["a", "b"]}
@fb.step
def fetch(url): return url
@fb.step
def undo(ask): return None
@fb.step(compensate=undo, executor="process")
def book(pages): return {"booked": True}
it = fb.graph("it", ask >> fb.map_(fetch, over="urls", into="pages", concurrency=3, on_error="collect")
    >> fb.wait("ok", timeout="2d", schema=Answer) >> fb.race(book, fb.sleep("1h")) )
""",
    "nested": """
@fb.step
def inner(rows): return {"n": len(rows)}
clean = fb.graph("clean", inner)
@fb.step
def load(): return {"raw": [1]}
it = fb.graph("it", load >> fb.subflow(clean, input={"rows": "raw"}, into="cleaned"))
""",
    "imperative": """
@fb.step
def charge(n): return n + 1
@fb.flow(name="it", retries=2)
async def order(ctx, n: int) -> int:
    return await ctx.step(charge, n)
""",
}


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    """A module of a text."""
    names = []

    def made(name: str, text: str) -> ModuleType:
        file = tmp_path / f"{name}.py"
        file.write_text(text)
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        names.append(name)
        spec.loader.exec_module(module)
        return module

    yield made
    for name in names:
        del sys.modules[name]


def flow(module: ModuleType) -> Graph:
    """The flow ``it`` of a module."""
    return next(g for g in graphs_of(module) if g.name == "it")


@pytest.mark.parametrize("case", CASES)
def test_the_module_declares_the_very_same_version(case: str, load: Load) -> None:
    """Its fingerprint is that of the flow, and so is that of what it exports in turn."""
    original = flow(load(f"exported_from_{case}", HEAD + CASES[case]))
    text = module_of("it", describe(original))
    again = flow(load(f"exported_as_{case}", text))
    assert again.fingerprint == original.fingerprint, text
    assert module_of("it", describe(again)) == text


def test_what_one_module_cannot_say_is_refused_with_its_name(load: Load) -> None:
    """A closure, a name with two meanings and data of a notebook are named, and nothing is written."""
    closes = """
def made(k):
    @fb.step
    def adds(x): return x + k
    return adds
it = fb.graph("it", made(2))
"""
    with pytest.raises(NotExportable, match="`adds` closes over `k`"):
        module_of("it", describe(flow(load("export_closes", HEAD + closes))))
    reads = """
lock = object()
@fb.step
def uses(x): return lock is None
it = fb.graph("it", uses)
"""
    with pytest.raises(NotExportable, match="`uses` reads variable `lock`"):
        module_of("it", describe(flow(load("export_reads", HEAD + reads))))
