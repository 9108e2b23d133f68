"""Scheduled notebooks: a copy of the source in the schedule, its parameters filled at each fire.

Owns: what a schedule keeps of a notebook, and the run of one moment. Refuses: when it is started
(`flowbook/scheduling.py`, which finds `made` by `MARK`), and executing (`sessions.py`).

The source is pinned: a schedule runs what the file was when it was scheduled, wherever the worker is and whatever
becomes of the file. Scheduling it again takes the file as it is then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from typing import Any

from flowbook.errors import NotebookUnreadable
from flowbook.graph.flow import Graph
from flowbook.notebooks.documents import Prepared, absolute
from flowbook.notebooks.enrolling import metadata_of
from flowbook.plan.templates import render
from flowbook.scheduling import NOTEBOOK


def scheduled(prepared: Prepared, parameters: Mapping[str, Any], output: str | None) -> dict[str, Any]:
    """The input of a schedule. ``prepared``: the notebook without parameters; texts of ``parameters`` and ``output``
    may be templates.
    """
    stored = prepared.stored()
    return {
        NOTEBOOK: stored, "parameters": dict(parameters), "output": None if output is None else absolute(output),
        "sha256": sha256(stored["document"]).hexdigest(),
    }  # fmt: skip


def made(input: Mapping[str, Any], at: datetime, schedule: str) -> tuple[Graph, dict[str, Any], dict[str, Any]]:
    """Flow, input and metadata of the run of a moment. Raises `NotebookUnreadable`, `ScheduleRefused`."""
    from papermill.execute import parameterize_notebook
    from papermill.parameterize import add_builtin_parameters, parameterize_path

    prepared = Prepared.from_stored(input[NOTEBOOK])
    filled = render({"parameters": input["parameters"], "output": input["output"]}, at, schedule)
    parameters = filled["parameters"]
    try:
        nb = prepared.nb
        if parameters:
            nb = parameterize_notebook(nb, parameters, False, kernel_name=prepared.kernel)
        output = filled["output"] and parameterize_path(filled["output"], add_builtin_parameters(dict(parameters)))
    except Exception as error:
        raise NotebookUnreadable(
            f"notebook {prepared.path!r} cannot take its parameters: {type(error).__name__}: {error}"
        ) from error
    ready = replace(prepared, nb=nb, parameters=parameters, output=output)
    return ready.flow, ready.stored(), metadata_of(ready, None)
