"""Conditions as data: JSON Logic.

Owns: `evaluate`, which works a rule out for some data, `problems`, which finds what is wrong with a rule before it is
ever used, and `Condition`, a rule in the place of a function of the state. Refuses: running any code of anybody's, and
working for ever: a rule is data that a tenant wrote, so what it may cost is counted.

The operators are those of jsonlogic.com, and of the community's tables (json-logic/compat-tables) `val`, `exists`,
`??`, `try`, `throw` and `preserve`. Of libraries that were tried with the 1,138 cases of those tables none passes all:
panzi-json-logic 844, datalogic-py 1,108.

Differences that people meet: an empty list is false, an empty dict is true; a text that is no number beside a number is
an error (``NaN``) and not false; a missing ``var`` is null.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from flowbook.errors import ConditionFailed
from flowbook.graph.operators import EAGER, INVALID, Scopes, Thrown, alike, is_list, ordered, same, truthy

MOST_WORK: Final = 1_000_000
"""Operations that one evaluation may take: about a second."""
DEEPEST: Final = 60
"""Levels of nesting that a rule may have."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A rule where a function of the state may stand: a router, or the condition of a step."""

    rule: Any
    """JSON Logic: ``{">": [{"var": "amount"}, 100]}``."""
    decides: bool = False
    """True: its result is read as yes or no, as the rules of JSON Logic have it."""

    def __call__(self, state: Any) -> Any:
        found = evaluate(self.rule, state)
        return truthy(found) if self.decides else found


def evaluate(rule: Any, data: Any) -> Any:
    """What a rule gives for some data. Raises `ConditionFailed` where it cannot be worked out."""
    try:
        return _Work().value(rule, (data,))
    except Thrown as thrown:
        raise ConditionFailed(
            f"a condition could not be worked out: {thrown.said.get('type')!r}, in {repr(rule)[:300]}"
        ) from None
    except RecursionError:
        raise ConditionFailed("a condition could not be worked out: it is nested too deeply") from None


def problems(rule: Any, at: str = "") -> Iterator[tuple[str, str]]:
    """(JSON pointer, what is wrong) for all that can be seen without data."""
    yield from _problems(rule, at, DEEPEST)


def _problems(rule: Any, at: str, room: int) -> Iterator[tuple[str, str]]:
    if room == 0:
        yield at, f"it is nested more than {DEEPEST} levels deep"
    elif isinstance(rule, dict) and len(rule) == 1:
        ((operator, given),) = rule.items()
        here = f"{at}/{pointed(operator)}"
        if operator == "preserve":
            return
        if operator not in LAZY and operator not in EAGER:
            known = ", ".join(sorted([*LAZY, *EAGER]))
            yield here, f"{operator!r} is no operator of JSON Logic. There are: {known}"
        elif operator in LAZY and operator != "try" and not isinstance(given, list):
            yield here, f"{operator!r} takes a list of arguments"
        else:
            yield from _problems(given, here, room - 1)
    elif isinstance(rule, dict):
        if len(rule) > 1:
            yield at, f"an operation has one key, its operator, and this has {', '.join(map(repr, rule))}"
    elif isinstance(rule, list):
        for number, each in enumerate(rule):
            yield from _problems(each, f"{at}/{number}", room - 1)


def pointed(key: object) -> str:
    """A key as a part of a JSON pointer (RFC 6901)."""
    return str(key).replace("~", "~0").replace("/", "~1")


class _Work:
    """One evaluation."""

    def __init__(self) -> None:
        self.left = MOST_WORK

    def value(self, rule: Any, scopes: Scopes) -> Any:
        if isinstance(rule, list):
            return [self.value(each, scopes) for each in rule]
        if not isinstance(rule, dict) or len(rule) != 1:
            return rule
        self.left -= 1
        if self.left < 0:
            raise ConditionFailed(f"a condition was given up after {MOST_WORK:,} operations")
        ((operator, given),) = rule.items()
        if operator == "preserve":
            return given
        if lazy := LAZY.get(operator):
            if not isinstance(given, list) and operator != "try":
                raise Thrown(INVALID)
            return lazy(self, given if isinstance(given, list) else [given], scopes)
        eager = EAGER.get(operator)
        if eager is None:
            raise Thrown("Unknown Operator")
        found = self.value(given, scopes)
        return eager(list(found) if is_list(found) else [found], scopes)

    def items(self, given: list[Any], scopes: Scopes, *, missing: bool = True) -> list[Any]:
        """The list that an operator loops over; ``missing``: nothing there counts as an empty one."""
        if len(given) < 2 or given[0] is None:
            raise Thrown(INVALID)
        found = self.value(given[0], scopes)
        if found is None and missing:
            return []
        if not is_list(found):
            raise Thrown(INVALID)
        self.left -= len(found)
        return list(found)

    def within(self, rule: Any, scopes: Scopes, item: Any, index: int) -> Any:
        return self.value(rule, (*scopes, {"index": index}, item))


# ----------------------------------------------------------------------------------- operators that choose what to read


def _if(work: _Work, given: list[Any], scopes: Scopes) -> Any:
    for at in range(0, len(given) - 1, 2):
        if truthy(work.value(given[at], scopes)):
            return work.value(given[at + 1], scopes)
    return work.value(given[-1], scopes) if len(given) % 2 else None


def _and(work: _Work, given: list[Any], scopes: Scopes) -> Any:
    found: Any = False
    for each in given:
        found = work.value(each, scopes)
        if not truthy(found):
            break
    return found


def _or(work: _Work, given: list[Any], scopes: Scopes) -> Any:
    found: Any = False
    for each in given:
        found = work.value(each, scopes)
        if truthy(found):
            break
    return found


def _first_there(work: _Work, given: list[Any], scopes: Scopes) -> Any:
    return next((found for each in given if (found := work.value(each, scopes)) is not None), None)


def _try(work: _Work, given: list[Any], scopes: Scopes) -> Any:
    raised: Thrown | None = None
    for each in given:
        try:
            return work.value(each, scopes if raised is None else (*scopes, {}, raised.said))
        except Thrown as thrown:
            raised = thrown
    if raised is None:
        return None
    raise raised


def _map(work: _Work, given: list[Any], scopes: Scopes) -> Any:
    if len(given) > 1 and given[1] is None:
        raise Thrown(INVALID)
    return [work.within(given[1], scopes, item, i) for i, item in enumerate(work.items(given, scopes))]


def _filter(work: _Work, given: list[Any], scopes: Scopes) -> Any:
    if len(given) > 1 and given[1] is None:
        raise Thrown(INVALID)
    items = work.items(given, scopes)
    return [item for i, item in enumerate(items) if truthy(work.within(given[1], scopes, item, i))]


def _reduce(work: _Work, given: list[Any], scopes: Scopes) -> Any:
    items = work.items(given, scopes)
    if len(given) > 2:
        total = work.value(given[2], scopes)
    elif items:
        total, items = items[0], items[1:]
    else:
        return None
    for i, item in enumerate(items):
        total = work.within(given[1], scopes, {"current": item, "accumulator": total}, i)
    return total


def _all(work: _Work, given: list[Any], scopes: Scopes) -> Any:
    items = work.items(given, scopes, missing=False)
    return bool(items) and all(truthy(work.within(given[1], scopes, item, i)) for i, item in enumerate(items))


def _some(work: _Work, given: list[Any], scopes: Scopes) -> Any:
    items = work.items(given, scopes, missing=False)
    return any(truthy(work.within(given[1], scopes, item, i)) for i, item in enumerate(items))


def _none(work: _Work, given: list[Any], scopes: Scopes) -> Any:
    return not _some(work, given, scopes)


def _chain(holds: Callable[[Any, Any], bool]) -> Callable[[_Work, list[Any], Scopes], Any]:
    """A comparison of each with the next; what is behind the first that does not hold is not looked at."""

    def compared(work: _Work, given: list[Any], scopes: Scopes) -> Any:
        if len(given) < 2:
            raise Thrown(INVALID)
        before = work.value(given[0], scopes)
        for each in given[1:]:
            after = work.value(each, scopes)
            if not holds(before, after):
                return False
            before = after
        return True

    return compared


LAZY: Final[Mapping[str, Callable[[_Work, list[Any], Scopes], Any]]] = {
    "if": _if, "?:": _if, "and": _and, "or": _or, "??": _first_there, "try": _try,
    "map": _map, "filter": _filter, "reduce": _reduce, "all": _all, "some": _some, "none": _none,
    "==": _chain(alike), "!=": _chain(lambda a, b: not alike(a, b)),
    "===": _chain(same), "!==": _chain(lambda a, b: not same(a, b)),
    "<": _chain(lambda a, b: ordered(a, b) < 0), "<=": _chain(lambda a, b: ordered(a, b) <= 0),
    ">": _chain(lambda a, b: ordered(a, b) > 0), ">=": _chain(lambda a, b: ordered(a, b) >= 0),
}  # fmt: skip
