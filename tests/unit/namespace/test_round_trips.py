"""What a notebook's variables are after a resume: what they were."""

from __future__ import annotations

import dataclasses
import inspect
import os
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.namespace.notebooks import Notebook

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers()
    | st.dates() | st.datetimes() | st.decimals() | st.uuids() | st.fractions()
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


def resumed(source: str) -> Notebook:
    """A notebook of one cell, in another kernel."""
    return Notebook().run(source).resumed()


@settings(max_examples=30)
@given(values=st.dictionaries(st.sampled_from("abcdef"), VALUES, min_size=1))
def test_values_come_back_as_they_were(values: dict[str, Any]) -> None:
    """Whatever plain Python can say."""
    notebook = Notebook()
    notebook.namespace.update(values)
    other = notebook.run("pass").resumed()
    for name, value in values.items():
        assert repr(other[name]) == repr(value)  # so that nan is nan and -0.0 is -0.0
        assert type(other[name]) is type(value)


@settings(max_examples=30)
@given(data=st.data())
def test_what_was_one_object_is_one_object(data: st.DataObject) -> None:
    """Lists that hold each other in any way: whoever was the same is the same, whoever was not is not."""
    count = data.draw(st.integers(2, 6))
    lists: list[list[Any]] = [[n] for n in range(count)]
    for n in range(count):
        lists[n] += [lists[m] for m in data.draw(st.lists(st.integers(0, count - 1), max_size=3))]
    names = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=6))
    notebook = Notebook()
    notebook.namespace.update({f"v{i}": lists[n] for i, n in enumerate(names)})
    other = notebook.run("pass").resumed()
    found: dict[int, Any] = {}
    back: dict[int, int] = {}

    def same(old: Any, new: Any) -> None:
        if id(old) in found:
            assert found[id(old)] is new
            return
        assert back.setdefault(id(new), id(old)) == id(old)
        found[id(old)] = new
        assert old[0] == new[0]
        assert len(old) == len(new)
        for one, two in zip(old[1:], new[1:], strict=True):
            same(one, two)

    for i, n in enumerate(names):
        same(lists[n], other[f"v{i}"])


@settings(max_examples=30)
@given(data=st.data())
def test_views_are_views_of_the_same_memory(data: st.DataObject) -> None:
    """Any slices of slices: what a write to one changes in the others is the same after the resume."""
    import numpy as np

    root = np.arange(24.0).reshape(4, 6)
    arrays = [root]
    for _ in range(data.draw(st.integers(1, 4))):
        base = data.draw(st.sampled_from(arrays))
        how = data.draw(st.sampled_from(["rows", "columns", "back", "turned", "ravel", "window"]))
        made = {
            "rows": lambda b: b[1:], "columns": lambda b: b[..., ::2], "back": lambda b: b[::-1],
            "turned": lambda b: b.T, "ravel": lambda b: b.reshape(-1),
            "window": lambda b: np.lib.stride_tricks.sliding_window_view(b, b.shape, writeable=True),
        }[how](base)  # fmt: skip
        if made.size:
            arrays.append(made)
    notebook = Notebook()
    keep = data.draw(st.lists(st.integers(0, len(arrays) - 1), min_size=1, unique=True))
    notebook.namespace.update({f"a{i}": arrays[i] for i in keep})
    other = notebook.run("pass").resumed()
    if data.draw(st.booleans()):  # killed again at once
        other = other.run("pass").resumed()
        assert other.lost == {}
    for writer in keep:
        for one in (arrays, {i: other[f"a{i}"] for i in keep}):
            one[writer].flat[0] += 100
        for reader in keep:
            assert np.array_equal(arrays[reader], other[f"a{reader}"])


CELL = """
import dataclasses, functools
import numpy as np, pandas as pd
later = 5
class Base:
    count = 0
    def get(self): return later
class Child(Base):
    def get(self): return super().get() * 2
@dataclasses.dataclass
class Point:
    x: int = 1
    tags: list = dataclasses.field(default_factory=list)
child, point = Child(), Point(2)
double = lambda n: n * later
def counter():
    n = 0
    def up():
        nonlocal n
        n += 1
        return n
    def now(): return n
    return up, now
up, now = counter()
up()
@functools.lru_cache
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
def fill(x, into=[]):
    into.append(x)
    return into
kept = fill(1)
marker = object()
marked = {"m": marker}
"""


def test_functions_and_classes_are_the_notebooks_own() -> None:
    """isinstance holds, functions see what later cells assign, closures go on sharing, defaults stay shared."""
    other = resumed(CELL)
    assert isinstance(other["child"], other["Base"])
    assert type(other["child"]) is other["Child"]
    other.run("later = 7")
    assert (other["child"].get(), other["double"](2), other["fib"](20)) == (14, 14, 6765)
    assert (other["up"](), other["now"]()) == (2, 2)
    assert other["fill"](2) is other["kept"]
    assert other["kept"] == [1, 2]
    assert other["marked"]["m"] is other["marker"]
    field = dataclasses.fields(other["Point"])[0]
    assert field.default_factory is dataclasses.MISSING
    assert other["point"] == other["Point"](2)


def test_the_source_of_a_function_is_found() -> None:
    """`inspect.getsource` and tracebacks show the cell's lines."""
    notebook = Notebook().run("def f(x):\n    return x + 1  # said so\n")
    import linecache

    linecache.clearcache()
    assert "said so" in inspect.getsource(notebook.resumed()["f"])


def test_a_frame_and_its_column_stay_apart_and_an_array_of_a_frame_stays_a_view() -> None:
    """pandas copies on write: a write to the frame is not seen in a column that was taken from it."""
    source = "import pandas as pd\ndf = pd.DataFrame({'a': [1.0, 2.0], 'b': ['x', 'y']})\ncolumn = df['a']\n"
    other = resumed(source)
    other.run("df.loc[0, 'a'] = 50.0")
    assert other["column"][0] == 1.0
    look = resumed("import pandas as pd\ndf = pd.DataFrame({'a': [1.0, 2.0]})\nlook = df['a'].to_numpy()\n")
    look.run("df.loc[0, 'a'] = 50.0")
    assert look["look"][0] == 50.0
    assert not look["look"].flags.writeable


def test_frames_tables_figures_and_models_come_back() -> None:
    """The kinds that notebooks are made of."""
    source = """
import numpy as np, pandas as pd, polars as pl, pyarrow as pa
import matplotlib
matplotlib.use("agg")
from matplotlib.figure import Figure
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeClassifier
df = pd.DataFrame({"n": [1, 2], "s": ["a", None], "t": pd.to_datetime(["2026-01-01", None]),
                   "c": pd.Categorical(["u", "v"])}, index=pd.Index(["p", "q"], name="k"))
table = pa.table({"a": [1, 2, None]})
frame = pl.DataFrame({"a": [1, 2], "b": ["x", "y"]}).with_columns(pl.col("b").cast(pl.Categorical))
lazy = frame.lazy().filter(pl.col("a") > 1)
figure = Figure()
axes = figure.subplots()
line, = axes.plot([1, 2])
model = LinearRegression().fit(np.array([[1.0], [2.0]]), [2.0, 4.0])
tree = DecisionTreeClassifier().fit([[1.0], [2.0], [3.0]], [0, 1, 1])
models = {"tree": tree, "model": model}
masked = np.ma.array([1, 2], mask=[True, False])
record = np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])
"""
    notebook = Notebook().run(source)
    assert notebook.lost == {}
    other = notebook.resumed()
    assert other["df"].equals(notebook["df"])
    assert list(other["df"].dtypes) == list(notebook["df"].dtypes)
    assert other["table"].equals(notebook["table"])
    assert other["frame"].equals(notebook["frame"])
    assert other["frame"].schema == notebook["frame"].schema
    assert other["lazy"].collect().rows() == [(2, "y")]
    assert other["line"] in other["axes"].lines
    assert other["model"].predict([[3.0]])[0] == pytest.approx(6.0)
    assert other["models"]["tree"] is other["tree"]
    assert other["masked"].mask.tolist() == [True, False]
    assert other["record"].dtype == notebook["record"].dtype


def test_what_is_around_the_variables_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Working directory, environment, random states, settings of libraries."""
    import numpy as np
    import pandas as pd

    monkeypatch.setenv("NS_GONE", "1")
    monkeypatch.chdir(tmp_path)
    notebook = Notebook()
    (tmp_path / "sub").mkdir()
    source = """
import os, random
import numpy as np, pandas as pd
os.chdir("sub")
os.environ["NS_NEW"] = "here"
del os.environ["NS_GONE"]
random.seed(4)
np.random.seed(4)
pd.set_option("display.max_rows", 7)
np.set_printoptions(precision=3)
"""
    try:
        notebook.run(source)
        drawn = (random.random(), np.random.rand())
        os.chdir(tmp_path)
        monkeypatch.delenv("NS_NEW")
        monkeypatch.setenv("NS_GONE", "1")
        pd.reset_option("display.max_rows")
        np.set_printoptions(precision=8)
        notebook.resumed()
        assert Path.cwd().name == "sub"
        assert os.environ.get("NS_NEW") == "here"
        assert "NS_GONE" not in os.environ
        assert (random.random(), np.random.rand()) == drawn
        assert pd.get_option("display.max_rows") == 7
        assert np.get_printoptions()["precision"] == 3
    finally:
        pd.reset_option("display.max_rows")
        np.set_printoptions(precision=8)
        monkeypatch.delenv("NS_NEW", raising=False)


def test_only_a_column_that_changed_is_written() -> None:
    """16 MB of a frame of 64 MB; nothing at all for a cell that changes nothing."""
    notebook = Notebook()
    notebook.run(
        "import numpy as np, pandas as pd\n"
        "df = pd.DataFrame(np.random.rand(500_000, 16), columns=[f'c{i}' for i in range(16)])"
    )
    assert notebook.written_by("df.sum()") < 10_000
    assert notebook.written_by("df['c3'] = df['c3'] * 2") < 1.2 * 4_000_000
    assert notebook.written_by("df.loc[7, 'c9'] = 1.0") < 1.2 * 4_194_304
    assert notebook.resumed()["df"].equals(notebook["df"])


@pytest.mark.parametrize("lazily", [True, False])
def test_large_data_comes_when_it_is_wanted(lazily: bool) -> None:
    """A cell that names it has it; one that might see anything has everything."""
    source = "import numpy as np\nbig = np.ones(2_000_000)\nother = np.zeros(2_000_000)\nsmall = 3\n"
    notebook = Notebook().run(source)
    resumed = notebook.resumed(lazily=lazily)
    assert set(resumed.report.later) == ({"big", "other"} if lazily else set())
    resumed.run("total = float(big.sum())")
    assert resumed["total"] == 2_000_000.0
    resumed.run("kinds = [type(globals()[n]).__name__ for n in ('big', 'other')]")
    assert resumed["kinds"] == ["ndarray", "ndarray"]
    assert resumed.resumed()["other"].size == 2_000_000


def test_a_checkpoint_of_what_is_still_on_its_way_is_whole() -> None:
    """Killed again before large data was ever used, nothing is lost."""
    notebook = Notebook().run("import numpy as np\nbig = np.ones(2_000_000)\n")
    again = notebook.resumed(lazily=True).run("x = 1").resumed(lazily=True).run("y = big[0]").resumed()
    assert (again["x"], again["y"], again["big"].sum()) == (1, 1.0, 2_000_000.0)


def test_the_modules_that_cells_imported_are_imported() -> None:
    """Submodules included, which are attributes of what is a variable."""
    notebook = Notebook().run("import xml\nimport xml.dom.minidom\nimport json as j\n")
    other = notebook.resumed()
    assert other["j"].dumps([1]) == "[1]"
    assert other["xml"].dom.minidom is sys.modules["xml.dom.minidom"]
