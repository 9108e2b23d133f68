"""Options of a step that hold for all workers together: what is taken, refused, stored and rebuilt."""

from __future__ import annotations

from typing import Any

import pytest

import flowbook as fb
from flowbook.errors import DeclarationError
from flowbook.graph.canonical import policy_from, policy_json
from flowbook.graph.sharing import rate


def test_rates_are_read_as_people_write_them() -> None:
    """So many in a time, by its name or its length."""
    assert rate("60/min") == (60, 60.0)
    assert rate("5/s") == (5, 1.0)
    assert rate("100 / 15m") == (100, 900.0)
    assert rate("1/day") == (1, 86400.0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rate_limit": "often"}, "how many in which time"),
        ({"rate_limit": "0/s"}, "how many in which time"),
        ({"rate_limit": "5000/h"}, "84/min"),
        ({"concurrency": 0}, "1 to 1,000"),
        ({"cache": "soon"}, "not a duration"),
        ({"key": "customer"}, "give one"),
        ({"key": "a b", "concurrency": 1}, "name of a parameter"),
        ({"cache": "1h", "store": "pickle"}, "codec"),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, Any], words: str) -> None:
    """Before anything runs, with what to write instead."""
    with pytest.raises(DeclarationError, match=words):
        fb.step(**options)(lambda n: n)


def test_the_options_are_stored_with_the_step_and_change_nothing_where_they_are_not_given() -> None:
    """A definition has them, a rebuilt step too; a step without any has the policy that it had before."""
    made = fb.step(cache="1h", rate_limit="60/min", concurrency=4, key="customer", name="charge")(
        lambda customer: customer
    )
    stored = policy_json(made.policy)
    assert stored == {"cache": 3600.0, "rate_limit": [60, 60.0], "concurrency": 4, "key": ["customer"]}
    assert policy_from(stored, "f") == made.policy
    assert policy_json(fb.step(name="plain")(lambda n: n).policy) == {}
