"""Frozen records that are as quick to make as others."""

import inspect
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, replace

import pytest

from flowbook.plan.records import Phase, Token, View
from flowbook.quick import quick


@quick
@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int = 2
    tags: list[str] = field(default_factory=list)
    note: str = field(default="", compare=False)


def test_a_quick_record_is_made_as_its_declaration_says() -> None:
    """By place, by name, and with its defaults; a default that is made is made anew each time."""
    assert (Point(1).x, Point(1).y, Point(1).tags, Point(1).note) == (1, 2, [], "")
    assert Point(x=5, y=6, tags=["a"]) == Point(5, 6, ["a"])
    assert Point(1).tags is not Point(1).tags
    assert repr(Point(1, 2, ["a"], "n")) == "Point(x=1, y=2, tags=['a'], note='n')"
    assert list(inspect.signature(Point).parameters) == ["x", "y", "tags", "note"]


def test_a_quick_record_is_frozen_once_it_is_made() -> None:
    """While it is made it is of another class; who gets it gets its own, which refuses every change."""
    point = Point(1)
    assert type(point) is Point
    assert not hasattr(point, "__dict__")
    with pytest.raises(FrozenInstanceError):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        del point.x


def test_a_quick_record_is_compared_replaced_pickled_and_matched_like_any_other() -> None:
    """Only its ``__init__`` is another one."""
    token = Token("", None, 0, "a", "a#1", Phase.READY, View({"x": 1}, {}), ())
    assert replace(token, at="b").at == "b"
    assert token == replace(token)
    assert pickle.loads(pickle.dumps(token)) == token
    assert Point(1, note="a") == Point(1, note="b")
    match Point(7, 8):
        case Point(x, y):
            assert (x, y) == (7, 8)


@pytest.mark.parametrize(("arguments", "names"), [((), "x"), ((1, 2, [], "", 5), "positional"), ((1,), "z")])
def test_a_wrong_call_is_told_in_pythons_own_words(arguments: tuple[object, ...], names: str) -> None:
    """As by any function: what is missing, too much or unknown, with the record's name."""
    more = {"z": 1} if names == "z" else {}
    with pytest.raises(TypeError, match=rf"Point.__init__\(\).*{names}"):
        Point(*arguments, **more)  # type: ignore[arg-type]


def test_what_is_no_plain_frozen_record_is_refused() -> None:
    """A subclass, a mutable record or one that looks at itself when it is made would be made wrongly."""

    @dataclass(frozen=True, slots=True)
    class Looks:
        x: int

        def __post_init__(self) -> None: ...

    @dataclass(slots=True)
    class Mutable:
        x: int

    @dataclass(frozen=True, slots=True)
    class Below(Point):
        z: int = 0

    for wrong in (Looks, Mutable, Below):
        with pytest.raises(TypeError):
            quick(wrong)
