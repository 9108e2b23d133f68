"""flowbook: durable graphs and agent loops, at home in a notebook.

Owns: the public namespace, each name in one place, loaded when it is first used, so that ``import flowbook`` is cheap
and loads none of IPython, ipywidgets, openai, papermill, graphviz, pandas or numpy. Refuses: any code of its own.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowbook import db as db
    from flowbook import logs as logs
    from flowbook import telemetry as telemetry
    from flowbook.agents.loop import agent as agent
    from flowbook.agents.mcp import mcp as mcp
    from flowbook.agents.parts import File as File
    from flowbook.agents.parts import Image as Image
    from flowbook.agents.settings import Budget as Budget
    from flowbook.agents.settings import Model as Model
    from flowbook.app import App as App
    from flowbook.connecting import connect as connect
    from flowbook.errors import FlowbookError as FlowbookError
    from flowbook.evaluating import evaluate as evaluate
    from flowbook.graph.expression import END_NODE as END
    from flowbook.graph.expression import START_NODE as START
    from flowbook.graph.expression import branch as branch
    from flowbook.graph.flow import Graph as Flow
    from flowbook.graph.flow import Graph as Graph
    from flowbook.graph.flow import graph as graph
    from flowbook.graph.halt import complete as complete
    from flowbook.graph.halt import halt as halt
    from flowbook.graph.imperative import flow as flow
    from flowbook.graph.launch import current as current
    from flowbook.graph.mapping import map_ as map_
    from flowbook.graph.pause import Pause as Pause
    from flowbook.graph.pause import sleep as sleep
    from flowbook.graph.pause import wait as wait
    from flowbook.graph.pause import wait_any as wait_any
    from flowbook.graph.pipeline import pipeline as pipeline
    from flowbook.graph.race import parallel as parallel
    from flowbook.graph.race import race as race
    from flowbook.graph.resource import Resource as Resource
    from flowbook.graph.resource import resource as resource
    from flowbook.graph.scheduled import scheduled as scheduled
    from flowbook.graph.step import Backoff as Backoff
    from flowbook.graph.step import Step as Step
    from flowbook.graph.step import step as step
    from flowbook.graph.step import value as value
    from flowbook.graph.step import when as when
    from flowbook.graph.subflow import Subflow as Subflow
    from flowbook.graph.subflow import subflow as subflow
    from flowbook.graph.templates import Templates as Templates
    from flowbook.graph.templates import steps as steps
    from flowbook.handle import Run as Run
    from flowbook.handle import diff as diff
    from flowbook.notebooks.glue import glue as glue
    from flowbook.notebooks.step import notebook as notebook
    from flowbook.observe import events as events
    from flowbook.plan.mapped import ItemError as ItemError
    from flowbook.plan.records import Status as Status
    from flowbook.query import runs as runs
    from flowbook.run.context import Context as Context
    from flowbook.secret import Secret as Secret

__version__ = "0.1.0"

_PLACES = {
    "App": ("app", "App"),
    "Backoff": ("graph.step", "Backoff"),
    "Budget": ("agents.settings", "Budget"),
    "Context": ("run.context", "Context"),
    "END": ("graph.expression", "END_NODE"),
    "Flow": ("graph.flow", "Graph"),
    "File": ("agents.parts", "File"),
    "FlowbookError": ("errors", "FlowbookError"),
    "Graph": ("graph.flow", "Graph"),
    "Image": ("agents.parts", "Image"),
    "ItemError": ("plan.mapped", "ItemError"),
    "Model": ("agents.settings", "Model"),
    "Pause": ("graph.pause", "Pause"),
    "Resource": ("graph.resource", "Resource"),
    "Run": ("handle", "Run"),
    "Secret": ("secret", "Secret"),
    "START": ("graph.expression", "START_NODE"),
    "Status": ("plan.records", "Status"),
    "Step": ("graph.step", "Step"),
    "Subflow": ("graph.subflow", "Subflow"),
    "Templates": ("graph.templates", "Templates"),
    "agent": ("agents.loop", "agent"),
    "branch": ("graph.expression", "branch"),
    "connect": ("connecting", "connect"),
    "complete": ("graph.halt", "complete"),
    "current": ("graph.launch", "current"),
    "diff": ("handle", "diff"),
    "evaluate": ("evaluating", "evaluate"),
    "flow": ("graph.imperative", "flow"),
    "glue": ("notebooks.glue", "glue"),
    "graph": ("graph.flow", "graph"),
    "halt": ("graph.halt", "halt"),
    "map_": ("graph.mapping", "map_"),
    "mcp": ("agents.mcp", "mcp"),
    "notebook": ("notebooks.step", "notebook"),
    "resource": ("graph.resource", "resource"),
    "parallel": ("graph.race", "parallel"),
    "pipeline": ("graph.pipeline", "pipeline"),
    "race": ("graph.race", "race"),
    "runs": ("query", "runs"),
    "scheduled": ("graph.scheduled", "scheduled"),
    "sleep": ("graph.pause", "sleep"),
    "step": ("graph.step", "step"),
    "steps": ("graph.templates", "steps"),
    "subflow": ("graph.subflow", "subflow"),
    "value": ("graph.step", "value"),
    "wait": ("graph.pause", "wait"),
    "wait_any": ("graph.pause", "wait_any"),
    "when": ("graph.step", "when"),
}

_MODULES = {
    "db": "db",  # needs SQLAlchemy
    "events": "observe.events",
    "logs": "logs",
    "telemetry": "telemetry",  # needs opentelemetry, the extra `otel`
}

__all__ = [
    "END",
    "START",
    "App",
    "Backoff",
    "Budget",
    "Context",
    "File",
    "Flow",
    "FlowbookError",
    "Graph",
    "Image",
    "ItemError",
    "Model",
    "Pause",
    "Resource",
    "Run",
    "Secret",
    "Status",
    "Step",
    "Subflow",
    "Templates",
    "agent",
    "branch",
    "complete",
    "connect",
    "current",
    "diff",
    "evaluate",
    "flow",
    "glue",
    "graph",
    "halt",
    "map_",
    "mcp",
    "notebook",
    "parallel",
    "pipeline",
    "race",
    "resource",
    "runs",
    "scheduled",
    "sleep",
    "step",
    "steps",
    "subflow",
    "value",
    "wait",
    "wait_any",
    "when",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"flowbook.{_MODULES[name]}")
    try:
        module, attribute = _PLACES[name]
    except KeyError:
        raise AttributeError(f"module 'flowbook' has no attribute {name!r}") from None
    thing = getattr(importlib.import_module(f"flowbook.{module}"), attribute)
    globals()[name] = thing
    return thing


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(ip: Any) -> None:
    """``%load_ext flowbook``."""
    from flowbook.jupyter import load_ipython_extension as load

    load(ip)


def unload_ipython_extension(ip: Any) -> None:
    """``%unload_ext flowbook``."""
    from flowbook.jupyter import unload_ipython_extension as unload

    unload(ip)
