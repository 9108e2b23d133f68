"""A notebook as a step of any graph: ``fb.notebook("clean.ipynb", parameters={"day": ...}, outputs=["rows"])``.

Owns: `notebook`. Refuses: executing: the step reads the file once, durably, and has it run as a child, so the child's
cells are its own steps, it is cancelled and retried with its parent, and nothing that finished is executed again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flowbook.errors import BindingError, DeclarationError, ResultMissing
from flowbook.graph.binding import StateView
from flowbook.graph.step import Step, step
from flowbook.notebooks.cells import flow_name
from flowbook.notebooks.documents import Prepared, prepare
from flowbook.notebooks.memory import known_checkpoint
from flowbook.run.context import Context


@step
def read(path: str, output: str | None, parameters: dict[str, Any], options: dict[str, Any]) -> Any:
    """Read a notebook; what its run begins with, as it is from now on whatever happens to the file."""
    return prepare(path, output, parameters, **options).stored()


def notebook(
    path: str | Path,
    *,
    parameters: Mapping[str, Any] | Sequence[str] | None = None,
    outputs: Sequence[str] = (),
    output_path: str | Path | None = None,
    name: str | None = None,
    kernel: str | None = None,
    cwd: str | Path | None = None,
    start_timeout: int = 60,
    cell_timeout: int | None = None,
    checkpoint: str = "namespace",
) -> Step:
    """A notebook as a step: ``load >> fb.notebook("clean.ipynb", parameters=["day"], outputs=["rows"]) >> report``.

    ``parameters`` go into its cell with papermill's tag ``parameters``: a dict (a value that is a function gets the
    state, ``{"n": lambda s: s.n + 1}``), or a list of keys of the state. ``outputs`` are its results, which become keys
    of the state: values that it glues (`glue`), or variables at its end, which flowbook's codec must carry; then the
    notebook's kernel needs flowbook. ``output_path``: where the executed notebook goes; papermill's ``{name}`` of a
    parameter may be in it, which notebooks that run beside each other need. ``cwd``: where its kernel works, default
    where the process does; relative paths are seen from there. The step is called as the file; ``name`` renames it.

    Each run of the step is a child run with a kernel of its own, and as many as are wanted run beside each other.
    Raises `DeclarationError` for options that cannot work; a step raises `NotebookUnreadable`, and `ChildFailed` with
    the cell that failed.
    """
    known_checkpoint(checkpoint)
    if isinstance(outputs, str) or not all(isinstance(one, str) for one in outputs):
        raise DeclarationError(f"notebook({str(path)!r}, outputs={outputs!r}): outputs are a list of names")
    if isinstance(parameters, str):
        raise DeclarationError(f"notebook({str(path)!r}, parameters={parameters!r}): they are a dict or a list of keys")
    source, target = str(path), None if output_path is None else str(output_path)
    # Tuples of plain values: what a body reads from around it is part of a flow's definition.
    keys: tuple[str, ...] = () if isinstance(parameters, Mapping) else tuple(parameters or ())
    given = tuple(parameters.items()) if isinstance(parameters, Mapping) else ()
    wanted = tuple(outputs)
    options = (
        ("kernel", kernel), ("cwd", None if cwd is None else str(cwd)), ("start_timeout", start_timeout),
        ("cell_timeout", cell_timeout), ("checkpoint", checkpoint), ("wanted", wanted),
    )  # fmt: skip

    async def run_notebook(ctx: Context, state: Any) -> dict[str, Any]:
        return await run_child(ctx, source, target, filled(keys, given, state), dict(options), wanted)

    return step(name=name or flow_name(source))(run_notebook)


async def run_child(
    ctx: Context, path: str, output: str | None, parameters: dict[str, Any], options: dict[str, Any],
    wanted: tuple[str, ...],
) -> dict[str, Any]:  # fmt: skip
    """Have a notebook run as a child; those of its results that are wanted."""
    stored = await ctx.step(read, path, output, parameters, options)
    ended = await ctx.join(ctx.spawn(Prepared.from_stored(stored).flow, **stored))
    results: Mapping[str, Any] = ended.get("results") or {}
    missing = [name for name in wanted if name not in results]
    if missing:
        raise ResultMissing(
            f"notebook {path!r} was to give {', '.join(missing)}, and gave {', '.join(results) or 'nothing'}: name a "
            f"variable that it has at its end, or let it say fb.glue(name, value)"
        )
    return {name: results[name] for name in wanted}


def filled(
    keys: tuple[str, ...], given: tuple[tuple[str, Any], ...], state: Mapping[str, Any]
) -> dict[str, Any]:  # fmt: skip
    """The parameters: those that have the names of keys of the state, and those that were given."""
    missing = [name for name in keys if name not in state]
    if missing:
        raise BindingError(f"a parameter of a notebook is to be {missing[0]!r} of the state, which has no such key")
    shown = StateView(state)
    return {name: state[name] for name in keys} | {n: v(shown) if callable(v) else v for n, v in given}
