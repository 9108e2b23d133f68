"""The public namespace: light to import, each name in one place."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import flowbook

HEAVY = (
    "IPython", "ipywidgets", "anywidget", "openai", "papermill", "graphviz", "pandas", "numpy", "dask", "celery",
    "polars", "pyarrow", "matplotlib", "sqlalchemy", "asyncpg", "alembic", "pydantic", "rich", "typer",
)  # fmt: skip
"""What `import flowbook` must not load."""
OPTIONAL = tuple(name for name in HEAVY if name not in ("sqlalchemy", "asyncpg", "alembic"))
"""What an app in memory must not load either."""

PROBE = """
import sys
{statement}
print(*sorted({{name.partition(".")[0] for name in sys.modules}} & set({heavy!r})))
"""


def loaded(statement: str, heavy: tuple[str, ...]) -> list[str]:
    """Which of these modules a statement loads in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROBE.format(statement=statement, heavy=heavy)],
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return done.stdout.split()


def test_the_probe_can_fail() -> None:
    """What is loaded is found."""
    assert loaded("import numpy", HEAVY) == ["numpy"]


def test_importing_flowbook_loads_nothing_heavy() -> None:
    """A script pays for what it uses."""
    assert loaded("import flowbook", HEAVY) == []


def test_declaring_a_flow_loads_nothing_heavy() -> None:
    """Steps and topologies are plain Python."""
    declaring = "import flowbook as fb\n@fb.step\ndef a(): return 1\nfb.graph('g', a >> fb.END)"
    assert loaded(declaring, HEAVY) == []


def test_running_a_flow_in_memory_loads_no_optional_package() -> None:
    """The engine itself needs none of them."""
    running = (
        "import flowbook as fb\nfrom flowbook.testing import run_to_completion\n"
        "def a(): return 1\na = fb.step(a)\nassert run_to_completion(fb.graph('g', a >> fb.END)) == {'a': 1}"
    )
    assert loaded(running, OPTIONAL) == []


@pytest.mark.parametrize("name", flowbook.__all__)
def test_a_public_name_is_what_it_says(name: str) -> None:
    """It can be had, and is the very object of its one place."""
    module, attribute = flowbook._PLACES[name]
    thing = getattr(flowbook, name)
    if thing is not sys.modules.get(f"flowbook.{name}"):  # `graph` is a package as well, which answers as the function
        assert thing is getattr(importlib.import_module(f"flowbook.{module}"), attribute)
    assert callable(thing) or name in ("START", "END")
    assert name in dir(flowbook)


def test_all_is_the_public_namespace() -> None:
    """No name is listed twice, left out or private, and a star import brings them all."""
    assert len(set(flowbook.__all__)) == len(flowbook.__all__)
    assert set(flowbook.__all__) == set(flowbook._PLACES)
    assert not [name for name in flowbook.__all__ if name.startswith("_")]
    star: dict[str, object] = {}
    exec("from flowbook import *", star)
    assert set(flowbook.__all__) <= set(star)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="'flowbook' has no attribute 'grpah'"):
        flowbook.grpah


def test_the_function_graph_is_not_hidden_by_the_package_of_that_name() -> None:
    """`flowbook.graph` is a package too: whichever is imported first, `fb.graph(...)` makes a graph."""
    for first in ("import flowbook.graph.flow", "import flowbook.app", "pass"):
        statement = (
            f"import flowbook as fb\n{first}\n@fb.step\ndef a(): return 1\n"
            "assert fb.graph('g', a).name == 'g'\nimport flowbook.plan.apply\nassert fb.graph('g', a).name == 'g'"
        )
        assert loaded(statement, ()) == []


def test_no_module_of_ours_draws_from_the_notebooks_dice() -> None:
    """`random.seed` in a cell means what it says, whatever an engine does meanwhile: `clock.DICE` is its own."""
    import ast
    from pathlib import Path

    found = [
        f"{file.name}:{node.lineno}"
        for file in Path(flowbook.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "random"
        if node.attr != "Random"
    ]
    assert found == []
