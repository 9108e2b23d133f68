"""Limits: what the first line of a flow cell says about attempts and time.

Owns: the options of ``%%flow`` from ``--retries`` to ``--recursion-limit``, and what they are as arguments of
`flowbook.graph`. Refuses: judging them, which `graph` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowbook.graph.durations import seconds
from flowbook.graph.step import Backoff
from flowbook.jupyter.mistakes import usage
from flowbook.jupyter.parse import count

LIMITS = {
    "--retries N": "further attempts of each step that does not say otherwise; so with the four options below",
    "--backoff 1,5,30": "seconds before each further attempt; or a kind: fixed:5, linear:1:2:60, exponential:1:2:60",
    "--timeout 30s": "how long an attempt may take",
    "--retry-on A,B": "names of exceptions that are worth another attempt",
    "--no-retry-on A,B": "names of exceptions that are not",
    "--run-timeout 2h": "how long a run may take as a whole",
    "--outputs A,B": "the state keys that are a run's result; left out, all of the state is",
    "--recursion-limit N": "how often a run may come to one node before it fails (1,000)",
}

_KINDS = {"fixed": Backoff.fixed, "linear": Backoff.linear, "exponential": Backoff.exponential}


def limits(options: Mapping[str, str]) -> dict[str, Any]:
    """The arguments of `flowbook.graph` for the options that were given. Raises a usage error for what is none."""
    found: dict[str, Any] = {}
    if "retries" in options:
        if not options["retries"].isdecimal():
            raise usage(f"--retries counts further attempts, and {options['retries']!r} is no number")
        found["retries"] = int(options["retries"])
    if "backoff" in options:
        found["backoff"] = _backoff(options["backoff"])
    for name in ("timeout", "run-timeout"):
        if name in options:
            found[name.replace("-", "_")] = _number(options[name])
    if "recursion-limit" in options:
        found["recursion_limit"] = count(options["recursion-limit"], "--recursion-limit")
    for name in ("retry-on", "no-retry-on", "outputs"):
        if name in options:
            found[name.replace("-", "_")] = tuple(filter(None, (w.strip() for w in options[name].split(","))))
    return found


def _backoff(text: str) -> Any:
    kind, *rest = text.split(":")
    if kind not in _KINDS:
        return [seconds(_number(part.strip())) for part in text.strip("[]()").split(",")]
    try:
        return _KINDS[kind](*(_number(part) for part in rest))  # type: ignore[operator]
    except TypeError:
        raise usage(f"--backoff {text}: write it as fixed:5, linear:1:2:60, exponential:1:2:60 or 1,5,30") from None


def _number(text: str) -> Any:
    """A number where it is one; else the text, which may be a duration such as ``30s``."""
    try:
        return float(text)
    except ValueError:
        return text
