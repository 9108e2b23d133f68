"""Parsing: what was typed behind ``%flow``.

Owns: words, options, ``key=value`` pairs and calls. Refuses: doing anything with them; what a command takes stands in
its `Command`.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flowbook.jupyter.mistakes import usage

_CALL = re.compile(r"\s*[A-Za-z_]\w*\(")
_PAIR = re.compile(r"([A-Za-z_]\w*)=(.*)\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Command:
    """One command as its help tells it."""

    name: str
    what: str
    example: str
    takes: str = ""
    """Its arguments, for the usage line."""
    options: Mapping[str, str] = field(default_factory=dict)
    """``--key K`` or ``--wait`` -> what it means."""

    def takes_value(self, option: str) -> bool | None:
        """Whether an option has a value; None: there is no such option."""
        for known in self.options:
            name, _, value = known.partition(" ")
            if name == option:
                return bool(value)
        return None

    def help(self, magic: str = "%flow") -> str:
        """The text of ``--help``."""
        words = [magic, self.name, self.takes, *(f"[{o}]" for o in self.options)]
        lines = [" ".join(w for w in words if w), "", f"    {self.what}"]
        wide = max((len(o) for o in self.options), default=0)
        lines += ["", *(f"    {o:<{wide}}  {meaning}" for o, meaning in self.options.items())] if self.options else []
        return "\n".join([*lines, "", f"    Example: {self.example}"])


@dataclass(frozen=True, slots=True)
class Parsed:
    """What was typed, taken apart."""

    words: tuple[str, ...]
    pairs: Mapping[str, Any]
    options: Mapping[str, str]
    """Option without dashes -> its value, empty for a flag."""
    call: str | None = None
    """A call to be evaluated in the notebook, e.g. ``research(query=q)``."""


def parse(text: str, command: Command) -> Parsed:
    """Take ``text`` apart. Raises a usage error that names the word it stumbled over."""
    call, rest = _call(text)
    words: list[str] = []
    pairs: dict[str, Any] = {}
    options: dict[str, str] = {}
    queue = split(rest)
    while queue:
        word = queue.pop(0)
        if word.startswith("--"):
            name, has, value = word.partition("=")
            wants = command.takes_value(name)
            if wants is None:
                known = ", ".join(o.partition(" ")[0] for o in command.options) or "none"
                raise usage(f"{command.name} has no option {name!r} (it has: {known}); `%flow {command.name} --help`")
            if wants and not has:
                if not queue:
                    raise usage(f"{name} needs a value; `%flow {command.name} --help`")
                value = queue.pop(0)
            options[name[2:]] = unquoted(value)
        elif pair := _PAIR.match(word):
            if pair[1] in pairs:
                raise usage(f"{pair[1]}= is given twice")
            pairs[pair[1]] = literal(pair[2])
        else:
            words.append(unquoted(word))
    return Parsed(tuple(words), pairs, options, call)


def split(text: str) -> list[str]:
    """Split at blanks that stand in no quotes and no brackets: ``a=[1, 2] b="x y"`` are two words."""
    words, word, quote, depth = [], "", "", 0
    previous = ""
    for c in text:
        if quote:
            quote = "" if c == quote and previous != "\\" else quote
        elif c in "\"'":
            quote = c
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif c.isspace() and depth <= 0:
            if word:
                words.append(word)
            word, previous = "", c
            continue
        word += c
        previous = c
    if quote or depth > 0:
        raise usage(f"{'a quote' if quote else 'a bracket'} is not closed in {text.strip()!r}")
    return [*words, word] if word else words


def literal(text: str) -> Any:
    """A value: a Python literal where it is one, else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        if text[:1] in ("[", "{", "(", '"', "'"):
            raise usage(
                f"{text!r} is not a Python literal; for an expression use the form `%flow run flow(name=...)`"
            ) from None
        return text


def unquoted_value(value: Any) -> Any:
    """A list or dict that was quoted as on a command line (``docs='[1, 2]'``) as what it is; any other value itself."""
    if not isinstance(value, str) or value[:1] not in ("[", "{", "("):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value


def count(text: str, option: str) -> int:
    """The value of an option that counts something."""
    if not text.isdecimal() or int(text) < 1:
        raise usage(f"{option} {text!r}: it takes a number, 1 or more")
    return int(text)


def unquoted(word: str) -> str:
    """A word without the quotes around it."""
    return word[1:-1] if len(word) > 1 and word[0] == word[-1] and word[0] in "\"'" else word


def _call(text: str) -> tuple[str | None, str]:
    """``name(...)`` at the beginning, and the rest."""
    if not _CALL.match(text):
        return None, text
    depth = 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            depth += (token.string in "([{" and token.type == tokenize.OP) - (
                token.string in ")]}" and token.type == tokenize.OP
            )
            if depth == 0 and token.string == ")":
                return text[: token.end[1]].strip(), text[token.end[1] :]
    except (tokenize.TokenError, SyntaxError, IndentationError):
        pass
    raise usage(f"a bracket is not closed in {text.strip()!r}")


def bound(call: str) -> tuple[str, Mapping[str, ast.expr]]:
    """The flow's name and the keyword expressions of a call. Raises a usage error for positional arguments."""
    try:
        tree = ast.parse(call, mode="eval").body
    except SyntaxError as error:
        raise usage(f"{call!r} is not a call: {error.msg}") from None
    if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name):
        raise usage(f"{call!r} is not a call of a flow")
    if tree.args or any(k.arg is None for k in tree.keywords):
        raise usage(f"{call!r}: name each input, as in {tree.func.id}(query=...)")
    return tree.func.id, {k.arg: k.value for k in tree.keywords if k.arg is not None}


def known(name: str, among: Sequence[str]) -> str:
    """``, did you mean ...?`` for a word that is none of those known; empty when nothing is near."""
    import difflib

    near = difflib.get_close_matches(name, among, 1)
    return f"; did you mean {near[0]!r}?" if near else ""
