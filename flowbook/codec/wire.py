"""The format: how JSON text and raw segments lie in one payload.

Owns: the version byte, the two forms, the JSON encoder and decoder. Refuses: knowing any type beyond JSON's.

    plain       01 'j' JSON                                           str keys, exact int float str bool None list dict
    container   01 'r' length:u64le header padding segment padding …  everything else

The header is JSON: ``[nodes, lengths]``. Segments lie raw, each aligned to 16 bytes, so a 100 MB array costs
100 MB and can be viewed where it lies. In the plain form every dict is the user's, so nothing a user writes can
be taken for a tag and nothing has to be escaped.

Text is UTF-8 and not ASCII escapes: JSON's escapes cannot tell two lone surrogates from the pair they would make.
A string with a surrogate is refused by UTF-8 and then carried as a segment.
"""

from __future__ import annotations

import json
import json.encoder
import json.scanner
from collections.abc import Callable, Sequence
from typing import Any, Final

from flowbook.errors import Undecodable

VERSION: Final[int] = 1
"""Of the format; the first byte of each payload."""

PLAIN: Final = bytes((VERSION,)) + b"j"
RICH: Final = bytes((VERSION,)) + b"r"
PICKLED: Final = bytes((VERSION,)) + b"p"

SCALARS: Final[frozenset[type]] = frozenset((str, int, float, bool, type(None)))
"""Exact types that JSON carries as they are; a subclass (numpy.float64, an IntEnum) is not one of them."""

PLAIN_DEPTH: Final = 48
"""Containers within containers in JSON text; deeper ones become nodes. Small: the C encoder and scanner recurse."""

_ALIGN: Final = 16  # what malloc gives a bytes object's data, so a better alignment could not be kept anyway

Buffer = bytes | bytearray | memoryview


def _refuse(value: object) -> object:
    raise ValueError(f"not JSON: {type(value)!r}")


def _make_dumper() -> Callable[[object, int], Sequence[str]]:
    # json.dumps builds its C encoder anew at each call, which costs more than encoding a small value.
    make: Any = getattr(json.encoder, "c_make_encoder", None)  # not in typeshed
    if make is None:  # an interpreter without the C accelerator
        slow = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":"), default=_refuse)
        return lambda value, _indent: (slow.encode(value),)
    made: Callable[[object, int], Sequence[str]] = make(
        None, _refuse, json.encoder.encode_basestring, None, ":", ",", False, False, True
    )
    return made


_dump: Final = _make_dumper()
_Scan = Callable[[str, int], tuple[Any, int]]
_make_scanner: Final[Any] = json.scanner.make_scanner  # typeshed has it as a class that scans nothing
_scan: Final[_Scan] = _make_scanner(json.JSONDecoder())


def is_plain(value: object, room: int = PLAIN_DEPTH) -> bool:
    """Whether JSON carries ``value`` exactly, going at most ``room`` containers deep (a cycle is never plain)."""
    kind = type(value)
    if kind is dict:
        if not room:
            return False
        for key, item in value.items():  # type: ignore[attr-defined]  # an exact dict, by the line above
            if type(key) is not str or (type(item) not in SCALARS and not is_plain(item, room - 1)):
                return False
        return True
    if kind is list:
        if not room:
            return False
        for item in value:  # type: ignore[attr-defined]  # noqa: SIM110  # as above; any() would cost a generator
            if type(item) not in SCALARS and not is_plain(item, room - 1):
                return False
        return True
    return kind in SCALARS


def dump(value: object) -> bytes:
    """JSON text of a value that `is_plain`.

    Raises ValueError for a lone surrogate or an int beyond the interpreter's digit limit: such a value is not plain
    after all, and finding out here costs nothing on the way of those that are.
    """
    return "".join(_dump(value, 0)).encode()


def scan(text: str, start: int) -> object:
    """The value whose JSON text fills ``text`` from ``start``; `Undecodable` when it does not."""
    try:
        value, end = _scan(text, start)
    except StopIteration:
        raise Undecodable("stored value is damaged: JSON text ends early") from None
    except json.JSONDecodeError as error:
        raise Undecodable(f"stored value is damaged: {error}") from None
    except RecursionError:
        raise Undecodable("stored value nests deeper than this thread's stack allows") from None
    except ValueError:
        value, end = _scan_long_ints(text, start)
    if end != len(text):
        raise Undecodable(f"stored value is damaged: {len(text) - end} characters follow its end")
    return value


def _scan_long_ints(text: str, start: int) -> tuple[Any, int]:
    # The writer's limit on the digits of an int was larger than ours; reading must not depend on a setting.
    try:
        patient: _Scan = _make_scanner(json.JSONDecoder(parse_int=_long_int))
        return patient(text, start)
    except (ValueError, StopIteration, RecursionError) as error:
        raise Undecodable(f"stored value is damaged: {error}") from None


def _long_int(digits: str) -> int:
    if digits.startswith("-"):
        return -_long_int(digits[1:])
    if len(digits) <= 512:
        return int(digits)
    half = len(digits) // 2
    return _long_int(digits[:-half]) * int(10**half) + _long_int(digits[-half:])


def pack(nodes: list[Any], segments: list[Buffer]) -> bytes:
    """The container form. Raises ValueError as `dump` does."""
    header = dump([nodes, [len(segment) for segment in segments]])
    parts: list[Buffer] = [RICH, len(header).to_bytes(8, "little"), header]
    end = 10 + len(header)
    for segment in segments:
        gap = -end % _ALIGN
        parts.append(bytes(gap))
        parts.append(segment)
        end += gap + len(segment)
    return b"".join(parts)


def unpack(data: bytes) -> tuple[list[Any], list[memoryview]]:
    """Nodes and segments of a container; the segments are views of ``data``. Raises `Undecodable`."""
    view = memoryview(data)
    size = int.from_bytes(view[2:10], "little")
    end = 10 + size
    if len(view) < end:
        raise Undecodable(f"stored value is damaged: {len(view)} bytes where its header alone needs {end}")
    try:
        text = str(view[10:end], "utf-8")
    except UnicodeDecodeError as error:
        raise Undecodable(f"stored value is damaged: {error}") from None
    match scan(text, 0):
        case [list() as nodes, list() as lengths]:
            pass
        case _:
            raise Undecodable("stored value is damaged: its header is not [nodes, lengths]")
    segments = []
    for length in lengths:
        start = end + -end % _ALIGN
        if type(length) is not int or length < 0 or start + length > len(view):
            raise Undecodable(f"stored value is damaged: no room for a segment of {length!r} bytes")
        end = start + length
        segments.append(view[start:end])
    if end != len(view):
        raise Undecodable(f"stored value is damaged: {len(view) - end} bytes follow its end")
    return nodes, segments
