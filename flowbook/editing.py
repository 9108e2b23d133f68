"""Editing: the state of a fork, as somebody types it.

Owns: `form`, the keys that can be edited at a step, and `read`, which makes values of what was typed. Refuses: the fork
itself (`travel.fork`), which checks the edits once more.

Values are typed as JSON. A key whose type is declared is read as that type, whatever kind of class the schema is; a key
whose value JSON cannot say is shown and cannot be edited, and keeps its value.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin
from uuid import UUID

from flowbook.errors import StateError
from flowbook.graph.flow import Graph
from flowbook.graph.state import StateSchema
from flowbook.run.results import all_shown
from flowbook.travel import code_of

if TYPE_CHECKING:
    from flowbook.app import App

LONG = 20_000
"""Characters of JSON that can be edited in a page."""


@dataclass(frozen=True, slots=True)
class Field:
    """A key of the state at a step."""

    key: str
    value: Any
    text: str
    """Its value as JSON; empty: it has none, or it cannot be edited."""
    type: str
    """What its schema declares; empty: anything."""
    refusal: str = ""
    """Why it cannot be edited; empty: it can."""


@dataclass(frozen=True, slots=True)
class Form:
    """The state that a fork would begin with."""

    at: str
    fields: tuple[Field, ...]
    """Those that have a value, then those that the schema declares besides."""
    closed: bool
    """True: the schema's keys are all there can be."""


async def form(app: App, run_id: UUID, at: str, values: Mapping[str, Any]) -> Form:
    """The state that a fork at ``at`` would begin with; ``values``: what its step saw, as the journal keeps it."""
    schema = (await _code(app, run_id)).schema
    shown = all_shown(values, app.options.key, app.store.outcomes_now)
    fields = [_field(key, value, schema) for key, value in shown.items()]
    if schema is not None:
        fields += [Field(key, None, "", _type(schema, key)) for key in schema.annotations if key not in values]
    return Form(at, tuple(fields), schema is not None)


async def read(app: App, run_id: UUID, texts: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """(key -> value, key -> what is wrong with it) of what was typed."""
    schema = (await _code(app, run_id)).schema
    values: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for key, text in texts.items():
        try:
            values[key] = _read(schema, key, text)
        except ValueError as error:
            wrong[key] = f"this is no JSON: {error}"
        except StateError as error:
            wrong[key] = error.message
    return values, wrong


async def _code(app: App, run_id: UUID) -> Graph:
    """The code that a fork would run, as `travel` chooses it."""
    row = app._ours(await app.store.run(run_id))
    return app.engine.graph(row.fingerprint) or app.engine.newest(row.flow) or await code_of(app, row)


def _read(schema: StateSchema | None, key: str, text: str) -> Any:
    if not key:
        raise StateError("a key needs a name")
    value = json.loads(text, parse_constant=_no_number)
    if schema is None:
        return value
    schema.check("the fork", {key: value})
    if (adapter := _adapter(schema, key)) is not None:
        from pydantic import ValidationError  # the adapter has loaded it

        try:
            value = adapter.validate_json(text)
        except ValidationError as error:
            raise StateError("; ".join(_told(e) for e in error.errors(include_url=False)[:5])) from error
    checked = schema.validate("the fork", {key: value}, whole=True)
    return checked[key]


def _told(error: Any) -> str:
    where = "".join(f"[{part!r}]" for part in error["loc"])
    return f"{where}: {error['msg']}" if where else str(error["msg"])


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number in JSON")


def _field(key: str, value: Any, schema: StateSchema | None) -> Field:
    kind = _type(schema, key) if schema is not None else ""
    text = _text(value, schema, key)
    if text is None:
        return Field(key, value, "", kind, f"{type(value).__name__} has no form in JSON; it is kept as it is")
    if len(text) > LONG:
        return Field(key, value, "", kind, f"{len(text):,} characters of JSON: too long to be edited here")
    return Field(key, value, text, kind)


def _text(value: Any, schema: StateSchema | None, key: str) -> str | None:
    """A value as JSON that reads back as the same; None: it has no such form."""
    if _says(value):
        return json.dumps(value, ensure_ascii=False, indent=2 if isinstance(value, dict | list) else None)
    adapter = _adapter(schema, key) if schema is not None else None
    if adapter is None:
        return None
    try:
        text: str = adapter.dump_json(value, indent=2, warnings=False).decode()
        return text if adapter.validate_json(text) == value else None
    except Exception:  # a user's type: what it cannot do is not edited
        return None


def _says(value: Any) -> bool:
    """True if JSON says exactly this."""
    if type(value) is dict:
        return all(type(k) is str and _says(v) for k, v in value.items())
    if type(value) is list:
        return all(map(_says, value))
    if type(value) is float:
        return math.isfinite(value)
    return value is None or type(value) in (bool, int, str)


def _adapter(schema: StateSchema, key: str) -> Any:
    """What reads a key's type out of JSON; None: nothing does."""
    hint = schema.annotations.get(key)
    if hint is None or hint is Any:
        return None
    from pydantic import TypeAdapter  # heavy, and only where somebody edits a state

    try:
        return TypeAdapter(_bare(hint))
    except Exception:  # a class that pydantic does not know: then any JSON goes
        return None


def _bare(hint: Any) -> Any:
    """An annotation without ``Required``, ``NotRequired``, ``ReadOnly`` around it, and without reducers."""
    while getattr(get_origin(hint), "__name__", getattr(get_origin(hint), "_name", "")) in (
        "Required", "NotRequired", "ReadOnly",
    ):  # fmt: skip
        hint = get_args(hint)[0]
    if get_origin(hint) is Annotated:
        kept = [m for m in hint.__metadata__ if not callable(m) or isinstance(m, type)]
        return Annotated[(hint.__origin__, *kept)] if kept else hint.__origin__
    return hint


def _type(schema: StateSchema, key: str) -> str:
    hint = _bare(schema.annotations[key])
    hint = hint.__origin__ if get_origin(hint) is Annotated else hint
    return hint.__name__ if isinstance(hint, type) and get_origin(hint) is None else str(hint).replace("typing.", "")
