"""State schemas: which keys a flow's state has, and how an update is merged into it.

Owns: reading TypedDicts, dataclasses and pydantic models; reducers; validation of updates. Refuses: values' bytes.
Without a schema every key is welcome and the last write wins.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flowbook.errors import StateError

Reducer = Callable[[Any, Any], Any]
"""(old value, update) -> new value; must be pure, and must not change its arguments."""


_EMPTY: tuple[type, ...] = (list, dict, set, frozenset, tuple, str, int, float)
"""Types whose call without arguments is what a reducer begins with, when a key has no value yet."""


@dataclass(frozen=True)
class StateSchema:
    """The keys of a state. Made by `schema_of`."""

    source: type
    annotations: Mapping[str, Any]
    reducers: Mapping[str, Reducer]
    defaults: Mapping[str, Callable[[], Any]]
    """Keys with a default -> a function that makes it anew."""

    @functools.cached_property
    def fingerprint(self) -> str:
        """Changes when a key, a type or a reducer does; a snapshot folded under another one is not used."""
        parts = [
            f"{k}:{t!r}:{_name(self.reducers[k]) if k in self.reducers else ''}" for k, t in self.annotations.items()
        ]
        return hashlib.blake2b("\n".join(parts).encode(), digest_size=8).hexdigest()

    def initial(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The first state: defaults, then the run's input. Raises StateError for keys that are not in the schema."""
        self.check("the run's input", given)
        return {key: make() for key, make in self.defaults.items() if key not in given} | dict(given)

    def check(self, who: str, update: Mapping[str, Any]) -> None:
        """Raise StateError if an update has a key that the schema has not."""
        unknown = [key for key in update if key not in self.annotations]
        if unknown:
            raise StateError(
                f"{who} has {_list(unknown)}, which {self.source.__name__} does not declare; "
                f"its keys are {_list(list(self.annotations))}"
            )

    def validate(self, who: str, update: Mapping[str, Any], *, whole: bool = False) -> Mapping[str, Any]:
        """An update with its values as the schema's types want them (pydantic models only; others are taken as is).

        A key with a reducer is not validated: what a reducer adds need not have the type of the whole. ``whole`` says
        that nothing is added and the values are set as they are.
        """
        self.check(who, update)
        fields: Mapping[str, Any] | None = getattr(self.source, "model_fields", None)
        if fields is None:
            return update
        checked = dict(update)
        for key in update:
            if key in self.reducers and not whole:
                continue
            try:
                checked[key] = _adapter(self.source, key).validate_python(update[key])
            except ValueError as error:
                raise StateError(f"{who}: {key!r} does not fit {self.source.__name__}: {error}") from error
        return checked

    def empty(self, key: str, update: Any) -> Any:
        """What a reducer gets as the old value of a key that has none: the empty value of the key's type."""
        hint = self.annotations[key]
        while typing.get_origin(hint) in _WRAPPERS:
            hint = typing.get_args(hint)[0]
        kind = typing.get_origin(hint) or hint
        return kind() if kind in _EMPTY else type(update)()

    def build(self, values: Mapping[str, Any]) -> Any:
        """The state as people declared it: a dict for TypedDicts, else an instance of the class."""
        if typing.is_typeddict(self.source):
            return dict(values)
        try:
            return self.source(**values)
        except (TypeError, ValueError):
            return dict(values)


def schema_of(source: type | None) -> StateSchema | None:
    """The schema that a class declares. Raises StateError if it is neither TypedDict, dataclass nor pydantic model."""
    if source is None:
        return None
    if not isinstance(source, type):
        raise StateError(f"state={source!r} is not a class: give a TypedDict, a dataclass or a pydantic model")
    hints = _hints(source)
    if typing.is_typeddict(source):
        defaults: dict[str, Callable[[], Any]] = {}
    elif dataclasses.is_dataclass(source):
        defaults = _dataclass_defaults(source)
    elif hasattr(source, "model_fields"):
        defaults = {
            k: functools.partial(f.get_default, call_default_factory=True)
            for k, f in source.model_fields.items()
            if not f.is_required()
        }
    else:
        raise StateError(
            f"state={source.__name__} declares no fields: give a TypedDict, a dataclass or a pydantic model"
        )
    reducers = {key: r for key, hint in hints.items() if (r := _reducer(source, key, hint)) is not None}
    return StateSchema(source, hints, reducers, defaults)


def merge(schema: StateSchema | None, values: Mapping[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    """A state with an update merged in; neither argument is changed. A reducer that raises ends in StateError."""
    merged = dict(values)
    if schema is None or not schema.reducers:
        merged.update(update)
        return merged
    for key, new in update.items():
        reducer = schema.reducers.get(key)
        if reducer is None:
            merged[key] = new
            continue
        old = merged[key] if key in merged else schema.empty(key, new)
        try:
            merged[key] = reducer(old, new)
        except Exception as error:
            raise StateError(
                f"reducer {_name(reducer)} of state key {key!r} refused {type(old).__name__} and "
                f"{type(new).__name__}: {error}"
            ) from error
    return merged


def _hints(source: type) -> dict[str, Any]:
    try:
        hints = typing.get_type_hints(source, include_extras=True)
    except NameError as error:
        raise StateError(f"state={source.__name__}: an annotation cannot be resolved: {error}") from error
    return {key: hint for key, hint in hints.items() if typing.get_origin(hint) is not typing.ClassVar}


def _reducer(source: type, key: str, hint: Any) -> Reducer | None:
    while typing.get_origin(hint) in _QUALIFIERS:
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) is not typing.Annotated:
        return None
    found = [m for m in hint.__metadata__ if callable(m) and not isinstance(m, type)]
    if len(found) > 1:
        raise StateError(f"state={source.__name__}: key {key!r} has {len(found)} reducers; one is the most")
    return found[0] if found else None


_QUALIFIERS = (typing.Required, typing.NotRequired, *([typing.ReadOnly] if hasattr(typing, "ReadOnly") else []))
_WRAPPERS = (*_QUALIFIERS, typing.Annotated)


def _dataclass_defaults(source: Any) -> dict[str, Callable[[], Any]]:
    defaults: dict[str, Callable[[], Any]] = {}
    for f in dataclasses.fields(source):
        if f.default_factory is not dataclasses.MISSING:
            defaults[f.name] = f.default_factory
        elif f.default is not dataclasses.MISSING:
            defaults[f.name] = functools.partial(lambda v: v, f.default)
    return defaults


@functools.lru_cache(maxsize=512)
def _adapter(model: type, key: str) -> Any:
    from pydantic import TypeAdapter  # heavy, and only here: a pydantic schema means that it is loaded already

    field: Any = model.model_fields[key]  # type: ignore[attr-defined]
    annotation = typing.Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    adapter: Any = TypeAdapter  # its parameter is a type form, which no checker reads out of a variable yet
    return adapter(annotation)


def _name(reducer: Reducer) -> str:
    return getattr(reducer, "__qualname__", None) or repr(reducer)


def _list(names: list[str]) -> str:
    return ", ".join(repr(n) for n in names)
