"""Durations as people write them.

Owns: turning ``30``, ``"90s"``, ``"2d"`` or a timedelta into seconds, and back into a text. Refuses: dates
and calendars.
"""

from __future__ import annotations

import re
from datetime import timedelta

from flowbook.errors import UsageError

Duration = float | int | str | timedelta
"""Seconds as a number, or a text such as ``"250ms"``, ``"30s"``, ``"1h30m"``, ``"2d"``, or a timedelta."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")


def spoken(value: float) -> str:
    """Seconds in the form that `seconds` reads, to the millisecond: ``"2d"``, ``"1h30m"``, ``"250ms"``."""
    left, parts = round(value * 1000), []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)):
        count, left = divmod(left, size)
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts) or "0s"


def seconds(duration: Duration) -> float:
    """A duration in seconds. Raises UsageError for what is not one, or is negative."""
    if isinstance(duration, timedelta):
        value = duration.total_seconds()
    elif isinstance(duration, str):
        text = duration.replace(" ", "")
        parts = _PART.findall(text)
        if not parts or "".join(n + unit for n, unit in parts) != text:
            raise UsageError(f'{duration!r} is not a duration: write e.g. 30, "250ms", "30s", "1h30m" or "2d"')
        value = sum(float(n) * _UNITS[unit] for n, unit in parts)
    else:
        value = float(duration)
    if not value >= 0:
        raise UsageError(f"a duration cannot be {duration!r}: it is negative or not a number")
    return value
