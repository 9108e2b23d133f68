"""Code: where a run that is carried on here gets its steps from.

Owns: importing what ``--module`` names, asking for the stored source, and saying exactly what is missing otherwise.
Refuses: judging whether stored source may run (`graph/rebuild.py` does: signed with this user's key, or told so).
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from flowbook.errors import CodeMissing, UsageError
from flowbook.ids import short
from flowbook.notebooks.enrolling import is_notebook, known

if TYPE_CHECKING:
    from flowbook.app import App
    from flowbook.graph.flow import Graph
    from flowbook.ports import RunRow


@dataclass(frozen=True, slots=True)
class Supply:
    """What was typed about code."""

    modules: tuple[str, ...] = ()
    """Modules or files, imported in this order."""
    from_source: bool = False
    allow_source: bool = False
    """True: stored source may run unsigned."""


async def provide(app: App, row: RunRow, supply: Supply, home: Path) -> None:
    """Register the code of a run. Raises `CodeMissing`, `NotPortable`, `SignatureRefused`, `UsageError`."""
    if is_notebook(row):
        await known(app, row)  # the sources of its cells are in the run
        return
    others: list[str] = []
    for name in supply.modules:
        for graph in graphs_of(load_module(name)):
            if graph.fingerprint == row.fingerprint:
                await app.register(graph)
                return
            others.append(f"{name} has flow {graph.name!r} as {graph.fingerprint[:8]}")
    if supply.from_source:
        await _rebuild(app, row, supply, home)
    elif supply.modules:
        raise CodeMissing(_wrong_code(row, supply, others))
    elif not app.engine.knows(row.fingerprint):
        raise CodeMissing(await _no_code(app, row))


def load_module(name: str) -> ModuleType:
    """A module by its dotted name, seen from the current directory, or by its file. Raises `UsageError`."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # a console script does not have it, `python -m` does
    try:
        if not name.endswith(".py"):
            return importlib.import_module(name)
        path = Path(name).resolve()
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None or not path.is_file():
            raise UsageError(f"--module {name!r}: there is no such file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
        return module
    except UsageError:
        raise
    except ModuleNotFoundError as error:
        raise UsageError(
            f"--module {name!r}: {error}. Modules are looked for in the current directory and in this environment"
        ) from error
    except Exception as error:
        raise UsageError(f"--module {name!r} cannot be imported: {type(error).__name__}: {error}") from error


def discovered(name: str) -> list[Graph]:
    """The flows of a module or file; of a package, also those of all modules in it. Raises `UsageError`."""
    module = load_module(name)
    found = {graph.fingerprint: graph for graph in graphs_of(module)}
    if hasattr(module, "__path__"):
        for inner in pkgutil.walk_packages(module.__path__, f"{name}."):
            if inner.name.rpartition(".")[2] != "__main__":  # a program, which would run
                found |= {graph.fingerprint: graph for graph in graphs_of(load_module(inner.name))}
    return list(found.values())


def graphs_of(module: ModuleType) -> Iterator[Graph]:
    """The flows that a module declares or imports."""
    from flowbook.graph.flow import Graph

    seen: set[int] = set()
    for thing in list(vars(module).values()):
        if isinstance(thing, Graph) and id(thing) not in seen:
            seen.add(id(thing))
            yield thing


async def _rebuild(app: App, row: RunRow, supply: Supply, home: Path) -> None:
    from flowbook.graph.rebuild import rebuild
    from flowbook.graph.sign import load_key

    if row.namespace != app.options.namespace:
        raise UsageError(
            f"run {row.id} belongs to namespace {row.namespace!r}; code of another namespace is never run from source"
        )
    graph = rebuild(await app.definition(row), key=load_key(home), allow_unsigned=supply.allow_source)
    await app.register(graph)


async def _no_code(app: App, row: RunRow) -> str:
    needs = await app.needs(row) or f"code: {row.flow}@{row.fingerprint[:8]}"
    head = (
        f"run {row.id} of flow {row.flow!r} (version {row.version}) is {row.status}. It needs {needs}, and this "
        "process has not got it. Supply it in one of these ways:"
    )
    lines = [
        head,
        f"  flowbook resume {short(row.id)} --from-source        from the source stored with the run",
        f"  flowbook resume {short(row.id)} --module my.flows    from the module or file that declares it",
        f"  %flow resume {short(row.id)}                         in a notebook, below the cell that declares it",
    ]
    return "\n".join(lines)


def _wrong_code(row: RunRow, supply: Supply, others: list[str]) -> str:
    names = ", ".join(supply.modules)
    found = "; ".join(others) or f"{names} declares no flow at its top level"
    return (
        f"run {row.id} needs flow {row.flow!r} as {row.fingerprint[:8]} (version {row.version}), and that is not in "
        f"{names}: {found}. If the code was changed since, check out the version that started the run, "
        "or add --from-source"
    )
