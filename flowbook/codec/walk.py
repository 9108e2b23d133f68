"""A value -> nodes: walked with a stack of its own, so depth costs memory and never the interpreter's stack.

Owns: the order of nodes, key paths, cycles, depth. Refuses: knowing types (the registry does) and bytes (wire does).

A node is ``[tag, meta, entries, number of segments]``, and stands after its children. An entry is

    a scalar          itself
    ``{"": value}``   a plain JSON value in place
    ``[k]``           the value of node k; each node is used once

so JSON within a rich value costs no node per element. The root is the last node.
"""

from __future__ import annotations

from typing import Any, Final

from flowbook.codec.refusals import refused, unknown
from flowbook.codec.registry import Parts, Refused, taker
from flowbook.codec.wire import PLAIN_DEPTH, SCALARS, Buffer, is_plain
from flowbook.errors import Unencodable

MAX_DEPTH: Final = 10_000
"""Containers within containers. Bounded because hashing a tuple recurses in C without a check of its own."""

_SHORT_INT_BITS: Final = 2048  # 617 digits: below the smallest limit that an interpreter can be given (640)
_GLANCE: Final = 8  # how deep a container is looked through for being plain before it is walked


class _Frame:
    """A value being taken apart: its parts, how far they are, and the entries so far."""

    __slots__ = ("entries", "height", "parts", "plain", "position", "value")

    def __init__(self, value: object, parts: Parts) -> None:
        self.value = value
        self.parts = parts
        self.position = 0
        self.entries: list[Any] = []
        self.plain = True
        self.height = 0


def walk(root: object, at: str, strict: bool) -> tuple[Any, list[Any], list[Buffer]]:
    """The entry of the root, the nodes and the segments of a value.

    ``strict`` looks at every str and int for what JSON text cannot carry; without it such a value only shows when
    the text is made. Raises `Unencodable` with the key path under ``at``.
    """
    nodes: list[Any] = []
    segments: list[Buffer] = []
    top = _Frame(None, Parts("", None, (root,), name=lambda _index: ""))
    frames = [top]
    active: set[int] = set()
    while True:
        frame = frames[-1]
        if frame.position < len(frame.parts.children):
            child = frame.parts.children[frame.position]
            frame.position += 1
            kind = type(child)
            if kind in SCALARS and not (strict and _awkward(child)):
                frame.entries.append(child)
            elif (kind is list or kind is dict) and not strict and is_plain(child, _GLANCE):
                frame.entries.append({"": child})
                frame.height = max(frame.height, _GLANCE)
            else:
                if id(child) in active:
                    raise Unencodable(_path(frames, at), "it contains itself, and a cycle cannot be stored")
                if len(frames) > MAX_DEPTH:
                    raise Unencodable(_path(frames, at), f"it nests deeper than {MAX_DEPTH} levels")
                opened = _open(child, frames, at)
                active.add(id(child))
                frames.append(opened)
            continue
        if frame is top:
            return top.entries[0], nodes, segments
        frames.pop()
        active.discard(id(frame.value))
        parent = frames[-1]
        if _is_json(frame):
            parent.entries.append({"": frame.value})
            parent.height = max(parent.height, frame.height + 1)
        else:
            parts = frame.parts
            parent.entries.append([len(nodes)])
            parent.plain = False
            segments.extend(parts.segments)
            nodes.append([parts.tag, parts.meta, frame.entries, len(parts.segments)])


def _open(value: object, frames: list[_Frame], at: str) -> _Frame:
    kind = type(value)
    take = taker(kind)
    if take is None:
        raise Unencodable(_path(frames, at), unknown(kind))
    try:
        return _Frame(value, take(value))
    except Refused as refusal:
        raise Unencodable(_path(frames, at) + refusal.at, refused(kind, refusal.reason)) from None
    except Unencodable as inner:
        # Met while a set was being ordered, which encodes its elements one by one.
        joint = "." if inner.key_path[:1] not in ("", "[", "<") else ""
        raise Unencodable(f"{_path(frames, at)}<element>{joint}{inner.key_path}", inner.reason) from None
    except RecursionError:
        raise
    except Exception as error:
        # A taker met an object that is not what its type promises, e.g. one whose __init__ never ran.
        reason = f"it cannot be read ({type(error).__name__}: {error})"
        raise Unencodable(_path(frames, at), refused(kind, reason)) from error


def _is_json(frame: _Frame) -> bool:
    if not frame.plain or frame.height >= PLAIN_DEPTH:
        return False
    kind = type(frame.value)
    return kind is list or (kind is dict and all(type(key) is str for key in frame.entries[::2]))


def _awkward(scalar: object) -> bool:
    if type(scalar) is int:
        return scalar.bit_length() > _SHORT_INT_BITS
    if type(scalar) is str and not scalar.isascii():
        try:
            scalar.encode()
        except UnicodeEncodeError:
            return True
    return False


def _path(frames: list[_Frame], at: str) -> str:
    path = "".join(frame.parts.name(frame.position - 1) for frame in frames)
    if not at:
        return path.removeprefix(".")
    return at + path
