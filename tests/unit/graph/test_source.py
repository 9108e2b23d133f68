"""What is known of a flow's code, and when two flows are the same code."""

from __future__ import annotations

import ast
import base64
import json
import linecache
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from flowbook.codec import decode
from flowbook.graph.canonical import digest, tree
from flowbook.graph.changes import changes
from flowbook.graph.flow import Graph
from flowbook.graph.portable import is_portable, obstacles
from flowbook.graph.source import Described, describe

Write = Callable[..., ModuleType]

FLOW = """
    LIMIT = 3

    def clean(text):
        return text.strip()[:LIMIT]

    @step(retries=2)
    def fit(raw):
        return clean(raw)

    @step
    def judge(fit): return bool(fit)

    flow = graph("f", fit >> judge >> branch(lambda s: s.judge, {True: END, False: fit}))
"""


def described(write: Write, text: str) -> Described:
    return describe(write(text).flow)


def one_step(write: Write, body: str, before: str = "") -> Described:
    """A flow of one step with this body."""
    text = f"{before}\n@step\ndef a(x=None):\n    {body}\nflow = graph('one', START >> a)\n"
    return describe(write(text).flow)


# ------------------------------------------------------------------------------------------------------ what is found


def test_sources_name_all_that_is_called(write: Write) -> None:
    """Steps, routers and helpers are entered with text, kind and place."""
    it = described(write, FLOW).sources
    kinds = {key: entry["kind"] for key, entry in it["callables"].items()}
    assert kinds == {"fit": "function", "clean": "function", "judge": "function", "router behind judge": "lambda"}
    assert it["callables"]["fit"]["text"] == "@step(retries=2)\ndef fit(raw):\n    return clean(raw)\n"
    assert it["callables"]["router behind judge"]["text"] == "lambda s: s.judge"
    assert it["callables"]["fit"]["lineno"] == 13
    assert decode(base64.b64decode(it["constants"]["LIMIT"])) == 3


def test_all_of_it_is_json(write: Write) -> None:
    """What is stored comes back as it was."""
    it = described(write, FLOW)
    assert json.loads(json.dumps([it.spec, it.sources])) == [it.spec, it.sources]


def test_the_spec_has_the_topology(write: Write) -> None:
    """Nodes with their options, ways and labels."""
    fit, judge = described(write, FLOW).spec["nodes"]
    assert (fit["name"], fit["step"], fit["policy"], fit["ways"]) == ("fit", "fit", {"retries": 2}, [["judge"]])
    assert (judge["labels"], judge["ways"]) == (["True", "False"], [[], ["fit"]])


def test_describing_is_done_once(write: Write) -> None:
    """The second call has the first one's answer."""
    flow = write(FLOW).flow
    assert describe(flow) is describe(flow)
    assert flow.fingerprint == describe(flow).fingerprint


@pytest.mark.parametrize(
    "before,body,kind",
    [
        ("import numpy as np", "return np.abs(x)", ["import", "import numpy as np"]),
        ("from json import dumps as np", "return np(x)", ["import", "from json import dumps as np"]),
        ("from math import pi as np", "return np", ["constant", "np"]),
        ("np = ('a', 1, frozenset([b'x']))", "return np", ["constant", "np"]),
        ("np = None", "return [np for _ in x]", ["constant", "np"]),
        ("np = [1]", "return (lambda: np)()", ["data", "list"]),
        ("np = {}", "return {k: np for k in x}", ["data", "dict"]),
        ("np = (1, [2])", "return np", ["data", "tuple"]),
        ("np = 'x' * 50_000", "return np", ["data", "str"]),
        ("def np(): ...", "return np()", ["callable", "np"]),
        ("class np: ...", "return np()", ["callable", "np"]),
        ("np = lambda: 1", "return np()", ["callable", "np"]),
        ("@step(timeout=3)\ndef np(): ...", "return np()", ["step", "np", "np", {"timeout": 3.0}]),
        ("", "return np", ["missing"]),
        ("import numpy.linalg\nnp = numpy", "return np.linalg.norm(x)",
         ["import", "import numpy as np", "import numpy.linalg"]),
    ],
)  # fmt: skip
def test_a_name_means(write: Write, before: str, body: str, kind: list[Any]) -> None:
    """Every free name is an import, stored source, a constant, data, or undefined."""
    assert one_step(write, body, before).sources["scopes"][0]["names"] == {"np": kind}


@pytest.mark.parametrize("body", ["return len(x)", "y = 1; return y", "return x.np", "import os; return os", "print()"])
def test_what_is_local_or_built_in_is_not_free(write: Write, body: str) -> None:
    """Attributes, locals and builtins are not looked up anywhere."""
    assert one_step(write, body).sources["scopes"][0]["names"] == {}


def test_defaults_and_annotations_are_read_as_well(write: Write) -> None:
    """What is evaluated while a function is defined belongs to it."""
    it = described(write, """
        from decimal import Decimal
        N = 3
        @step
        def a(x: Decimal = N): ...
        flow = graph("g", START >> a)
    """)  # fmt: skip
    assert it.sources["scopes"][0]["names"] == {"Decimal": ["import", "from decimal import Decimal"]}
    assert it.sources["callables"]["a"]["private"] == {"N": ["constant", "N"]}


def test_lambdas_in_one_line_are_told_apart(write: Write) -> None:
    """Even if they are alike, and even one inside the other."""
    it = described(write, """
        @step
        def a(): ...
        @step
        def b(): ...
        r = [lambda s: s.x, lambda s: s.y, lambda s: (lambda: s.z)()]
        flow = graph("g", START >> a >> branch(r[1], {1: b, 2: END}), b >> branch(r[2], {1: a, 2: END}))
    """)  # fmt: skip
    texts = {k: v["text"] for k, v in it.sources["callables"].items() if k.startswith("router")}
    assert texts == {"router behind a": "lambda s: s.y", "router behind b": "lambda s: (lambda: s.z)()"}


def test_a_lambda_over_several_lines_is_kept(write: Write) -> None:
    """Its text has no brackets of its own."""
    it = described(write, """
        @step
        def a(): ...
        flow = graph("g", START >> a >> branch(
            lambda s:
                s.x,
            {1: a, 2: END}))
    """)  # fmt: skip
    assert it.sources["callables"]["router behind a"]["text"].split() == ["lambda", "s:", "s.x"]


def test_a_closure_over_constants_is_portable(write: Write) -> None:
    """A factory of steps is a common thing."""
    text = """
        def make(n, name):
            @step(name=name)
            def add(x): return x + n
            return add
        flow = graph("g", START >> make({}, "one") >> make(20, "two"))
    """
    it = described(write, text.format(10))
    assert is_portable(it)
    assert it.sources["callables"]["add"]["private"] == {"n": ["constant", "n"]}
    assert it.fingerprint != described(write, text.format(11)).fingerprint


def test_a_closure_over_data_is_an_obstacle(write: Write) -> None:
    """It is named like a variable."""
    it = described(write, """
        def make(seen):
            @step
            def add(x): return seen.append(x)
            return add
        flow = graph("g", START >> make([]))
    """)  # fmt: skip
    (text,) = obstacles(it)
    assert "`add` reads" in text
    assert "`seen` (list)" in text


# -------------------------------------------------------------------------------------------------------- obstacles


def test_data_is_named_with_its_reader_and_the_remedy(write: Write) -> None:
    """The text can be typed back."""
    (text,) = obstacles(one_step(write, "return df", "df = [1]"))
    assert text == "`a` reads variable `df` (list): pass it as input or `%%flow --freeze df`"


def test_what_cannot_be_stored_is_not_to_be_frozen(write: Write) -> None:
    """A logger is neither an input nor data."""
    (text,) = obstacles(one_step(write, "log.info(x)", "import logging\nlog = logging.getLogger()"))
    assert text.startswith("`a` reads variable `log` (RootLogger): make it inside the step")


def test_data_of_a_helper_is_found(write: Write) -> None:
    """A helper's helper counts."""
    (text,) = obstacles(one_step(write, "return h()", "df = [1]\ndef g(): return df\ndef h(): return g()"))
    assert text.startswith("`g` reads")


def test_frozen_data_belongs_to_the_definition(write: Write) -> None:
    """It is stored, and another value is another fingerprint."""
    text = "df = {}\n@step\ndef a(): return df\nflow = graph('g', START >> a, freeze={{'df': df}})\n"
    one, two = (described(write, text.format(v)) for v in ("[1]", "[2]"))
    assert obstacles(one) == ()
    assert one.sources["frozen"] == {"df": "df"}
    assert one.fingerprint != two.fingerprint


def test_what_cannot_be_frozen_is_said(write: Write) -> None:
    """With the codec's reason."""
    text = "df = object()\n@step\ndef a(): return df\nflow = graph('g', START >> a, freeze={'df': df})\n"
    assert "cannot be stored" in obstacles(described(write, text))[0]


def test_undefined_names_are_reported(write: Write) -> None:
    """They would fail in the middle of a run."""
    (text,) = obstacles(one_step(write, "return nowhere"))
    assert "`nowhere`, which nothing defines" in text


def test_global_statements_are_reported(write: Write) -> None:
    """A step that changes its notebook cannot do so elsewhere."""
    (text,) = obstacles(one_step(write, "global n; n = 1", "n = 0"))
    assert "`global` statement" in text


def test_code_without_source_is_described_all_the_same() -> None:
    """Its fingerprint comes from its bytecode, and it is not portable."""
    from flowbook.graph.expression import START_NODE
    from flowbook.graph.flow import graph
    from flowbook.graph.step import step

    def made(text: str) -> Graph:
        scope: dict[str, Any] = {"__name__": "__main__"}
        exec(text, scope)
        return graph("g", START_NODE >> step(scope["a"]))

    one, again, two = map(made, ("def a(): return 1", "\n\ndef a(): return 1", "def a(): return 2"))
    assert one.fingerprint == again.fingerprint != two.fingerprint
    assert "exec" in obstacles(describe(one))[0]


def test_a_file_that_was_edited_since_has_no_source(write: Write) -> None:
    """The text of today is not the code of the run."""
    import os
    import sys

    module = write("@step\ndef a():\n    return 1\nflow = graph('g', START >> a)\n")
    file = Path(str(sys.modules[module.__name__].__file__))
    file.write_text(file.read_text().replace("return 1", "return 22"))
    os.utime(file, (1, 1))
    linecache.checkcache()
    assert "was changed since" in obstacles(describe(module.flow))[0]


def test_objects_that_are_no_functions_are_obstacles(write: Write) -> None:
    """A router must be something with source, or importable."""
    text = "import operator, functools\n@step\ndef a(): ...\nflow = graph('g', a >> branch({}, {{1: a, 2: END}}))\n"
    assert "itemgetter" in obstacles(described(write, text.format("operator.itemgetter('x')")))[0]
    it = described(write, text.format("bool"))
    assert obstacles(it) == ()
    assert it.sources["callables"]["bool"]["kind"] == "reference"


# ----------------------------------------------------------------------------------------------------- fingerprints


def test_layout_comments_and_docstrings_do_not_count(write: Write) -> None:
    """The same code, written differently."""
    other = FLOW.replace("LIMIT = 3", "# a note\n\n    LIMIT = 3").replace(
        "return clean(raw)", '"""What it does."""\n        return clean( raw )  # so'
    )
    assert described(write, FLOW).fingerprint == described(write, other).fingerprint


@pytest.mark.parametrize(
    "old,new,said",
    [
        ("return clean(raw)", "return clean(raw) + ''", "step `fit` changed"),
        (".strip()", "", "helper `clean` changed"),
        ("LIMIT = 3", "LIMIT = 4", "constant `LIMIT` is 4 instead of 3"),
        ("retries=2", "retries=5", "step `fit`: retries is 5 instead of 2"),
        ("lambda s: s.judge", "lambda s: not s.judge", "the router behind judge changed"),
        ("False: fit}", "False: fit, 'retry': judge}", "branch behind judge: new case 'retry'"),
        ("{True: END, False: fit}", "{True: fit, False: END}", "branch behind judge: True leads to fit"),
        ("fit >> judge >>", "fit >> fit.as_('extra') >> judge >>", "step `extra` added"),
        ("clean(raw)", "str.strip(raw)", "helper `clean` removed"),
        ('graph("f"', 'graph("g"', "the flow is called g instead of f"),
    ],
)
def test_what_changed_is_said(write: Write, old: str, new: str, said: str) -> None:
    """Each change gives another fingerprint and a text."""
    before, after = described(write, FLOW), described(write, FLOW.replace(old, new))
    assert before.fingerprint != after.fingerprint
    assert said in changes(before, after)
    assert changes(before, before) == ()


def test_releases_of_python_agree_on_trees() -> None:
    """A kernel on 3.11 and a worker on 3.12, whose parser adds empty texts to f-strings and fields to functions."""
    old, new = (ast.parse("def a(x, n): return f'{x:>{n}}'").body[0] for _ in range(2))
    for node in ast.walk(new):
        if isinstance(node, ast.JoinedStr):
            node.values.append(ast.Constant(""))
    assert isinstance(new, ast.FunctionDef)
    assert isinstance(old, ast.FunctionDef)
    old.__dict__.pop("type_params", None)
    new.__dict__["type_params"] = []
    assert digest(tree(old, 0)) == digest(tree(new, 0))


def test_data_values_do_not_count(write: Write) -> None:
    """A longer table is the same flow."""
    one, two = (one_step(write, "return df", f"df = {v}") for v in ("[1]", "[2]"))
    assert one.fingerprint == two.fingerprint
    assert changes(one, two) == ()


def test_an_import_counts(write: Write) -> None:
    """The same name from another module is other code."""
    one, two = (one_step(write, "return sin(x)", f"from {m} import sin") for m in ("math", "cmath"))
    assert one.fingerprint != two.fingerprint
    assert "`sin` is imported by `from cmath import sin` instead of `from math import sin`" in changes(one, two)


@pytest.mark.parametrize(
    "one,two",
    [
        ("class S(TypedDict):\n    a: int", "class S(TypedDict):\n    a: int\n    b: int"),
        ("class S(TypedDict):\n    a: int", "class S(TypedDict):\n    a: Annotated[int, operator.add]"),
        ("class S(TypedDict):\n    a: Annotated[int, lambda x, y: x]",
         "class S(TypedDict):\n    a: Annotated[int, lambda x, y: y]"),
    ],
)  # fmt: skip
def test_the_state_counts(write: Write, one: str, two: str) -> None:
    """Its keys, types and reducers are code."""
    text = "\n@step\ndef a(): ...\nflow = graph('g', START >> a, state=S)\n"
    before, after = described(write, one + text), described(write, two + text)
    assert before.fingerprint != after.fingerprint
    assert "state `S` changed" in changes(before, after)
    assert before.fingerprint == described(write, one + text).fingerprint


def test_a_reducer_in_the_state_is_followed(write: Write) -> None:
    """It is a helper like any other."""
    text = """
        def add(old, new): return old + {}
        class S(TypedDict):
            a: Annotated[int, add]
        @step
        def a(): ...
        flow = graph('g', START >> a, state=S)
    """
    one, two = described(write, text.format("new")), described(write, text.format("new + 1"))
    assert one.fingerprint != two.fingerprint
    assert "helper `add` changed" in changes(one, two)


# -------------------------------------------------------------------------------------------------------- notebooks

CELLS = [
    "K = 2\ndf = [1]\ndef tidy(x):\n    return x * K",
    """
    class State(TypedDict):
        n: Annotated[list[int], operator.add]
        ok: bool
    @step
    def a(n):
        "Doubles."
        return {"n": [tidy(1)]}
    @step
    def b(n): return {"ok": True}
    """,
    "flow = graph('f', START >> a >> b >> branch(lambda s: s.ok, {True: END, False: a}), state=State)",
]
ASK = """
def answer(ns):
    from flowbook.graph.source import describe
    from flowbook.graph.portable import obstacles
    it = describe(ns["flow"])
    return [it.fingerprint, it.spec, it.sources, obstacles(it)]
"""


def test_cells_are_sources(notebook: Callable[..., Any]) -> None:
    """Functions, lambdas and classes of a notebook are found in their cells, which have numbers."""
    _, spec, sources, found = notebook(CELLS, ASK)
    entries = sources["callables"]
    assert found == []
    assert entries["a"]["file"] == "notebook cell [3]"
    assert entries["tidy"]["file"] == "notebook cell [2]"
    assert entries["State"]["text"].startswith("class State(TypedDict):\n    n: Annotated")
    assert entries["router behind b"]["text"] == "lambda s: s.ok"
    assert spec["nodes"][0]["doc"] == "Doubles."
    assert spec["state"]["reducers"] == {"n": "add"}


def test_the_same_cells_in_another_kernel_are_the_same_code(notebook: Callable[..., Any]) -> None:
    """Other cell numbers and blank lines make no difference; a changed helper does."""
    one, *_ = notebook(CELLS, ASK)
    two, *_ = notebook(["1 + 1", *("\n\n# note\n" + c.replace("    ", "    ") for c in map(_dedented, CELLS))], ASK)
    three, *_ = notebook([CELLS[0].replace("x * K", "x + K"), *CELLS[1:]], ASK)
    assert one == two != three


def _dedented(cell: str) -> str:
    import textwrap

    return textwrap.dedent(cell)


def test_the_latest_of_several_classes_of_a_name_is_found(notebook: Callable[..., Any]) -> None:
    """Cells are run again, in any order."""
    old = "class State(TypedDict):\n    n: int\n    ok: bool"
    *_, sources, _ = notebook([old, *CELLS], ASK)
    assert "Annotated" in sources["callables"]["State"]["text"]
    *_, sources, _ = notebook([*CELLS[:2], old, "flow = graph('f', START >> a >> b, state=State)"], ASK)
    assert "Annotated" not in sources["callables"]["State"]["text"]


def test_notebook_data_is_named_as_such(notebook: Callable[..., Any]) -> None:
    """The user knows what a notebook variable is."""
    *_, found = notebook([CELLS[0].replace("x * K", "df"), *CELLS[1:]], ASK)
    assert found == ["`tidy` reads notebook variable `df` (list): pass it as input or `%%flow --freeze df`"]


def test_the_open_that_ipython_slips_into_a_notebook_is_the_builtin(notebook: Callable[..., Any]) -> None:
    """A step that opens a file is portable: the notebook never asked for that wrapper."""
    cell = """
    @step
    def load():
        with open("x") as file:
            return file.read()
    flow = graph("reading", load)
    """
    *_, found = notebook([cell], ASK)
    assert found == []
