"""What can be typed behind %flow."""

from __future__ import annotations

from typing import Any

import pytest

from flowbook.errors import UsageError
from flowbook.jupyter.magics import TABLE, overview
from flowbook.jupyter.mistakes import brief, without_our_frames
from flowbook.jupyter.parse import bound, parse, split

RUN = TABLE["run"]


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ('f query="a text" k=5', {"query": "a text", "k": 5}),
        ("f query=word", {"query": "word"}),
        ("f docs=[1, 2, {'a': (3, 4)}] x=None", {"docs": [1, 2, {"a": (3, 4)}], "x": None}),
        ("f n=-1.5 ok=True", {"n": -1.5, "ok": True}),
        ('f text="5"', {"text": "5"}),
        (r'f text="a \" b"', {"text": 'a " b'}),
        ("f url=http://x/?a=b", {"url": "http://x/?a=b"}),
        ("f empty=", {"empty": ""}),
        ("f", {}),
    ],
)
def test_inputs_are_literals(text: str, pairs: dict[str, Any]) -> None:
    """A Python literal is one; any other word is a text."""
    parsed = parse(text, RUN)
    assert parsed.words == ("f",)
    assert parsed.pairs == pairs


def test_options_stand_anywhere() -> None:
    """Before, between and behind the inputs, with a blank or `=`."""
    for text in ("--key K f a=1 --wait", "f --key=K --wait a=1", "f a=1 --wait --key 'K'"):
        parsed = parse(text, RUN)
        assert (parsed.words, parsed.options, parsed.pairs) == (("f",), {"key": "K", "wait": ""}, {"a": 1})


def test_a_call_is_taken_whole() -> None:
    """What stands in its brackets is Python, options come behind."""
    parsed = parse("research(query=f(q, ')'), k=[1]) --key x", RUN)
    assert parsed.call == "research(query=f(q, ')'), k=[1])"
    assert parsed.options == {"key": "x"}
    name, expressions = bound(parsed.call)
    assert name == "research"
    assert list(expressions) == ["query", "k"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("f --foo", "has no option '--foo'"),
        ("f --key", "--key needs a value"),
        ("f a=1 a=2", "a= is given twice"),
        ("f a=[1", "a bracket is not closed"),
        ("f a='x", "a quote is not closed"),
        ("f a=[x]", "is not a Python literal"),
        ("f(a=1", "a bracket is not closed"),
    ],
)
def test_a_mistake_is_named(text: str, says: str) -> None:
    """The word that could not be taken stands in the message."""
    with pytest.raises(UsageError, match=says.replace("[", r"\[")):
        parse(text, RUN)


@pytest.mark.parametrize("call", ["f(1)", "f(**x)", "f.g(a=1)"])
def test_a_call_names_its_inputs(call: str) -> None:
    """There is no order of inputs that a position could mean."""
    with pytest.raises(UsageError):
        bound(call)


def test_every_command_has_help_with_an_example() -> None:
    """`--help` is enough to use it."""
    for command in TABLE.values():
        assert "Example: %flow" in command.help()
        assert f"%flow {command.name}" in overview()


def test_an_error_of_ours_shows_as_a_few_lines() -> None:
    """IPython asks the exception itself."""
    error = brief(UsageError("no such thing"))
    assert error._render_traceback_() == ["\x1b[0;31mUsageError\x1b[0m: [FB500] no such thing"]  # type: ignore[attr-defined]


def test_our_frames_are_left_out_of_a_steps_traceback() -> None:
    """What is left are the user's; an exception that is all ours keeps them."""
    with pytest.raises(UsageError) as caught:
        parse("f --foo", RUN)
    kept = without_our_frames(caught.value)
    names = []
    tb = kept.__traceback__
    while tb is not None:
        names.append(tb.tb_frame.f_code.co_name)
        tb = tb.tb_next
    assert names == ["test_our_frames_are_left_out_of_a_steps_traceback"]


def test_splitting_keeps_quotes_and_brackets_together() -> None:
    """Blanks inside them separate nothing."""
    assert split(" a  b='x y' c=[1, (2, 3)] ") == ["a", "b='x y'", "c=[1, (2, 3)]"]
    assert split("") == []
