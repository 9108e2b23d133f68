"""Sharing: options of a step that hold for all workers together.

Owns: checking ``cache=``, ``rate_limit=``, ``concurrency=`` and ``key=`` of a step. Refuses: keeping to them
(`run/sharing.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from flowbook.errors import DeclarationError, UsageError
from flowbook.graph.durations import Duration, seconds

MOST: Final = 1000
"""Places, and beginnings in one period, that a limit may have."""
PERIODS: Final = {"s": 1.0, "sec": 1.0, "second": 1.0, "min": 60.0, "m": 60.0, "minute": 60.0, "h": 3600.0,
                  "hour": 3600.0, "d": 86400.0, "day": 86400.0}  # fmt: skip
_RATE: Final = re.compile(r"\s*(\d+)\s*/\s*(\d*[a-z]+)\s*\Z")


def shared_options(
    cache: Duration | None, rate_limit: str | None, concurrency: int | None, key: str | Sequence[str] | None
) -> dict[str, Any]:
    """The fields of a `Policy` that were given. Raises `DeclarationError` for one that cannot work."""
    found: dict[str, Any] = {}
    try:
        if cache is not None:
            found["cache"] = seconds(cache)
    except UsageError as error:
        raise DeclarationError(f"cache={cache!r}: {error.message}") from None
    if rate_limit is not None:
        found["rate_limit"] = rate(rate_limit)
    if concurrency is not None:
        if isinstance(concurrency, bool) or not 1 <= concurrency <= MOST:
            raise DeclarationError(f"concurrency={concurrency!r}: attempts at once in all workers, 1 to {MOST:,}")
        found["concurrency"] = concurrency
    if key is not None:
        names: tuple[Any, ...] = (key,) if isinstance(key, str) or callable(key) else tuple(key)
        if not names or not all(isinstance(name, str) and name.isidentifier() for name in names):
            raise DeclarationError(f'key={key!r}: the name of a parameter of the step, or several: key="customer"')
        if not found:
            raise DeclarationError(f"key={key!r} says what cache=, rate_limit= and concurrency= count by: give one")
        found["key"] = names
    return found


def rate(text: Any) -> tuple[int, float]:
    """``60/min`` as (how many, in how many seconds). Raises `DeclarationError`."""
    match = _RATE.match(text) if isinstance(text, str) else None
    number = int(match[1]) if match else 0
    period = PERIODS.get(match[2]) if match else None
    try:
        period = seconds(match[2]) if match and period is None else period
    except UsageError:
        number = 0
    if not number or not period:
        raise DeclarationError(f'rate_limit={text!r}: write how many in which time, "60/min", "5/s", "100/15m"')
    if number > MOST:
        raise DeclarationError(f"rate_limit={text!r}: {MOST:,} at most; take a shorter time, 5,000/h is 84/min")
    return number, period
