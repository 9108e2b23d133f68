"""Code that is not what its source says: it is told, or made again as it is; never quietly something else."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from flowbook.graph.flow import Graph, graph
from flowbook.graph.portable import obstacles
from flowbook.graph.rebuild import rebuild
from flowbook.graph.source import describe

Write = Callable[..., ModuleType]


def flow_of(text: str) -> str:
    return textwrap.dedent(text) + "flow = graph('g', a)\n"


def again(graph: Graph) -> Graph:
    it = describe(graph)
    spec, sources = json.loads(json.dumps([it.spec, it.sources], sort_keys=True))
    stored = SimpleNamespace(namespace="default", flow=graph.name, fingerprint=it.fingerprint, spec=spec,
                             sources=sources, signature="")  # fmt: skip
    return rebuild(stored, key=None, allow_unsigned=True)


ALTERED = {
    "a method from outside": (
        """
        class C:
            def m(self): return 1
        def new(self): return 2
        C.m = new
        @step
        def a(): return C().m()
        """,
        "`C` was changed after its definition (`m`)",
    ),
    "a method more": (
        """
        class C: pass
        def new(self): return 2
        C.n = new
        @step
        def a(): return C().n()
        """,
        "`C` was changed after its definition (`n`)",
    ),
    "another setting": (
        """
        class Config:
            K = 1
            L = 2
        Config.K = 2
        @step
        def a(): return Config.K
        """,
        "`Config` was changed after its definition (`K`)",
    ),
    "a dataclass' default": (
        """
        from dataclasses import dataclass
        @dataclass
        class D:
            x: int = 1
        D.x = 2
        @step
        def a(): return D().x
        """,
        "`D` was changed after its definition (`x`)",
    ),
    "an attribute of a function": (
        """
        def h(): return 1
        h.x = 3
        @step
        def a(): return h.x
        """,
        "`h` was changed after its definition (`x`)",
    ),
    "registered implementations": (
        """
        from functools import singledispatch
        @singledispatch
        def h(x): return 'any'
        @h.register
        def _(x: int): return 'int'
        @step
        def a(): return h(1)
        """,
        "`h` has implementations that were registered with it",
    ),
    "wrapped twice over": (
        """
        import functools
        def shout(f):
            @functools.wraps(f)
            def inner(): return f() + '!'
            return inner
        @shout
        def h(): return 'x'
        loud = shout(h)
        @step
        def a(): return loud()
        """,
        "it was wrapped after its definition",
    ),
    "wrapped by a call in C": (
        """
        import functools
        def h(): return 'x'
        kept = functools.lru_cache(h)
        @step
        def a(): return kept()
        """,
        "it was wrapped after its definition",
    ),
    "unwrapped": (
        """
        import functools
        @functools.lru_cache
        def h(): return 'x'
        raw = h.__wrapped__
        @step
        def a(): return raw()
        """,
        "it was taken from below its decorators",
    ),
}


@pytest.mark.parametrize("name", ALTERED)
def test_what_changed_after_its_definition_is_not_portable(write: Write, name: str) -> None:
    """Its source would make something else, so it is named, with what is different."""
    text, said = ALTERED[name]
    found = obstacles(describe(write(flow_of(text)).flow))
    assert len(found) == 1
    assert said in found[0]


AS_WRITTEN = {
    "private names": (
        """
        class P:
            __q = 4
            __n: int = 5
            def __h(self): return self.__q + self.__n
            def m(self): return self.__h()
        @step
        def a(): return P().m()
        """,
        9,
    ),
    "classes of one name": (
        """
        class B:
            v = 1
        First = B
        class B:
            v = 2
        @step
        def a(): return [First.v, B.v]
        """,
        [1, 2],
    ),
    "what a body borrows": (
        """
        def helper(self): return 4
        class C:
            m = helper
            x = y = 2
            for i in range(3): pass
        @step
        def a(): return C().m() + C.i
        """,
        6,
    ),
    "a method that is defined twice": (
        """
        class C:
            def p(self): return 1
            def p(self): return 2
        @step
        def a(): return C().p()
        """,
        2,
    ),
    "slots": (
        """
        class C:
            __slots__ = ('q',)
            def __init__(self): self.q = 3
        @step
        def a(): return C().q
        """,
        3,
    ),
    "named tuples": (
        """
        from typing import NamedTuple
        class P(NamedTuple):
            x: int
            y: int = 3
        @step
        def a(): return P(1)
        """,
        (1, 3),
    ),
    "enums": (
        """
        from enum import Enum
        class E(Enum):
            A = 1
        @step
        def a(): return E.A.value
        """,
        1,
    ),
    "abstract classes": (
        """
        from abc import ABC, abstractmethod
        class A(ABC):
            n = 1
            @abstractmethod
            def m(self): ...
        class B(A):
            def m(self): return self.n
        @step
        def a(): return B().m()
        """,
        1,
    ),
    "subclasses that are registered": (
        """
        class Base:
            def __init_subclass__(cls): cls.known = cls.__name__
        class B(Base): pass
        @step
        def a(): return B.known
        """,
        "B",
    ),
    "what a class keeps for itself": (
        """
        class C:
            _one = None
            @classmethod
            def get(cls):
                cls._one = cls._one or 'made'
                return cls._one
        C.get()
        @step
        def a(): return C.get()
        """,
        "made",
    ),
    "wrapped by a call": (
        """
        import functools
        def shout(f):
            @functools.wraps(f)
            def inner(): return f() + '!'
            return inner
        def h(): return 'x'
        loud = shout(h)
        @step
        def a(): return [loud(), h()]
        """,
        ["x!", "x"],
    ),
    "a manager of contexts by a call": (
        """
        from contextlib import contextmanager
        def give(): yield 4
        opened = contextmanager(give)
        @step
        def a():
            with opened() as it: return it
        """,
        4,
    ),
    "two layers of one decorator": (
        """
        import functools
        def deco(f):
            @functools.wraps(f)
            def one(): return f() + '1'
            @functools.wraps(one)
            def two(): return one() + '2'
            return two
        @deco
        def h(): return 'x'
        @step
        def a(): return h()
        """,
        "x12",
    ),
    "a decorator that marks": (
        """
        def mark(f):
            f.tag = 't'
            return f
        @mark
        def h(): return 'x'
        @step
        def a(): return h() + h.tag
        """,
        "xt",
    ),
    "a step of a wrapped function": (
        """
        import functools
        def shout(f):
            @functools.wraps(f)
            def inner(*a): return f(*a) + '!'
            return inner
        def plain(x='x'): return x
        a = step(name='a')(shout(plain))
        """,
        "x!",
    ),
}


@pytest.mark.parametrize("name", AS_WRITTEN)
def test_what_is_as_its_definition_made_it_comes_back(write: Write, name: str) -> None:
    """However odd: no obstacle, the same code, the same result, twice over."""
    text, expected = AS_WRITTEN[name]
    flow = write(flow_of(text)).flow
    assert obstacles(describe(flow)) == ()
    new = again(flow)
    assert new.step_at("a")() == flow.step_at("a")() == expected
    assert again(new).fingerprint == new.fingerprint == flow.fingerprint


def test_a_wrapped_steps_parameters_are_those_of_what_it_wraps(write: Write) -> None:
    """They are filled by name, so a wrapper's ``*args`` would get nothing."""
    flow = write(flow_of(AS_WRITTEN["a step of a wrapped function"][0])).flow
    assert list(again(flow).step_at("a").signature.parameters) == ["x"]


def test_a_patched_method_is_other_code(write: Write) -> None:
    """A run that began with it is not carried on without it; data that a class holds is no code."""
    body = "class C:\n    K = 1\n    def m(self): return 1\n{}\n@step\ndef a(): return C().m()\nflow = graph('g', a)\n"
    plain, patched, other, data = (
        write(body.format(change)).flow.fingerprint
        for change in ("", "C.m = lambda self: 2", "C.m = lambda self: 3", "C.K = 2")
    )
    assert len({plain, patched, other}) == 3
    assert data == plain


def test_a_class_of_an_edited_file_has_no_source(write: Write) -> None:
    """What was imported is not what stands there now."""
    module = write("class C:\n    def m(self): return 1\n@step\ndef a(): return C().m()\n")
    path = Path(str(module.__file__))
    path.write_text(path.read_text().replace("return 1", "return 100"))
    found = obstacles(describe(graph("g", module.a)))
    assert any("`C` has no source to store" in o and "was changed since" in o for o in found)


def test_sources_name_no_folders(write: Write, tmp_path: Path) -> None:
    """They are stored in a database that others read."""
    it = describe(write("def h(): ...\n@step\ndef a(): h()\nflow = graph('g', a)\n").flow)
    assert str(tmp_path) not in json.dumps([it.spec, it.sources])


def test_a_definition_survives_the_database(write: Write) -> None:
    """Jsonb turns 1e18 into an integer and refuses infinity, NUL and half surrogates: none of them reach it as such."""
    flow = write(r"""
        from math import inf
        from flowbook.graph.step import Backoff
        @step(timeout=inf, backoff=Backoff(max=inf, initial=1e18))
        def a():
            "Odd: \0 \ud800"
            return 1
        b = step(name="b", timeout=3e20, backoff=[1, 2e16])(a.fn)
        flow = graph("g", a >> branch(lambda s: s.x, {"\0": b, "\ud800": END, "": a}))
    """).flow
    it = describe(flow)
    text = json.dumps([it.spec, it.sources], allow_nan=False)
    assert "\\u0000" not in text
    assert "\\ud800" not in text.replace("\\\\ud800", "")  # escaped in texts for people, and in the source itself
    assert not [n for n in numbers(json.loads(text)) if abs(n) >= 1e15]
    new = again(flow)
    assert new.fingerprint == flow.fingerprint
    assert new.nodes["a"].labels == ("\0", "\ud800", "")
    assert [n.step.policy for n in new] == [n.step.policy for n in flow]


def numbers(thing: Any) -> Iterator[float]:
    match thing:
        case dict():
            yield from (n for v in thing.values() for n in numbers(v))
        case list():
            yield from (n for v in thing for n in numbers(v))
        case int() | float():
            yield thing
        case _:
            return
