"""Results: what a step's return value means for the state.

Owns: telling an update from a value, and where the payload of a signal goes. Refuses: merging (`state.py`)
and bytes (`codec/`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowbook.errors import StateError
from flowbook.graph.body import Body
from flowbook.graph.pause import Pause
from flowbook.graph.state import StateSchema
from flowbook.graph.step import Step, Value
from flowbook.graph.subflow import Subflow


def received(pause: Pause, signal: str, schema: StateSchema | None, payload: Any) -> tuple[Any, str | None]:
    """(result, state key) of a payload; a schema that does not declare the key keeps it out of the state.

    Raises `StateError` if the schema declares the key and the payload does not fit it.
    """
    key = pause.into or signal
    if schema is None:
        return payload, key
    if key not in schema.annotations:
        return payload, None
    return schema.validate(f"signal {signal!r}", {key: payload})[key], key


def brought(sub: Subflow, schema: StateSchema | None, result: Any) -> tuple[Any, str | None]:
    """(result, state key) of what a child has ended with; None: it is merged, or a schema keeps it out of the state.

    Raises `StateError` if it does not fit the schema.
    """
    key, who = sub.target, f"subflow {sub.name!r}"
    if key is None and not isinstance(result, dict):
        raise StateError(
            f"{who} ended with {type(result).__name__}, which is no update of the state: name its key by into="
        )
    if schema is None:
        return result, key
    if key is None:
        return schema.validate(who, result), None
    return (schema.validate(who, {key: result})[key], key) if key in schema.annotations else (result, None)


def item_result(returned: Any) -> Any:
    """What a step returned for an item of a map: all of it is the item's result, a dict as well."""
    return returned.value if isinstance(returned, Value) else returned


def interpret(step: Step, schema: StateSchema | None, returned: Any) -> tuple[Any, Mapping[str, Any]]:
    """Result and update of what a step returned.

    A dict is an update (result and update are then the same object). Anything else, and `value(d)`, goes under the
    step's name; with a schema that does not declare that name, only None may be returned, and goes nowhere.
    What a body returns is the result of its run, and leaves the state alone. Raises `StateError` if an update does not
    fit the schema.
    """
    if type(step) is Body:
        return step.returned(returned), {}
    who = f"step {step.name!r}"
    if isinstance(returned, dict):
        for key in returned:
            if not isinstance(key, str):
                raise StateError(
                    f"{who} returned a dict with the key {key!r}: an update has text keys; for a dict that is one "
                    f"value, return flowbook.value({{...}})"
                )
        update = returned if schema is None else schema.validate(who, returned)
        return update, update
    result = returned.value if isinstance(returned, Value) else returned
    if schema is None:
        return result, {step.name: result}
    if step.name in schema.annotations:
        update = schema.validate(who, {step.name: result})
        return update[step.name], update
    if result is None:
        return None, {}
    raise StateError(
        f"{who} returned {type(result).__name__}, which is stored under the step's name, and "
        f"{schema.source.__name__} does not declare {step.name!r}: declare it, or return a dict of its keys"
    )
