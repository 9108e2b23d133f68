"""Documents: a notebook file, with its parameters in place, as what a run begins with.

Owns: `Prepared`, what of it is stored as the input of a run, and reading that back. Refuses: executing. Reading files
(or ``s3://`` and all else that papermill reads), parameters and kernel names are papermill's.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from flowbook.errors import NotebookUnreadable
from flowbook.graph.flow import Graph
from flowbook.notebooks.cells import Cell, flow_name, last_chain, steps_of
from flowbook.notebooks.memory import Checkpoint


@dataclass(frozen=True)
class Prepared:
    """A notebook that is ready to be executed."""

    nb: Any
    """As nbformat has it, without outputs."""
    path: str
    """Where it was read from, for people."""
    output: str | None
    """Where the executed notebook goes; None: nowhere."""
    kernel: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    cwd: str | None = None
    """Where its kernel works; None: where the process does."""
    start_timeout: int = 60
    """Seconds that a kernel may take to start."""
    cell_timeout: int | None = None
    """Seconds that a cell may take; None: as long as it likes."""
    checkpoint: Checkpoint = "namespace"
    wanted: tuple[str, ...] = ()
    """Variables that are results of the notebook, besides what it glues."""

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Its steps."""
        return steps_of(self.nb)

    @property
    def chain(self) -> str:
        """What identifies all that is executed."""
        return last_chain(self.cells)

    @property
    def flow(self) -> Graph:
        """Its graph. Raises `NotebookUnreadable` if there is nothing in it to execute."""
        from flowbook.notebooks.flows import flow_of

        if not self.cells:
            raise NotebookUnreadable(f"notebook {self.path!r} has no cell that could be executed")
        return flow_of(flow_name(self.path), len(self.cells))

    def stored(self) -> dict[str, Any]:
        """As the input of a run: all that another machine needs to go on."""
        return {
            "notebook": self.path, "output": self.output, "parameters": _plain(self.parameters),
            "document": zlib.compress(json.dumps(stripped(self.nb)).encode("utf-8", "surrogatepass"), 6),
            "kernel": self.kernel, "cwd": self.cwd, "start_timeout": self.start_timeout,
            "cell_timeout": self.cell_timeout, "checkpoint": self.checkpoint, "wanted": list(self.wanted),
            "cells": len(self.cells), "results": {},
        }  # fmt: skip

    @classmethod
    def from_stored(cls, given: Mapping[str, Any]) -> Self:
        """Of `stored`."""
        import nbformat

        text = zlib.decompress(given["document"]).decode("utf-8", "surrogatepass")
        return cls(
            nbformat.from_dict(json.loads(text)), given["notebook"], given["output"], given["kernel"],
            given["parameters"], given["cwd"], given["start_timeout"], given["cell_timeout"], given["checkpoint"],
            tuple(given["wanted"]),
        )  # fmt: skip

    def fresh(self) -> Any:
        """The notebook without outputs, to be executed: another object each time."""
        import nbformat

        return nbformat.from_dict(stripped(self.nb))


def prepare(
    path: str | Path,
    output: str | Path | None = None,
    parameters: Mapping[str, Any] | None = None,
    *,
    kernel: str | None = None,
    language: str | None = None,
    report_mode: bool = False,
    cwd: str | Path | None = None,
    start_timeout: int = 60,
    cell_timeout: int | None = None,
    checkpoint: Checkpoint = "namespace",
    wanted: Sequence[str] = (),
) -> Prepared:
    """Read a notebook as papermill does, parameters in place; nothing is executed.

    Raises `NotebookUnreadable` for what is no notebook, or has no kernel that is known by name.
    """
    from papermill.execute import parameterize_notebook, prepare_notebook_metadata, remove_error_markers
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import add_builtin_parameters, parameterize_path
    from papermill.utils import nb_kernel_name

    builtin = add_builtin_parameters(dict(parameters or {}))
    # Absolute: papermill keeps one folder for relative paths per process, and calls in threads leave theirs behind.
    source = absolute(parameterize_path(str(path), builtin))
    target = None if output is None else absolute(parameterize_path(str(output), builtin))
    try:
        nb = load_notebook_node(source)
        if parameters:
            nb = parameterize_notebook(nb, dict(parameters), report_mode, kernel_name=kernel, language=language)
        nb = remove_error_markers(prepare_notebook_metadata(nb, source, target, report_mode))
        kernel = nb_kernel_name(nb, kernel)
    except OSError as error:
        raise NotebookUnreadable(f"notebook {source!r} cannot be read: {error}") from error
    except Exception as error:
        raise NotebookUnreadable(
            f"notebook {source!r} cannot be prepared: {type(error).__name__}: {error}. It is to be a file of nbformat "
            f"4 that names its kernel; name another kernel with -k"
        ) from error
    where = None if cwd is None else absolute(str(cwd))
    return Prepared(
        nb, source, target, kernel, dict(parameters or {}), where, start_timeout, cell_timeout, checkpoint,
        tuple(wanted),
    )  # fmt: skip


def of_node(nb: Any, path: str | None, output: str | None, kernel: str, **more: Any) -> Prepared:
    """A notebook that papermill has prepared."""
    said = nb.metadata.get("papermill", {}).get("parameters", {})
    named = path if isinstance(path, str) else "notebook.ipynb"  # papermill also takes a notebook itself
    made = Prepared(nb, absolute(named), absolute(output) if output else None, kernel, said)
    return replace(made, **more)


def absolute(path: str) -> str:
    """A local path as it can be found from anywhere; ``s3://...`` and ``-`` as they are."""
    return path if "://" in path or path == "-" else str(Path(path).absolute())


def stripped(nb: Mapping[str, Any]) -> dict[str, Any]:
    """A notebook without what executing it makes."""
    plain: dict[str, Any] = json.loads(json.dumps(nb, default=str))
    for cell in plain.get("cells", ()):
        if cell.get("cell_type") == "code":
            cell["outputs"], cell["execution_count"] = [], None
        for word in ("papermill", "execution", "flowbook"):
            cell.get("metadata", {}).pop(word, None)
    plain.get("metadata", {}).pop("widgets", None)
    return plain


def _plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as JSON has them: they are shown and looked for; what counts is the cell that has them."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(parameters), default=str))
    return plain
