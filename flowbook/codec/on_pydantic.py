"""pydantic: model instances.

Owns: a model's fields, extra and private attributes, and which fields were set. Refuses: running validators or
``model_post_init`` when reading (a value was valid when it was made, and reading a row runs no code of the user's).
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from flowbook.codec.copies import copied
from flowbook.codec.registry import KIND_COPIES, KINDS, Missing, Parts, class_meta, class_of, makes


def _is_model(cls: type) -> bool:
    return issubclass(cls, BaseModel)


def _state(value: BaseModel) -> tuple[dict[str, Any], Any, Any, list[str]]:
    private = value.__pydantic_private__
    if private is not None:
        # A private attribute without a default holds a marker until it is set; leaving it out means the same.
        private = {name: item for name, item in private.items() if item is not PydanticUndefined}
    fields: dict[str, Any] = object.__getattribute__(value, "__dict__")
    return fields, value.__pydantic_extra__, private, sorted(value.__pydantic_fields_set__)


def _restored(cls: type, fields: dict[str, Any], extra: Any, private: Any, names: list[str]) -> BaseModel:
    made: Any = object.__new__(cls)
    object.__setattr__(made, "__dict__", fields)
    object.__setattr__(made, "__pydantic_fields_set__", set(names))
    object.__setattr__(made, "__pydantic_extra__", extra)
    object.__setattr__(made, "__pydantic_private__", private)
    model: BaseModel = made
    return model


def _take_model(value: BaseModel) -> Parts:
    cls = type(value)
    fields, extra, private, names = _state(value)
    known = list(fields)
    meta = class_meta(cls, (*known, "model_extra", "private", "model_fields_set")) | {
        "declared": sorted(cls.model_fields)
    }
    pieces = [*(f".{name}" for name in known), "", "", ".model_fields_set"]
    return Parts("pydantic.model", meta, (*fields.values(), extra, private, names), name=pieces.__getitem__)


@makes("pydantic.model")
def _make_model(meta: Any, children: list[Any], _segments: list[memoryview]) -> BaseModel:
    cls: Any = class_of(meta, _is_model, "a pydantic model")
    declared = sorted(cls.model_fields)
    if declared != meta["declared"]:
        raise Missing(f"{cls.__module__}:{cls.__qualname__} has other fields now: {declared!r}")
    *items, extra, private, names = children
    fields = dict(zip(meta["fields"][:-3], items, strict=True))
    return _restored(cls, fields, extra, private, names)


def _copy_model(value: BaseModel) -> BaseModel:
    fields, extra, private, names = _state(value)
    return _restored(type(value), copied(fields), copied(extra), copied(private), names)


# Before dataclasses and the like: a model is told by its base class.
KINDS.insert(0, (_is_model, _take_model))
KIND_COPIES.insert(0, (_is_model, _copy_model))
