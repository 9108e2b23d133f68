"""Code to describe: modules written for a test, and notebooks run by a real IPython in a process of their own."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PRELUDE = """
import operator
from typing import Annotated, TypedDict
from flowbook.graph.expression import END_NODE as END, START_NODE as START, branch
from flowbook.graph.flow import graph
from flowbook.graph.step import step
"""
"""What every written module begins with."""

ROOT = Path(__file__).parents[3]
_numbers = itertools.count(1)

_NOTEBOOK = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
cells, question = json.load(sys.stdin)
for cell in cells:
    shell.run_cell(cell, store_history=True).raise_error()
scope = {}
exec(question, scope)
print("\\n" + json.dumps(scope["answer"](shell.user_ns)))
"""


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Callable[..., ModuleType]]:
    """``write(text)``: the text as an imported module, with the language of flows in it."""
    names: list[str] = []

    def made(text: str, name: str | None = None, prelude: str = PRELUDE) -> ModuleType:
        name = name or f"written_{next(_numbers)}"
        path = tmp_path / f"{name}.py"
        path.write_text(prelude + textwrap.dedent(text))
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        names.append(name)
        spec.loader.exec_module(module)
        return module

    yield made
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., Any]:
    """``python(program, given)``: run it in a new process; it reads ``given`` as JSON, its last line is the answer."""

    def run(program: str, given: Any) -> Any:
        done = subprocess.run(
            [sys.executable, "-c", program],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(tmp_path / "ipython")},
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture
def notebook(python: Callable[..., Any]) -> Callable[..., Any]:
    """``notebook(cells, question)``: run the cells in IPython, then ask; ``question`` defines ``answer(user_ns)``."""

    def run(cells: list[str], question: str) -> Any:
        return python(_NOTEBOOK, [[textwrap.dedent(c) for c in (PRELUDE, *cells)], textwrap.dedent(question)])

    return run
