"""Commands for notebooks: ``run`` and ``logs``.

Owns: their arguments, which are papermill's where papermill has them. Refuses: executing (the run does).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowbook.cli.options import JsonOption, RunArgument, UrlOption
from flowbook.cli.session import find, with_app
from flowbook.errors import UsageError

if TYPE_CHECKING:
    from flowbook.app import App
    from flowbook.notebooks.documents import Prepared
    from flowbook.observe.views import RunView

_PAIRED = frozenset({"-p", "--parameters", "-r", "--parameters-raw", "--parameters_raw"})
"""Options that papermill's users give a name and a value."""


def add_to(app: typer.Typer) -> None:
    """Make these commands of ``app``."""
    app.command(
        epilog="Example:  flowbook run report.ipynb out.ipynb -p date 2026-11-21 --key report-2026-11-21\n\n"
        "Example:  flowbook run report.ipynb --watch"
    )(run)
    app.command(epilog="Example:  flowbook logs last --follow\n\nExample:  flowbook logs 3f2a9c01 --at cell_3")(logs)


def run(
    notebook: Annotated[str, typer.Argument(metavar="NOTEBOOK", help="A file, or a URL that papermill reads.")],
    output: Annotated[
        str | None, typer.Argument(metavar="[OUTPUT]", help="Where the executed notebook goes; left out: nowhere.")
    ] = None,
    parameters: Annotated[
        list[str] | None,
        typer.Option(
            "--parameters", "-p", metavar="NAME VALUE", help="A parameter; NAME=VALUE too.", show_default=False
        ),
    ] = None,
    raw: Annotated[
        list[str] | None,
        typer.Option("--parameters-raw", "-r", metavar="NAME VALUE", help="One that is a text.", show_default=False),
    ] = None,
    file: Annotated[
        list[str] | None, typer.Option("--parameters-file", "-f", help="A YAML file of them.", show_default=False)
    ] = None,
    yaml: Annotated[
        list[str] | None, typer.Option("--parameters-yaml", "-y", help="YAML of them.", show_default=False)
    ] = None,
    base64: Annotated[
        list[str] | None, typer.Option("--parameters-base64", "-b", help="The same, encoded.", show_default=False)
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="The run key: the same call again goes on where it stopped.", show_default=False),
    ] = None,
    kernel: Annotated[
        str | None, typer.Option("--kernel", "-k", help="Name of a kernel; default: the notebook's.")
    ] = None,
    language: Annotated[
        str | None, typer.Option("--language", "-l", help="Language of the parameters; default: the kernel's.")
    ] = None,
    cwd: Annotated[str | None, typer.Option(help="Where its kernel works; default: here.", show_default=False)] = None,
    start_timeout: Annotated[int, typer.Option(min=1, help="Seconds that its kernel may take to start.")] = 60,
    execution_timeout: Annotated[
        int | None, typer.Option(min=1, help="Seconds that a cell may take; default: as many as it likes.")
    ] = None,
    report_mode: Annotated[bool, typer.Option("--report-mode", help="Hide the code in the output.")] = False,
    checkpoint: Annotated[
        str, typer.Option(help="What is kept of each cell: namespace (variables and outputs), outputs, or none.")
    ] = "namespace",
    no_checkpoint: Annotated[bool, typer.Option("--no-checkpoint", help="The same as --checkpoint none.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Run it again whenever it is saved; cells before the edit are kept.")
    ] = False,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Run a notebook, each cell a step of a durable run, and say which run it is.

    A job that died goes on at its first unfinished cell: flowbook resume RUN, or the same call with the same --key.
    """
    from flowbook.cli import output as out
    from flowbook.cli.exits import exit_of_status
    from flowbook.notebooks.memory import known_checkpoint

    kept = known_checkpoint("none" if no_checkpoint else checkpoint)
    given = _parameters(parameters, raw, file, yaml, base64)

    def prepared() -> Prepared:
        from flowbook.notebooks.documents import prepare

        return prepare(
            notebook, output, given, kernel=kernel, language=language, report_mode=report_mode,
            cwd=cwd or Path.cwd(), start_timeout=start_timeout, cell_timeout=execution_timeout, checkpoint=kept,
        )  # fmt: skip

    first = prepared()

    async def body(app: App) -> tuple[RunView, dict[str, Any]]:
        if watch:
            return await _watched(app, Path(first.path), prepared, key, quiet=json)
        return await _once(app, first, key, quiet=json)

    view, results = with_app(url, body)
    if json:
        from flowbook.observe.records import view_record

        out.as_json({**view_record(view), "results": results})
    else:
        from flowbook.show.text import run_plain, run_table

        out.tell(run_table(view), run_plain(view))
    raise typer.Exit(exit_of_status(view.status))


async def _once(app: App, prepared: Prepared, key: str | None, *, quiet: bool) -> tuple[RunView, dict[str, Any]]:
    from flowbook.cli import output
    from flowbook.cli.progress import follow
    from flowbook.notebooks.enrolling import enrol, results_of
    from flowbook.plan.records import Status

    enrolled = await enrol(app, prepared, key)
    row = await app.store.run(enrolled.run.id)
    if not quiet:
        output.hint(f"run {row.id}")
        if not enrolled.created:
            output.hint(f"it was {enrolled.status}: {len(enrolled.done)} of {len(prepared.cells)} cells are kept")
        elif enrolled.kept:
            output.hint(f"cells that earlier runs of key {key!r} have finished are kept, up to the first edit")
    view = await follow(app, row, quiet=quiet)
    return view, await results_of(app, row.id) if view.status is Status.COMPLETED else {}


async def _watched(
    app: App, path: Path, prepared: Any, key: str | None, *, quiet: bool
) -> tuple[RunView, dict[str, Any]]:
    """Run it, and again whenever the file has another content, until Ctrl-C."""
    import asyncio

    from flowbook.cli import output
    from flowbook.errors import NotebookUnreadable
    from flowbook.ids import new_id, short

    line = key or f"watch-{short(new_id())}"
    before: bytes | None = None
    while True:
        content = await asyncio.to_thread(_content, path) or before
        if content != before and content is not None:
            before = content
            try:
                await _once(app, prepared(), line, quiet=quiet)
            except NotebookUnreadable as error:  # saved half, or edited into something else
                output.hint(error.message)
            output.hint(f"waiting for {path.name} to be saved again; Ctrl-C ends it")
        await asyncio.sleep(0.3)


def _content(path: Path) -> bytes:
    """Of a file; empty while an editor has taken it away."""
    return path.read_bytes() if path.exists() else b""


def logs(
    run: RunArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run is over.")] = False,
    at: Annotated[
        str | None, typer.Option(metavar="PATH", help="Only of this step, e.g. cell_3.", show_default=False)
    ] = None,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Print what a run's steps, or a notebook's cells, have printed and displayed, in order.

    With --json one document per line, each as in `flowbook show --outputs --json`.
    """
    from flowbook.cli.logs import Printer

    async def body(app: App) -> None:
        row = await find(app, run)
        await Printer(app, row.id, at, json=json).print(follow=follow)

    with_app(url, body)


def paired(words: Sequence[str]) -> list[str]:
    """The words of a command with papermill's ``-p NAME VALUE`` as ``-p NAME=VALUE``, which typer can take.

    A name has no ``=`` in it, so the two cannot be taken for one another.
    """
    if "run" not in words[:1]:
        return list(words)
    found: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        found.append(word)
        if word == "--":
            return [*found, *left]
        if word in _PAIRED and left:
            name = left.pop(0)
            found.append(f"{name}={left.pop(0)}" if "=" not in name and left else name)
    return [word.replace("--parameters_raw", "--parameters-raw") for word in found]


def _split(words: Sequence[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words or ():
        name, sign, text = word.partition("=")
        if not sign or not name:
            raise UsageError(f"-p {word!r}: a parameter has a name and a value, -p NAME VALUE or -p NAME=VALUE")
        found[name] = text
    return found


def _parameters(
    pairs: Sequence[str] | None,
    raw: Sequence[str] | None,
    files: Sequence[str] | None,
    yamls: Sequence[str] | None,
    encoded: Sequence[str] | None,
) -> dict[str, Any]:
    """Parameters, those that are said last in papermill's order counting. Raises `UsageError`."""
    if not (pairs or raw or files or yamls or encoded):
        return {}
    import base64

    import yaml as yaml_
    from papermill.cli import NoDatesSafeLoader, _resolve_type
    from papermill.iorw import read_yaml_file

    found: dict[str, Any] = {}
    try:
        texts = [base64.b64decode(text).decode() for text in encoded or ()]
        loaded = [yaml_.load(text, Loader=NoDatesSafeLoader) for text in texts]  # noqa: S506 - a SafeLoader of theirs
        loaded += [read_yaml_file(name) for name in files or ()]
        loaded += [yaml_.load(text, Loader=NoDatesSafeLoader) for text in yamls or ()]  # noqa: S506 - the same
        for some in loaded:
            found.update(some or {})
    except Exception as error:
        raise UsageError(f"the parameters cannot be read: {type(error).__name__}: {error}") from error
    found.update({name: _resolve_type(value) for name, value in _split(pairs).items()})
    return found | _split(raw)
