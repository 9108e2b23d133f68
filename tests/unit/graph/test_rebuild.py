"""A flow made again from what was stored of it, and who may do that."""

from __future__ import annotations

import inspect
import json
import stat
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from flowbook.errors import NotPortable, SignatureRefused
from flowbook.graph.flow import Graph
from flowbook.graph.rebuild import rebuild
from flowbook.graph.sign import load_key, sign, verify
from flowbook.graph.source import describe

Write = Callable[..., ModuleType]
KEY = b"k" * 32


@dataclass(frozen=True)
class Stored:
    """As a store gives it back: everything went through JSON."""

    namespace: str
    flow: str
    fingerprint: str
    spec: Any
    sources: Any
    signature: str


def stored(graph: Graph, key: bytes = KEY) -> Stored:
    it = describe(graph)
    spec, sources = json.loads(json.dumps([it.spec, it.sources], sort_keys=True))  # jsonb keeps no order either
    return Stored("default", graph.name, it.fingerprint, spec, sources,
                  sign(key, "default", graph.name, it.fingerprint, spec, sources))  # fmt: skip


def again(graph: Graph) -> Graph:
    return rebuild(stored(graph), key=KEY)


def call(graph: Graph, node: str, *args: Any) -> Any:
    return graph.step_at(node)(*args)


# ------------------------------------------------------------------------------------------------------- what returns


def test_the_whole_of_a_flow_comes_back(write: Write) -> None:
    """Topology, options, routers, state, helpers, constants and imports."""
    flow = write("""
        import numpy as np
        from math import floor as down
        N = 10

        class State(TypedDict):
            docs: Annotated[list[int], operator.add]
            more: bool

        def tidy(x): return down(np.float64(x) * N)

        @step(retries=3, timeout="2m", backoff=[1, 2], store="recompute")
        def a(x=N): return {"docs": [tidy(x)]}
        @step
        async def b(): "Looks."
        @step
        def c(): ...
        @step
        def d(): ...

        flow = graph("whole", START >> a >> [b, c] >> d >> branch(lambda s: s.more, {True: a, None: END}),
                     state=State, version="one")
    """).flow  # fmt: skip
    new = again(flow)
    assert new.fingerprint == flow.fingerprint
    assert (new.name, new.version, new.entry, dict(new.joins)) == ("whole", "one", ("a",), {("a", 0): "d"})
    assert call(new, "a") == {"docs": [100]}
    assert new.step_at("a").policy == flow.step_at("a").policy
    assert new.step_at("b").is_async
    assert new.nodes["d"].labels == (True, None)
    assert new.nodes["d"].ways == (("a",), ())
    assert new.schema is not None
    assert dict(new.schema.reducers) == {"docs": __import__("operator").add}
    assert call(new, "a").__class__ is dict
    assert new.step_at("a").fn is not flow.step_at("a").fn


FLOWS = {
    "decorated helpers": """
        import functools
        def shout(f):
            @functools.wraps(f)
            def inner(x): return UP(f(x))
            return inner
        def UP(x): return x.upper()
        @shout
        def say(x): return x
        @functools.lru_cache
        def one(): return "a"
        @step
        def a(): return say(one())
        flow, given, expected = graph("g", START >> a), (), "A"
    """,
    "decorators below step": """
        import functools
        def twice(f):
            @functools.wraps(f)
            def inner(*args): return f(*args) * 2
            return inner
        @step(retries=1)
        @twice
        def a(): return 3
        flow, given, expected = graph("g", START >> a), (), 6
    """,
    "decorators without wraps": """
        def twice(f):
            def a(): return f() * 2
            return a
        def three(): return 3
        a = step(twice(three))
        flow, given, expected = graph("g", START >> a), (), 6
    """,
    "classes": """
        from dataclasses import dataclass, field
        from enum import Enum
        class Base:
            def hello(self): return [K, self.name, Colour.RED.value]
        @dataclass
        class Doc(Base):
            name: str
            tags: "list[Tag]" = field(default_factory=list)
        class Tag: ...
        class Colour(Enum):
            RED = 1
        K = 5
        @step
        def a(): return Doc("x").hello()
        flow, given, expected = graph("g", START >> a), (), [5, "x", 1]
    """,
    "pydantic": """
        from pydantic import BaseModel
        class Part(BaseModel):
            n: int
        class S(BaseModel):
            parts: list[Part] = []
        @step
        def a(): return S(parts=[{"n": "3"}]).parts[0].n
        flow, given, expected = graph("g", START >> a, state=S), (), 3
    """,
    "recursion": """
        def even(n): return n == 0 or odd(n - 1)
        def odd(n): return n != 0 and even(n - 1)
        @step
        def a(): return even(10)
        flow, given, expected = graph("g", START >> a), (), True
    """,
    "closures": """
        def make(n):
            def down(x): return x if x < n else down(x - n)
            @step
            def a(x): return [down(x), n]
            return a
        flow, given, expected = graph("g", START >> make(10)), (42,), [2, 10]
    """,
    "defaults of a loop": """
        steps = []
        for i in range(3):
            steps.append(step(name=f"s{i}")(lambda x=0, i=i: x + i))
        a = steps[1].as_("a")
        flow, given, expected = graph("g", START >> steps[0] >> a >> steps[2]), (1,), 2
    """,
    "steps that call steps": """
        @step(retries=2)
        def b(): return 1
        @step
        def a(): return [b(), b.policy.retries, again.name]
        again = b.as_("again")
        flow, given, expected = graph("g", START >> a >> b >> again), (), [1, 2, "again"]
    """,
    "another name": """
        def helper(): return 1
        tidy = helper
        lam = lambda: tidy() + 1
        @step
        def a(): return lam()
        flow, given, expected = graph("g", START >> a), (), 2
    """,
    "strange text": '''
        def make():
            @step
            def a():
                return """one
        two"""
            return a
        flow, given, expected = graph("g", START >> make()), (), "one\\ntwo"
    ''',
    "submodules": """
        import xml.etree.ElementTree
        @step
        def a(): return xml.etree.ElementTree.fromstring("<a/>").tag
        flow, given, expected = graph("g", START >> a), (), "a"
    """,
    "a builtin that is hidden": """
        def len(x): return "mine"
        @step
        def a(): return [len([1]), max(1, 2)]
        flow, given, expected = graph("g", START >> a), (), ["mine", 2]
    """,
}


@pytest.mark.parametrize("name", FLOWS)
def test_it_does_what_it_did(write: Write, name: str) -> None:
    """The first of the flow's calls gives the same, and the code is recognised as the same."""
    module = write(FLOWS[name])
    assert call(module.flow, "a", *module.given) == module.expected
    new = again(module.flow)
    assert call(new, "a", *module.given) == module.expected
    assert new.fingerprint == module.flow.fingerprint
    assert again(new).fingerprint == module.flow.fingerprint


def test_postponed_annotations_stay_postponed(write: Write) -> None:
    """The compiler flags of a cell or file belong to its code."""
    module = write("""
        class State(TypedDict):
            n: Annotated[int, operator.add]
            later: Later
        class Later: ...
        @step
        def a(x: Nowhere): return x
        flow = graph("g", START >> a, state=State)
    """, prelude="from __future__ import annotations\n" + _prelude())  # fmt: skip
    new = again(module.flow)
    assert call(new, "a", 1) == 1
    assert new.schema is not None
    assert list(new.schema.reducers) == ["n"]


def _prelude() -> str:
    from tests.unit.graph.conftest import PRELUDE

    return PRELUDE


def test_code_of_several_modules_comes_back(write: Write) -> None:
    """Two modules may give one name two meanings."""
    write("def tidy(): return 'one'\n@step\ndef a(): return tidy()\n", "first_written")
    second = write("""
        from first_written import a
        def tidy(): return 'two'
        @step
        def b(): return tidy()
        flow = graph("g", START >> a >> b)
    """)  # fmt: skip
    new = again(second.flow)
    assert (call(new, "a"), call(new, "b")) == ("one", "two")


def test_a_dict_of_steps_is_part_of_the_code(write: Write) -> None:
    """A body may choose by name which step or flow it calls."""
    module = write("""
        @step(retries=2)
        def double(n): return 2 * n
        inner = graph('inner', START >> double)
        tools = {'double': double, 'inner': inner}
        @step
        def a(): return [tools['double'](21), tools['double'].policy.retries, tools['inner'].name]
        flow = graph('g', START >> a)
    """)
    assert call(again(module.flow), "a") == [42, 2, "inner"]


def test_frozen_data_comes_back(write: Write) -> None:
    """With the value of the time it was frozen."""
    module = write("df = [1]\n@step\ndef a(): return df\nflow = graph('g', START >> a, freeze={'df': [1]})\n")
    definition = stored(module.flow)
    module.df.append(2)
    assert call(rebuild(definition, key=KEY), "a") == [1]


def test_tracebacks_show_the_stored_lines(write: Write) -> None:
    """And inspect finds the source, so that it can be shown and described again."""
    new = again(write("# note\n@step(retries=1)\ndef a(x):\n    y = 1\n    return y / x\nflow = graph('g', a)\n").flow)
    try:
        call(new, "a", 0)
    except ZeroDivisionError:
        assert "return y / x" in traceback.format_exc()
    assert "return y / x" in inspect.getsource(new.step_at("a").fn)


def test_a_notebooks_own_classes_come_back(notebook: Callable[..., Any], python: Callable[..., Any]) -> None:
    """In another process, from a notebook's definition: same code, same labels, same class names."""
    cells = [
        """
        from enum import Enum
        from dataclasses import dataclass
        class Verdict(Enum):
            GOOD = 1
            BAD = 2
        @dataclass
        class Doc:
            n: int
            def twice(self): return self.n * 2
        K = 3
        def tidy(n): return Doc(n * K)
        """,
        """
        @step(retries=2)
        def a(n=1): return {"doc": tidy(n)}
        flow = graph("g", START >> a >> branch(lambda s: s.v, {Verdict.GOOD: END, Verdict.BAD: a}))
        """,
    ]
    it = notebook(cells, """
        def answer(ns):
            from flowbook.graph.source import describe
            it = describe(ns["flow"])
            return ["default", "g", it.fingerprint, it.spec, it.sources, ""]
    """)  # fmt: skip
    assert python("""
import json, sys
from types import SimpleNamespace
from flowbook.codec import decode, encode
from flowbook.graph.rebuild import rebuild
names = "namespace flow fingerprint spec sources signature".split()
flow = rebuild(SimpleNamespace(**dict(zip(names, json.load(sys.stdin)))), key=None, allow_unsigned=True)
doc = flow.step_at("a")(2)["doc"]
assert decode(encode(doc)) == doc
import cloudpickle, subprocess
child = "import pickle, sys; print(pickle.load(sys.stdin.buffer)(5)['doc'].twice())"
body = cloudpickle.dumps(flow.step_at("a").fn)
sent = subprocess.run([sys.executable, "-c", child], input=body, capture_output=True, check=False)
assert sent.stdout.strip() == b"30", sent  # executor="process" ships it by value
print(json.dumps([flow.fingerprint, repr(doc), type(doc).__module__, [str(x) for x in flow.nodes["a"].labels]]))
""", it) == [it[2], "Doc(n=6)", "__main__", ["Verdict.GOOD", "Verdict.BAD"]]  # fmt: skip


def test_the_notebooks_own_class_keeps_its_name(notebook: Callable[..., Any]) -> None:
    """Rebuilding beside the living code takes nothing from it."""
    assert notebook(
        [
            """
            from dataclasses import dataclass
            @dataclass
            class Doc:
                n: int
            @step
            def a(): return Doc(1)
            flow = graph("g", START >> a)
            """
        ],
        """
        def answer(ns):
            from types import SimpleNamespace
            from flowbook.codec import decode, encode
            from flowbook.graph.rebuild import rebuild
            from flowbook.graph.source import describe
            it = describe(ns["flow"])
            d = SimpleNamespace(namespace="x", flow="g", signature="", **it.__dict__)
            new = rebuild(d, key=None, allow_unsigned=True)
            mine, other = ns["Doc"](1), new.step_at("a")()
            return [decode(encode(mine)) == mine, decode(encode(other)) == other, type(mine) is type(other)]
        """,
    ) == [True, True, False]


# ----------------------------------------------------------------------------------------------------- what is refused

SIMPLE = "MARK = []\n@step\ndef a(): return 1\nflow = graph('g', START >> a)\n"


def test_tampered_source_is_refused_before_it_runs(write: Write) -> None:
    """Whoever can write to the database cannot run code here."""
    good = stored(write(SIMPLE).flow)
    evil = json.loads(json.dumps(good.sources))
    evil["callables"]["a"]["text"] = "def a(x=__import__('sys').modules.update(evil=1)): return 1\n"
    for bad in (
        replace(good, sources=evil),
        replace(good, namespace="other"),
        replace(good, flow="other"),
        replace(good, fingerprint="0" * 32),
        replace(good, spec={**good.spec, "entry": []}),
        replace(good, signature=""),
        replace(good, signature="ü"),
    ):
        with pytest.raises(SignatureRefused, match="--allow-source"):
            rebuild(bad, key=KEY)
    assert "evil" not in sys.modules


def test_another_users_source_is_refused(write: Write) -> None:
    """Unless it is allowed on purpose."""
    definition = stored(write(SIMPLE).flow, key=b"x" * 32)
    with pytest.raises(SignatureRefused):
        rebuild(definition, key=KEY)
    with pytest.raises(SignatureRefused, match="no key"):
        rebuild(definition, key=None)
    assert call(rebuild(definition, key=None, allow_unsigned=True), "a") == 1


def test_what_is_not_portable_is_not_rebuilt(write: Write) -> None:
    """With the reasons."""
    flow = write("df = [1]\n@step\ndef a(): return df, nope\nflow = graph('g', START >> a)\n").flow
    with pytest.raises(NotPortable, match="df") as caught:
        again(flow)
    assert len(caught.value.reasons) == 2


def test_a_module_that_is_missing_is_named(write: Write) -> None:
    """It is portable, but not here."""
    write("def tidy(): return 1\n", "helpers_written")
    flow = write("from helpers_written import tidy\n@step\ndef a(): return tidy()\nflow = graph('g', a)\n").flow
    definition = stored(flow)
    assert definition.sources["local_modules"] == ["helpers_written"]
    del sys.modules["helpers_written"]
    before = {m for m in sys.modules if m.startswith("flowbook_rebuilt")}
    with pytest.raises(NotPortable, match="from helpers_written import tidy"):
        rebuild(definition, key=KEY)
    assert {m for m in sys.modules if m.startswith("flowbook_rebuilt")} == before


def test_a_result_that_is_other_code_is_refused(write: Write) -> None:
    """Allowed source must still be what the run is pinned to."""
    good = stored(write(SIMPLE).flow)
    other = json.loads(json.dumps(good.sources).replace("return 1", "return 2"))
    with pytest.raises(NotPortable, match="rebuilt, is"):
        rebuild(replace(good, sources=other), key=None, allow_unsigned=True)


def test_a_newer_format_is_refused(write: Write) -> None:
    """Rather than misread."""
    good = stored(write(SIMPLE).flow)
    with pytest.raises(NotPortable, match="release"):
        rebuild(replace(good, spec={**good.spec, "format": 99}), key=None, allow_unsigned=True)


# --------------------------------------------------------------------------------------------------------------- key


def test_the_key_is_made_once_and_private(tmp_path: Path) -> None:
    """32 bytes that only their owner can read."""
    home = tmp_path / "new" / "home"
    key = load_key(home)
    assert len(key) == 32
    assert load_key(home) == key
    assert stat.S_IMODE((home / "key").stat().st_mode) == 0o600
    assert [p.name for p in home.iterdir()] == ["key"]


def test_many_at_once_get_one_key(tmp_path: Path) -> None:
    """Kernels start at the same time."""
    keys: list[bytes] = []
    gate = threading.Barrier(8)

    def ask() -> None:
        gate.wait()
        keys.append(load_key(tmp_path))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(keys) == 8
    assert len(set(keys)) == 1


def test_a_damaged_key_is_not_used(tmp_path: Path) -> None:
    """Nor silently replaced: what it signed would be lost."""
    (tmp_path / "key").write_bytes(b"short")
    with pytest.raises(SignatureRefused, match="not a key"):
        load_key(tmp_path)


def test_a_signature_covers_every_field() -> None:
    """And the order of keys in JSON does not matter."""
    good = sign(KEY, "n", "f", "p", {"a": 1, "b": 2}, {})
    assert verify(KEY, "n", "f", "p", {"b": 2, "a": 1}, {}, good)
    assert not verify(KEY, "n", "f", "p", {"a": 1, "b": 3}, {}, good)
    assert not verify(KEY, "nf", "", "p", {"a": 1, "b": 2}, {}, good)
    with pytest.raises(SignatureRefused):
        sign(b"", "n", "f", "p", {}, {})
