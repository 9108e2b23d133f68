"""Exporting: a flow as a module file that is the very same flow.

Owns: `export`, which writes the file and proves it: a clean process imports it and must find the same fingerprint.
Refuses: the text (`graph/export.py`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from flowbook.errors import NotExportable, UsageError
from flowbook.graph.export import module_of
from flowbook.graph.flow import Graph
from flowbook.graph.source import describe

LIMIT = 60.0
"""Seconds that importing the module may take."""
_CHECK = """
import importlib.util, sys
from pathlib import Path
path = Path(sys.argv[1])
sys.path.insert(0, sys.argv[3])
spec = importlib.util.spec_from_file_location(sys.argv[4], path)
module = importlib.util.module_from_spec(spec)
sys.modules[sys.argv[4]] = module
spec.loader.exec_module(module)
print("FINGERPRINT", getattr(module, sys.argv[2]).fingerprint)
"""


def export(graph: Graph, path: Path, *, force: bool = False) -> Path:
    """Write a flow as a plain module that declares the very same version: a run that was begun with the one goes on
    with the other (`flowbook resume RUN --module FILE`).

    Raises `NotExportable` with what is in the way, and then writes nothing; `UsageError` if the file is there already
    (``force`` writes over it) or is no Python file.
    """
    path = Path(path)
    if path.suffix != ".py" or not path.stem.isidentifier():
        raise UsageError(f"{str(path)!r} cannot be a module: name a file such as {graph.name}.py")
    if path.exists() and not force:
        raise UsageError(f"{path} is there already: say --force to write over it, or name another file")
    text = module_of(graph.name, describe(graph))
    with tempfile.TemporaryDirectory(prefix="flowbook-export-") as folder:
        trial = Path(folder) / path.name
        trial.write_text(text, encoding="utf-8")
        _check(graph, trial, path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    return path


def _check(graph: Graph, trial: Path, path: Path) -> None:
    """Import it elsewhere. Raises `NotExportable`."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CHECK, str(trial), graph.name, str(path.parent.resolve()), path.stem],
            capture_output=True, text=True, timeout=LIMIT, check=False, cwd=trial.parent,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise NotExportable(f"flow {graph.name!r} as a module is not imported within {LIMIT:g} s") from None
    head, _, fingerprint = (done.stdout.strip().splitlines() or [""])[-1].partition(" ")
    if head != "FINGERPRINT":
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise NotExportable(f"flow {graph.name!r} as a module cannot be imported: {last}")
    if fingerprint != graph.fingerprint:
        raise NotExportable(
            f"flow {graph.name!r} as a module would be another version ({fingerprint[:8]}, not "
            f"{graph.fingerprint[:8]}), so its runs could not go on there; nothing was written. Declare it in a module "
            f"of your own"
        )
