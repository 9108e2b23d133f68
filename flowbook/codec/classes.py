"""Instances of the user's classes: Enum members, namedtuples, dataclasses.

Owns: reading and restoring their fields. Refuses: calling any code of the class: no ``__init__``, ``__post_init__``,
property or ``__setstate__`` runs, neither when a value is stored nor when it is read.

State lies in ``__dict__`` and in slots; it is read from there and put back there, so what a dataclass holds beyond
its fields (a cached property) survives as well, and a property of the same name is never called.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from enum import Enum, Flag
from types import MemberDescriptorType
from typing import Any, Final

from flowbook.codec.registry import KINDS, Missing, Parts, Refused, class_meta, class_of, makes

_TYPING_NOTE: Final = "__orig_class__"  # typing leaves it on Box[int](...); it says nothing about the value


def is_enum(cls: type) -> bool:
    """Whether instances of the class are Enum members."""
    return issubclass(cls, Enum)


def is_namedtuple(cls: type) -> bool:
    """Whether the class is made by ``namedtuple`` or ``typing.NamedTuple``, or derives from such a class."""
    names = getattr(cls, "_fields", None)
    return issubclass(cls, tuple) and isinstance(names, tuple) and all(isinstance(name, str) for name in names)


def is_dataclass(cls: type) -> bool:
    """Whether the class or a base of it is a dataclass: `state_of` sees all that a subclass may add."""
    return any("__dataclass_fields__" in type.__dict__["__dict__"].__get__(base) for base in cls.__mro__)


def slots_of(cls: type) -> Iterator[tuple[str, MemberDescriptorType]]:
    """Names and descriptors of all slots that instances of the class have."""
    for base in cls.__mro__:
        for name, slot in type.__dict__["__dict__"].__get__(base).items():
            if isinstance(slot, MemberDescriptorType):
                yield name, slot


def state_of(value: object) -> dict[str, Any]:
    """What an instance holds, by name, read without running code of its class."""
    state: dict[str, Any] = {}
    for name, slot in slots_of(type(value)):
        try:
            state[name] = slot.__get__(value)
        except AttributeError:
            continue  # a slot that was never filled stays so
    state.update(_space(value))
    state.pop(_TYPING_NOTE, None)
    return state


def _space(value: object) -> dict[str, Any]:
    try:
        space: dict[str, Any] = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return space


def with_state(cls: type, state: dict[str, Any]) -> Any:
    """An instance that holds just this, made without running code of its class; `Missing` if it has no such place."""
    made: Any = object.__new__(cls)
    slots = dict(slots_of(cls))
    rest = dict(state)
    for name in state:
        if name in slots:
            slots[name].__set__(made, rest.pop(name))
    if rest:
        try:
            space: dict[str, Any] = object.__getattribute__(made, "__dict__")
        except AttributeError:
            raise Missing(f"{cls.__module__}:{cls.__qualname__} has no place for {sorted(rest)!r} any more") from None
        space.update(rest)
    return made


# ----------------------------------------------------------------------------------------------------------- Enum


def _take_enum(value: Enum) -> Parts:
    if isinstance(value, Flag):
        # A combination has no name of its own, or one that reads differently from version to version.
        return Parts("flag", class_meta(type(value), ("value",)), (value._value_,), name=lambda _index: ".value")
    return Parts("enum", class_meta(type(value), ("name",)), (value._name_,), name=lambda _index: ".name")


@makes("enum")
def _make_enum(meta: Any, children: list[Any], _segments: list[memoryview]) -> Enum:
    cls: Any = class_of(meta, is_enum, "an Enum")
    (name,) = children
    member = cls.__members__.get(name)
    if member is None:
        raise Missing(f"{cls.__module__}:{cls.__qualname__} has no member {name!r} any more")
    return member  # type: ignore[no-any-return]  # a class found by name has no static type


@makes("flag")
def _make_flag(meta: Any, children: list[Any], _segments: list[memoryview]) -> Flag:
    cls: Any = class_of(meta, is_flag, "a Flag")
    (bits,) = children
    try:
        # Flag's own way of combining bits, not a _missing_ of the class, which is the user's code
        found = cls._value2member_map_.get(bits)
        member: Flag = vars(Flag)["_missing_"].__func__(cls, bits) if found is None else found
        return member
    except ValueError:
        raise Missing(f"{cls.__module__}:{cls.__qualname__} has no bits {bits!r} any more") from None


def is_flag(cls: type) -> bool:
    """Whether instances of the class are Flag members."""
    return issubclass(cls, Flag)


# ----------------------------------------------------------------------------------------------------- namedtuple


def _take_namedtuple(value: Any) -> Parts:
    cls = type(value)
    names: tuple[str, ...] = cls._fields
    if state_of(value) or len(names) != tuple.__len__(value):
        raise Refused("it holds more than its fields")
    return Parts("namedtuple", class_meta(cls, names), tuple(tuple.__iter__(value)), name=lambda i: f".{names[i]}")


@makes("namedtuple")
def _make_namedtuple(meta: Any, children: list[Any], _segments: list[memoryview]) -> tuple[Any, ...]:
    cls: Any = class_of(meta, is_namedtuple, "a namedtuple")
    if list(cls._fields) != meta["fields"] or len(children) != len(cls._fields):
        raise Missing(f"{cls.__module__}:{cls.__qualname__} has other fields now: {list(cls._fields)!r}")
    return tuple.__new__(cls, children)


# ------------------------------------------------------------------------------------------------------ dataclass


def _take_dataclass(value: Any) -> Parts:
    cls = type(value)
    try:
        object.__new__(cls)
    except TypeError:
        raise Refused("besides being a dataclass it derives from a built-in type that holds more") from None
    state = state_of(value)
    fields = sorted(field.name for field in dataclasses.fields(value))
    names = tuple(state)
    meta = class_meta(cls, names) | {"declared": fields}
    return Parts("dataclass", meta, tuple(state.values()), name=lambda index: f".{names[index]}")


@makes("dataclass")
def _make_dataclass(meta: Any, children: list[Any], _segments: list[memoryview]) -> object:
    cls: Any = class_of(meta, is_dataclass, "a dataclass")
    fields = sorted(field.name for field in dataclasses.fields(cls))
    if fields != meta["declared"]:
        raise Missing(f"{cls.__module__}:{cls.__qualname__} has other fields now: {fields!r}")
    return with_state(cls, dict(zip(meta["fields"], children, strict=True)))


KINDS.append((is_enum, _take_enum))
KINDS.append((is_namedtuple, _take_namedtuple))
KINDS.append((is_dataclass, _take_dataclass))
