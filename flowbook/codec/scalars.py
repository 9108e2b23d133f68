"""Single values of the standard library: bytes, numbers, dates and times, paths, patterns.

Owns: taking them apart and putting them together. Refuses: subclasses of theirs, and time zones that cannot be
looked up again (pytz, dateutil, a ZoneInfo without a key).
"""

from __future__ import annotations

import base64
import re
import zoneinfo
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from pathlib import Path, PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, Final
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from flowbook.codec.registry import Missing, Parts, Refused, makes, takes

_SHORT: Final = 96  # bytes up to here stand in the header as base64: a segment's bookkeeping would cost as much
_ZONE: Final = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
_DEBUG: Final = int(re.DEBUG)  # prints when a pattern is compiled; says nothing about what it matches


def _own(name: str) -> Callable[[int], str]:
    return lambda _index: name


@takes(int)
def _take_int(value: int) -> Parts:
    # Only ints beyond JSON's reach come here: in digits they would be slow, and refused past a limit.
    return Parts("int", None, (), (value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True),))


@makes("int")
def _make_int(_meta: Any, _children: list[Any], segments: list[memoryview]) -> int:
    (raw,) = segments
    return int.from_bytes(raw, "little", signed=True)


@takes(str)
def _take_str(value: str) -> Parts:
    # Only strings with lone surrogates come here.
    return Parts("str", None, (), (value.encode("utf-8", "surrogatepass"),))


@makes("str")
def _make_str(_meta: Any, _children: list[Any], segments: list[memoryview]) -> str:
    (raw,) = segments
    return str(raw, "utf-8", "surrogatepass")


@takes(bytes, bytearray)
def _take_bytes(value: bytes | bytearray) -> Parts:
    tag = type(value).__name__
    if len(value) <= _SHORT:
        return Parts(tag, base64.b64encode(value).decode())
    # A copy of what may change: another thread could grow it while it is being written.
    return Parts(tag, None, (), (bytes(value),))


def _raw(meta: Any, segments: list[memoryview]) -> bytes:
    if meta is not None:
        return base64.b64decode(meta, validate=True)
    (raw,) = segments
    return bytes(raw)


@makes("bytes")
def _make_bytes(meta: Any, _children: list[Any], segments: list[memoryview]) -> bytes:
    return _raw(meta, segments)


@makes("bytearray")
def _make_bytearray(meta: Any, _children: list[Any], segments: list[memoryview]) -> bytearray:
    return bytearray(_raw(meta, segments))


@takes(complex)
def _take_complex(value: complex) -> Parts:
    return Parts("complex", None, (value.real, value.imag))


@makes("complex")
def _make_complex(_meta: Any, children: list[Any], _segments: list[memoryview]) -> complex:
    real, imag = children
    return complex(real, imag)


@takes(Decimal)
def _take_decimal(value: Decimal) -> Parts:
    return Parts("decimal", str(value))


@makes("decimal")
def _make_decimal(meta: Any, _children: list[Any], _segments: list[memoryview]) -> Decimal:
    return Decimal(meta)  # exact whatever the context's precision is


@takes(Fraction)
def _take_fraction(value: Fraction) -> Parts:
    return Parts("fraction", None, (value.numerator, value.denominator), name=_own(""))


@makes("fraction")
def _make_fraction(_meta: Any, children: list[Any], _segments: list[memoryview]) -> Fraction:
    numerator, denominator = children
    return Fraction(numerator, denominator)


@takes(UUID)
def _take_uuid(value: UUID) -> Parts:
    return Parts("uuid", [value.hex, value.is_safe.value])


@makes("uuid")
def _make_uuid(meta: Any, _children: list[Any], _segments: list[memoryview]) -> UUID:
    digits, safe = meta
    return UUID(hex=digits, is_safe=SafeUUID(safe))


@takes(type(Ellipsis))
def _take_ellipsis(_value: Any) -> Parts:
    return Parts("ellipsis")


@makes("ellipsis")
def _make_ellipsis(_meta: Any, _children: list[Any], _segments: list[memoryview]) -> Any:
    return ...


@takes(range, slice)
def _take_range(value: range | slice) -> Parts:
    return Parts(
        type(value).__name__, None, (value.start, value.stop, value.step), name=(".start", ".stop", ".step").__getitem__
    )


@makes("range")
def _make_range(_meta: Any, children: list[Any], _segments: list[memoryview]) -> range:
    start, stop, step = children
    return range(start, stop, step)


@makes("slice")
def _make_slice(_meta: Any, children: list[Any], _segments: list[memoryview]) -> slice:
    start, stop, step = children
    return slice(start, stop, step)


@takes(re.Pattern)
def _take_pattern(value: re.Pattern[Any]) -> Parts:
    return Parts("pattern", value.flags & ~_DEBUG, (value.pattern,), name=_own(".pattern"))


@makes("pattern")
def _make_pattern(meta: Any, children: list[Any], _segments: list[memoryview]) -> re.Pattern[Any]:
    (pattern,) = children
    return re.compile(pattern, int(meta) & ~_DEBUG)


_PATHS: Final[dict[str, type[PurePath]]] = {
    kind.__name__: kind for kind in (PurePosixPath, PureWindowsPath, PosixPath, WindowsPath)
}


@takes(*_PATHS.values())
def _take_path(value: PurePath) -> Parts:
    text = str(value)
    if type(value)(text) != value:
        raise Refused(f"its text {text!r} reads as another path")  # e.g. PureWindowsPath("//://")
    return Parts("path", type(value).__name__, (text,), name=_own(""))


@makes("path")
def _make_path(meta: Any, children: list[Any], _segments: list[memoryview]) -> PurePath:
    (text,) = children
    try:
        return _PATHS[meta](text)
    except NotImplementedError as error:
        raise Missing(f"{error}; a {meta} was stored on another system") from None


# ------------------------------------------------------------------------------------------------ dates and times


@takes(date)
def _take_date(value: date) -> Parts:
    return Parts("date", value.isoformat())


@makes("date")
def _make_date(meta: Any, _children: list[Any], _segments: list[memoryview]) -> date:
    return date.fromisoformat(meta)


@takes(time, datetime)
def _take_time(value: time | datetime) -> Parts:
    # fold and tzinfo beside the text: isoformat writes an offset, from which no zone can be told
    meta = [value.replace(tzinfo=None).isoformat(), value.fold]
    return Parts(type(value).__name__, meta, (value.tzinfo,), name=_own(".tzinfo"))


@makes("time")
def _make_time(meta: Any, children: list[Any], _segments: list[memoryview]) -> time:
    text, fold = meta
    (zone,) = children
    return time.fromisoformat(text).replace(fold=fold, tzinfo=zone)


@makes("datetime")
def _make_datetime(meta: Any, children: list[Any], _segments: list[memoryview]) -> datetime:
    text, fold = meta
    (zone,) = children
    return datetime.fromisoformat(text).replace(fold=fold, tzinfo=zone)


@takes(timedelta)
def _take_timedelta(value: timedelta) -> Parts:
    return Parts("timedelta", [value.days, value.seconds, value.microseconds])


@makes("timedelta")
def _make_timedelta(meta: Any, _children: list[Any], _segments: list[memoryview]) -> timedelta:
    days, seconds, microseconds = meta
    return timedelta(days, seconds, microseconds)


@takes(timezone)
def _take_timezone(value: timezone) -> Parts:
    if value is UTC:
        return Parts("utc")
    return Parts("timezone", None, value.__getinitargs__(), name=_own(""))  # type: ignore[attr-defined]  # not in typeshed


@makes("utc")
def _make_utc(_meta: Any, _children: list[Any], _segments: list[memoryview]) -> tzinfo:
    return UTC


@makes("timezone")
def _make_timezone(_meta: Any, children: list[Any], _segments: list[memoryview]) -> tzinfo:
    return timezone(*children)


@takes(ZoneInfo)
def _take_zone(value: ZoneInfo) -> Parts:
    if value.key is None:
        raise Refused("it has no key by which the zone could be looked up again; make it as ZoneInfo('Area/City')")
    return Parts("zone", value.key)


@lru_cache(maxsize=1024)
def _is_zone(key: str) -> bool:
    # ZoneInfo imports a package named after a key that the system does not have: only true keys may come to it.
    if _ZONE.fullmatch(key) is None:
        return False
    return any(Path(root, key).is_file() for root in zoneinfo.TZPATH) or key in _all_zones()


@lru_cache(maxsize=1)
def _all_zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())  # reads hundreds of files, so only for what the system lacks


@makes("zone")
def _make_zone(meta: Any, _children: list[Any], _segments: list[memoryview]) -> tzinfo:
    try:
        if not _is_zone(meta):
            raise ZoneInfoNotFoundError(meta)
        return ZoneInfo(meta)
    except ZoneInfoNotFoundError:
        raise Missing(f"this machine has no time zone {meta!r}; install tzdata and read again") from None
