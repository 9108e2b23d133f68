"""Templates: inputs whose texts are filled with the moment of a fire.

Owns: rendering ``{{ fire_time | date }}`` in the texts of an input, in jinja's sandbox. Refuses: anything but texts; a
value that is no text, or a text without braces, stays as it is.

There are ``fire_time`` (with the time zone of the schedule) and ``schedule`` (its name), and the filters ``date``
(2026-11-21), ``time`` (06:00:00), ``iso``, ``format("%d.%m.%Y")`` and ``shift(days=-1)``.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from flowbook.errors import ScheduleRefused

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment


def render(input: Mapping[str, Any], fire_time: datetime, schedule: str) -> dict[str, Any]:
    """The input of one fire. Raises `ScheduleRefused` for a template that cannot be filled."""
    return {name: _filled(value, name, fire_time, schedule) for name, value in input.items()}


def _filled(value: Any, name: str, fire_time: datetime, schedule: str) -> Any:
    if type(value) is dict:
        return {k: _filled(v, f"{name}.{k}", fire_time, schedule) for k, v in value.items()}
    if type(value) is list:
        return [_filled(v, f"{name}[{n}]", fire_time, schedule) for n, v in enumerate(value)]
    if type(value) is not str or not ("{{" in value or "{%" in value):
        return value
    from jinja2 import TemplateError  # 30 ms that only schedules with templates pay for

    try:
        return _environment().from_string(value).render(fire_time=fire_time, schedule=schedule)
    except (TemplateError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ScheduleRefused(
            f"schedule {schedule!r}: the template of {name!r}, {value!r}, cannot be filled: {error}. It may use "
            f"fire_time and schedule, and the filters date, time, iso, format and shift"
        ) from error


@functools.cache
def _environment() -> ImmutableSandboxedEnvironment:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    made = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
    made.globals.clear()  # no range() to fill memory with
    made.filters |= {
        "date": lambda at: at.date().isoformat(),
        "time": lambda at: at.time().isoformat(),
        "iso": lambda at: at.isoformat(),
        "format": lambda at, how: at.strftime(how) if isinstance(at, datetime) else at % how,
        "shift": lambda at, **by: at + timedelta(**by),
    }
    return made
