"""Secrets: values that are used and never stored or shown.

Owns: `Secret`, the values that are known in this process, and taking them out of texts and bytes. Refuses: keeping
any: what is stored of a secret is its name.

A value is taken out wherever something leaves the process: when a value is encoded, when a statement goes to the
database, when something is printed or logged while an app is open, and in what a kernel tells its front end. It is
replaced by as many stars, so bytes keep their lengths and whatever holds them stays readable. Whoever knows no secret
pays for one look at an empty tuple.
"""

from __future__ import annotations

import json
import os
import threading
import urllib.parse
from collections.abc import Mapping
from typing import Any, Final

from flowbook.errors import SecretMissing

LEAST: Final = 8
"""Characters of a value at least: a shorter one would be found in much that has nothing to do with it."""

known: tuple[tuple[str, str, bytes, bytes], ...] = ()
"""(text, stars, bytes, stars) of all forms of all values, the longest first. Replaced as a whole, never changed."""

_values: dict[str, str] = {}
_guard = threading.Lock()


class Secret:
    """A value by its name: ``fb.Secret("OPENAI_API_KEY")``.

    Its value is the environment variable of that name, or what is given: ``fb.Secret("token", getpass())``. From then
    on the value is taken out of whatever this process stores, prints, logs or shows. The secret itself may be an input,
    a result or a constant of a flow: its name is stored, and ``get()`` finds the value where the step runs.

    Raises `SecretMissing` for a value of fewer than eight characters.
    """

    __slots__ = ("name",)

    def __init__(self, name: str, value: str | None = None) -> None:
        if not name or type(name) is not str:
            raise SecretMissing(f"Secret({name!r}): it is named by a text, e.g. the environment variable that holds it")
        self.name = name
        if value is None:
            value = os.environ.get(name)
        if value is not None:
            if len(value) < LEAST:
                raise SecretMissing(
                    f"the value of secret {name!r} has {len(value)} characters: with fewer than {LEAST} it cannot be "
                    f"told from other text, so it could not be kept out of what is stored and shown"
                )
            register(name, value)

    def get(self) -> str:
        """The value. Raises `SecretMissing` where this process does not have it."""
        value = _values.get(self.name) or os.environ.get(self.name)
        if value is None:
            raise SecretMissing(
                f"secret {self.name!r} has no value in this process: set the environment variable of that name, or run "
                f"Secret({self.name!r}, value) before"
            )
        register(self.name, value)
        return value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.name == self.name

    def __hash__(self) -> int:
        return hash((Secret, self.name))

    def __repr__(self) -> str:
        return f"Secret({self.name!r})"


def register(name: str, value: str) -> None:
    """Take a value out of everything from now on; one that is too short is left alone."""
    if len(value) < LEAST or _values.get(name) == value:
        return
    global known  # noqa: PLW0603  secrets belong to the process: what leaves it leaves by many doors
    with _guard:
        _values[name] = value
        forms: dict[str, None] = {}
        for one in (*_values.values(), value, *(text for text, *_ in known[::2])):
            escaped = (json.dumps(one)[1:-1], json.dumps(one, ensure_ascii=False)[1:-1])
            forms |= dict.fromkeys((one, *escaped, urllib.parse.quote(one)))
        found: list[tuple[str, str, bytes, bytes]] = []
        for form in sorted(forms, key=len, reverse=True):
            found.append((form, _stars(form), form.encode(), _stars(form).encode()))
            wide = form.encode("utf-32-le")  # as numpy keeps text
            found.append((form, _stars(form), wide, _stars("*" * len(form)).encode("utf-32-le")))
        known = tuple(found)


def from_environment(env: Mapping[str, str]) -> None:
    """Take out the API keys of an environment: what is called ``..._API_KEY``. For doors, which read it."""
    for name, value in env.items():
        if name.endswith("_API_KEY"):
            register(name, value)


def named_by(value: str, otherwise: str) -> Secret:
    """The secret of a value that was given as it is: called as the environment variable that has it."""
    name = next((n for n, v in os.environ.items() if v == value), otherwise)
    return Secret(name, value)


def redact(text: str) -> str:
    """A text without the values that are known."""
    for form, stars, _, _ in known:
        if form in text:
            text = text.replace(form, stars)
    return text


def redact_bytes(data: bytes) -> bytes:
    """Bytes without them, of the same length."""
    for _, _, form, stars in known:
        if form in data:
            data = data.replace(form, stars)
    return data


def redacted(value: Any) -> Any:
    """Texts and bytes in lists, tuples and dicts without them; all else as it is."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, bytes):
        return redact_bytes(value)
    if isinstance(value, list | tuple):
        return type(value)(redacted(one) for one in value) if type(value) in (list, tuple) else value
    if isinstance(value, dict):
        return {redacted(k): redacted(v) for k, v in value.items()}
    return value


def _stars(form: str) -> str:
    """As many bytes as the form has; of a number a number, so that JSON stays JSON."""
    try:
        float(form)
    except ValueError:
        return "*" * len(form.encode())
    return "1" * len(form)
