"""Which words of a flow cell mean flowbook, and which mean what the user made of them."""

from __future__ import annotations

import ast
import builtins
from types import SimpleNamespace
from typing import Any

import pytest

from flowbook.graph.expression import Composable, Fragment
from flowbook.graph.mapping import Map
from flowbook.graph.step import Step
from flowbook.jupyter.cell import framed
from flowbook.jupyter.names import HOOK, WORDS, Words, rewrite


class Recorder:
    """Stands where a session's hook would."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.words = Words(namespace)
        self.pieces: list[Any] = []

    def begin(self, arguments: str) -> None: ...
    def end(self) -> None: ...

    def collect(self, value: Any) -> Any:
        if isinstance(value, Composable):
            self.pieces.append(value)
            return None
        return value


def run(body: str, monkeypatch: pytest.MonkeyPatch, **before: Any) -> SimpleNamespace:
    """Run a flow cell; the answer has its namespace and what joined the graph."""
    namespace: dict[str, Any] = {"__name__": "__main__", **before}
    hook = Recorder(namespace)
    monkeypatch.setattr(builtins, HOOK, hook, raising=False)
    source = "".join(framed(["%%flow f\n", *body.splitlines(keepends=True)]))
    exec(compile(rewrite(ast.parse(source)), "<cell>", "exec"), namespace)
    return SimpleNamespace(namespace=namespace, pieces=hook.pieces)


def test_the_words_need_no_import_and_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decorators and topologies know them; the user's namespace does not get them."""
    it = run("@step(retries=3)\ndef a(): ...\n@step\ndef b(): ...\nSTART >> a >> b >> END\n", monkeypatch)
    assert isinstance(it.namespace["a"], Step)
    assert [type(p) for p in it.pieces] == [Fragment]
    assert not {"step", "START", "END", HOOK} & set(it.namespace)


def test_in_a_body_a_word_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable, an import and a lambda of the user's mean there what they mean everywhere else."""
    body = (
        "from time import sleep\n"
        "@step(name='a')\ndef a(): return step, branch\n"
        "@step\ndef b(): return sleep\n"
        "a >> branch(lambda s: step, {7: b, 8: END})\n"
    )
    it = run(body, monkeypatch, step=7, branch="mine")
    assert it.namespace["a"]() == (7, "mine")
    assert it.namespace["b"]().__module__ == "time"
    (fragment,) = it.pieces
    assert fragment.routings[0].router(None) == 7


@pytest.mark.parametrize("word", sorted(set(WORDS) - {"step"}))  # who defines `step` has no decorator left
def test_a_name_that_the_cell_defines_is_left_alone(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step may be called like a word."""
    it = run(f"@step\ndef other(): ...\n@step(name='x')\ndef {word}(): ...\nother >> {word}\n", monkeypatch)
    assert [n.name for n, _ in it.pieces[0].tails] == ["x"]


def test_pauses_are_words_of_a_topology_and_of_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that sleeps really sleeps, a bare nap is the user's own, and a way on that is missing is a mistake."""
    naps: list[float] = []
    body = (
        "@step\ndef a(): return sleep\n@step\ndef b(): return wait\n"
        "sleep(0.5)\n"
        "gate = wait_any({'yes': b}, timeout='1h', on_timeout=nowhere)\n"
        "a >> when(lambda s: sleep, b) >> wait('go', timeout=1, on_timeout=gone) >> sleep('1h') >> gate\n"
    )
    it = run(body, monkeypatch, sleep=naps.append, wait="mine")
    assert naps == [0.5]
    assert it.namespace["a"]() == naps.append
    assert it.namespace["b"]() == "mine"
    (fragment,) = it.pieces
    shown = repr(fragment)
    assert "sleep_1h" in shown
    assert "'nowhere' is not defined" in shown
    assert "'gone' is not defined" in shown


def test_a_node_of_an_earlier_cell_is_meant_before_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps outlive their cell, whatever they are called."""
    earlier = WORDS["step"](name="value")(lambda: 1)
    it = run("@step\ndef a(): ...\na >> value\n", monkeypatch, value=earlier)
    assert it.pieces[0].tails[0][0] is earlier


def test_assigned_topologies_and_bare_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head can be named and used later; an expression that is no topology stays what it is."""
    it = run(
        "@step\ndef a(): ...\n@step\ndef b(): ...\nhead = START >> a\ngate = branch(lambda s: s.x, {1: b, 2: END})\n"
        "head >> gate\n1 + 1\nlen([1])\n",
        monkeypatch,
    )
    assert len(it.pieces) == 1
    assert isinstance(it.namespace["head"], Fragment)


def test_what_is_not_defined_is_a_mistake_among_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are reported at once, so none may stop the cell."""
    it = run("@step\ndef judge(): ...\njugde >> [judge, gone] >> branch(lambda s: 1, {1: nowhere})\n", monkeypatch)
    shown = repr(it.pieces)
    assert "'jugde' is not defined; did you mean 'judge'?" in shown
    assert "'gone' is not defined" in shown
    assert "'nowhere' is not defined" in shown


def test_line_numbers_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback points at the line that the user sees."""
    it = run("@step\ndef a():\n    1 / 0\na\n", monkeypatch)
    assert it.namespace["a"].fn.__code__.co_firstlineno == 2
    with pytest.raises(ZeroDivisionError) as caught:
        it.namespace["a"]()
    assert caught.traceback[-1].lineno == 3  # from 0: the cell's fourth line


def test_other_cells_are_not_touched() -> None:
    """The transformer sees every cell of the notebook."""
    source = "step >> START\n@step\ndef f(): ...\n"
    assert ast.dump(rewrite(ast.parse(source))) == ast.dump(ast.parse(source))
    assert not ast.dump(rewrite(ast.parse(""))).count("Expr")


COMMANDS = frozenset({"run", "show"})


@pytest.mark.parametrize(
    ("lines", "first"),
    [
        (["%%flow f --state S\n", "x\n"], f"{HOOK}.begin('f --state S')\n"),
        (["%%flow\n", "x\n"], f"{HOOK}.begin('')\n"),
        (["%flow f\n", "x\n"], f"{HOOK}.begin('f')\n"),
        (["%flow f --version 'a b'\n", "x"], f"{HOOK}.begin(\"f --version 'a b'\")\n"),
        (["%%flow --help\n"], f"{HOOK}.help()\n"),
        (["%flow run f\n", "x\n"], "%flow run f\n"),
        (["%flow f\n"], "%flow f\n"),
        (["%flow f\n", "\n"], "%flow f\n"),
        (["%flow f(x=1)\n", "x\n"], "%flow f(x=1)\n"),
        (["%%flowers\n", "x\n"], "%%flowers\n"),
        (["x = 1\n", "%%flow f\n"], "x = 1\n"),
        ([], None),
    ],
)
def test_both_spellings_frame_a_cell_and_nothing_else_does(lines: list[str], first: str | None) -> None:
    """`%%flow NAME`, and `%flow NAME` above a body; a command with a cell below it stays a command."""
    found = framed(list(lines), COMMANDS)
    assert (found[0] if found else None) == first
    if first is not None and "begin" in first:
        assert found[-1] == f"{HOOK}.end()\n"
        assert len(found) == len(lines) + 1
        assert all(line.endswith("\n") for line in found)


def test_races_and_parallel_forks_need_no_import(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their members are nodes: one that is not defined becomes a mistake that is told with the others."""
    body = (
        "@step\ndef a(): ...\n@step\ndef b(): ...\n"
        "a >> race(b, sleep('1h')) >> parallel(a.as_('c'), b.as_('d'))\nrace(a, bb)\n"
    )
    it = run(body, monkeypatch)
    raced, unknown = it.pieces
    assert [bool(e.race) for e in raced.edges] == [True, True, False, False, False, False]
    assert "'bb' is not defined" in unknown.heads[1].shown
    assert not {"race", "parallel"} & set(it.namespace)


def test_a_map_needs_no_import_and_an_unknown_step_in_it_is_a_mistake_among_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The name that is not there is reported with the rest of the topology, and no traceback hides it."""
    it = run('@step\ndef a(x): ...\nmap_(a, over="xs") >> map_(nothing, over="ys")\n', monkeypatch)
    (fragment,) = it.pieces
    (edge,) = fragment.edges
    assert isinstance(edge.source, Map)
    assert "'nothing' is not defined" in edge.target.shown
    assert "map_" not in it.namespace


def test_the_end_of_a_flow_cell_is_told_of_the_functions_that_may_be_imperative_flows() -> None:
    """Coroutine functions that take ``ctx`` first and are no steps."""
    body = "async def order(ctx, n): ...\nasync def other(n): ...\n@step\nasync def one(ctx): ...\n"
    cell = ast.unparse(rewrite(ast.parse(f"{HOOK}.begin('order')\n{body}{HOOK}.end()\n")))
    assert cell.splitlines()[-1] == f"{HOOK}.end('order')"
