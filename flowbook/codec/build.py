"""Nodes -> a value: children stand before their parents, so one pass over a list rebuilds a tree of any depth.

Owns: checking the shape of nodes, what becomes `Inert`. Refuses: knowing types, and trusting anything it reads.
"""

from __future__ import annotations

from typing import Any

from flowbook.codec.inert import Inert
from flowbook.codec.registry import Missing, maker
from flowbook.codec.walk import MAX_DEPTH
from flowbook.errors import Undecodable

_USED = object()


def build(nodes: list[Any], segments: list[memoryview]) -> object:
    """The value whose root is the last node. Raises `Undecodable`."""
    values: list[Any] = []
    depths: list[int] = []
    cursor = 0
    for node in nodes:
        match node:
            case [str() as tag, meta, list() as entries, int() as count] if 0 <= count <= len(segments) - cursor:
                pass
            case _:
                raise Undecodable(f"stored value is damaged: node {len(values)} is not a node")
        children, depth = _children(entries, values, depths)
        if depth > MAX_DEPTH:
            raise Undecodable(f"stored value is damaged: it nests deeper than {MAX_DEPTH} levels")
        values.append(_make(tag, meta, children, segments[cursor : cursor + count]))
        depths.append(depth)
        cursor += count
    if cursor != len(segments) or not values or any(value is not _USED for value in values[:-1]):
        raise Undecodable("stored value is damaged: parts of it belong nowhere")
    return values[-1]


def _children(entries: list[Any], values: list[Any], depths: list[int]) -> tuple[list[Any], int]:
    children: list[Any] = []
    depth = 0
    for entry in entries:
        if type(entry) is list:
            if len(entry) != 1 or type(entry[0]) is not int or not 0 <= entry[0] < len(values):
                raise Undecodable(f"stored value is damaged: {entry!r} refers to no node")
            index = entry[0]
            # Once only: shared nodes would let a few bytes describe a tree of 2**n leaves.
            if values[index] is _USED:
                raise Undecodable(f"stored value is damaged: node {index} is used twice")
            children.append(values[index])
            values[index] = _USED
            depth = max(depth, depths[index])
        elif type(entry) is dict:
            if len(entry) != 1 or "" not in entry:
                raise Undecodable("stored value is damaged: a value in place has no mark")
            children.append(entry[""])
        else:
            children.append(entry)
    return children, depth + 1


def _make(tag: str, meta: Any, children: list[Any], segments: list[memoryview]) -> object:
    try:
        make = maker(tag)
        if make is None:
            raise Missing(f"this flowbook knows no type tagged {tag!r}; a newer one may have written it")
        return make(meta, children, segments)
    except Missing as missing:
        return Inert(tag, meta, tuple(children), tuple(bytes(segment) for segment in segments), str(missing))
    except Exception as error:
        # A maker that needs a real tzinfo or class cannot work with what stands for it: then it is inert as well.
        stand_in = next((child for child in children if isinstance(child, Inert)), None)
        if stand_in is not None:
            raw = tuple(bytes(segment) for segment in segments)
            return Inert(tag, meta, tuple(children), raw, stand_in.reason)
        raise Undecodable(
            f"stored value is damaged: {tag!r} cannot be rebuilt ({type(error).__name__}: {error})"
        ) from error
