"""Conditions as JSON Logic."""

from __future__ import annotations

import json
import os
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from flowbook.errors import ConditionFailed
from flowbook.graph.binding import StateView
from flowbook.graph.logic import Condition, evaluate, problems

VECTORS = Path(__file__).parent / "vectors" / "json_logic.json"
TABLES = os.environ.get("JSON_LOGIC_COMPAT_TABLES", "")


def same(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True) or (
        not isinstance(one, bool) and not isinstance(other, bool) and one == other
    )


def test_it_passes_the_vectors_of_jsonlogic_com() -> None:
    """All cases of the original test suite give what they say."""
    cases = json.loads(VECTORS.read_text(encoding="utf-8"))
    wrong = [(rule, data, result) for rule, data, result in cases if not same(evaluate(rule, data), result)]
    assert len(cases) == 258
    assert wrong == []


@pytest.mark.skipif(not TABLES, reason="the compat tables are not here: JSON_LOGIC_COMPAT_TABLES is no folder of them")
def test_it_passes_the_communitys_tables() -> None:
    """Where a copy of json-logic/compat-tables lies (its folder `suites`), all of its cases hold."""
    wrong, count = [], 0
    for name in json.loads((Path(TABLES) / "index.json").read_text(encoding="utf-8")):
        for case in json.loads((Path(TABLES) / name).read_text(encoding="utf-8")):
            if isinstance(case, str):
                continue
            count += 1
            try:
                found = evaluate(case["rule"], case.get("data"))
                good = "result" in case and same(found, case["result"])
            except ConditionFailed as failed:
                good = "error" in case and repr(case["error"]["type"]) in str(failed)
            wrong += [] if good else [(name, case)]
    assert (wrong, count >= 1_138) == ([], True)


@pytest.mark.parametrize(
    ("rule", "data", "result"),
    [
        ({"val": ["a", 1]}, {"a": [5, 6]}, 6),
        ({"exists": "a"}, {"a": None}, True),
        ({"??": [{"val": "a"}, 3]}, {}, 3),
        ({"try": [{"throw": "no"}, {"val": "type"}]}, {}, "no"),
        ({"map": [[1, 2], {"+": [{"val": []}, {"val": [[2], "more"]}]}]}, {"more": 10}, [11, 12]),
        ({"<": [1, 2, 3]}, {}, True),
        ({"==": [1, 1, {"throw": "is looked at"}]}, {}, ConditionFailed),
        ({"==": [1, 2, {"throw": "is not looked at"}]}, {}, False),
        ({"==": [2023, "a text"]}, {}, ConditionFailed),
        ({"/": [1, 0]}, {}, ConditionFailed),
        ({"!!": [{"preserve": {}}]}, {}, True),
        ({"!!": [[]]}, {}, False),
        ({"if": 5}, {}, ConditionFailed),
        ({"no such operator": [1]}, {}, ConditionFailed),
    ],
)
def test_what_the_tables_say_beyond_the_first_vectors(rule: Any, data: Any, result: Any) -> None:
    """The newer operators, chained comparisons that stop early, and errors instead of false."""
    if result is ConditionFailed:
        with pytest.raises(ConditionFailed):
            evaluate(rule, data)
    else:
        assert same(evaluate(rule, data), result)


def test_values_of_a_state_are_compared_as_they_are() -> None:
    """Dates, decimals and a state's view are data as JSON's types are."""
    state = StateView({"day": date(2026, 11, 21), "sum": Decimal("10.50"), "other": date(2026, 1, 1)})
    assert Condition({">": [{"var": "day"}, {"var": "other"}]}, decides=True)(state) is True
    assert Condition({">=": [{"var": "sum"}, 10.5]})(state) is True


def test_a_rule_reads_no_attribute_and_works_for_no_longer_than_it_may() -> None:
    """A tenant's rule reaches keys and items of data alone, and one that would work for ever is given up."""
    assert evaluate({"var": "__class__.__mro__"}, {"a": 1}) is None
    numbers = list(range(300))
    loops: Any = {"val": []}
    for _ in range(3):
        loops = {"map": [numbers, loops]}
    with pytest.raises(ConditionFailed, match="given up"):
        evaluate(loops, {})
    deep: Any = 1
    for _ in range(5000):
        deep = {"!": [deep]}
    with pytest.raises(ConditionFailed, match="nested too deeply"):
        evaluate(deep, {})


def test_mistakes_are_told_with_their_place() -> None:
    """Unknown operators, several keys and too deep nesting are found without data, all at once."""
    rule = {"and": [{"equals": [1, 1]}, {"==": [1, {"a/b": 2}]}, {"x": 1, "y": 2}, {"or": 1}]}
    assert [at for at, _ in problems(rule, "/when")] == [
        "/when/and/0/equals", "/when/and/1/==/1/a~1b", "/when/and/2", "/when/and/3/or",
    ]  # fmt: skip
    deep: Any = 1
    for _ in range(100):
        deep = {"!": [deep]}
    assert any("levels" in what for _, what in problems(deep))
