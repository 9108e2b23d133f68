"""Bodies: the one node of an imperative flow, a coroutine function whose parameters and result are checked.

Owns: `Body`, which takes a run's input as its signature wants it and gives back a result as its annotation wants it.
Refuses: durable calls (`run/calls.py`) and being put into a topology with others.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from flowbook.errors import DeclarationError, StateError
from flowbook.graph.binding import wants_context
from flowbook.graph.step import Policy, Step

_PLAIN = (str, int, float, bool, bytes, dict, list)
_LOOSE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)


class Body(Step):
    """``async def order(ctx, order: Order) -> Receipt``. Made by `flow`; immutable."""

    def __init__(
        self, fn: Callable[..., Any], name: str, policy: Policy, retry_if: Callable[[Any], Any] | None = None
    ) -> None:
        super().__init__(fn, name, policy, retry_if=retry_if)
        if not self.is_async:
            raise DeclarationError(
                f"flow {name!r} is a plain function: an imperative flow is `async def {name}(ctx, ...)`, because it "
                f"waits for what it calls. Put blocking work into steps, which may be plain functions"
            )
        parameters = list(self.signature.parameters.values())
        self.context = next((p.name for p in parameters if wants_context(p)), "")
        """Name of the parameter that gets the context."""
        if not self.context:
            raise DeclarationError(f"flow {name!r} asks for no context: write `async def {name}(ctx, ...)`")
        odd = [p.name for p in parameters if p.kind in _LOOSE]
        if odd:
            raise DeclarationError(
                f"flow {name!r} takes {', '.join(map(repr, odd))}: its input is given by name, so its parameters need "
                f"names and no *, ** or /"
            )

    def accept(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """A run's input as the signature wants it, with its defaults.

        Raises `StateError` for what is missing, unknown or does not fit its annotation.
        """
        wanted = {n: p for n, p in self.signature.parameters.items() if n != self.context}
        unknown = [n for n in given if n not in wanted]
        missing = [n for n, p in wanted.items() if p.default is p.empty and n not in given]
        if unknown or missing:
            what = [f"has no {_names(unknown)}"] if unknown else []
            what += [f"needs {_names(missing)}"] if missing else []
            raise StateError(
                f"flow {self.name!r} {' and '.join(what)}: its input is {_names(list(wanted)) or 'nothing'}"
            )
        taken = {n: given.get(n, p.default) for n, p in wanted.items()}
        return {n: _fitted(f"input {n!r} of flow {self.name!r}", self._notes.get(n), v) for n, v in taken.items()}

    def returned(self, result: Any) -> Any:
        """A result as the annotation wants it. Raises `StateError` where it does not fit."""
        return _fitted(f"the result of flow {self.name!r}", self._notes.get("return"), result)

    @functools.cached_property
    def _notes(self) -> dict[str, Any]:
        """Annotations by parameter; one that means nothing here (any more) checks nothing."""
        from flowbook.graph.free import closure  # reads code; needed only where a flow of this kind is started

        inner: Any = inspect.unwrap(self.fn)
        try:
            # Annotations of a function made in a function may name what that one has.
            return typing.get_type_hints(inner, localns=closure(inner), include_extras=True)
        except Exception:
            notes = {n: p.annotation for n, p in self.signature.parameters.items()}
            notes["return"] = self.signature.return_annotation
            return {n: v for n, v in notes.items() if not isinstance(v, str) and v is not inspect.Parameter.empty}


def _fitted(what: str, note: Any, value: Any) -> Any:
    if note is None or note is Any or note is type(None):
        return value
    if type(value) is note and note in _PLAIN:
        return value
    try:
        adapter = _adapter(note)
    except TypeError:  # an annotation that cannot be hashed
        return value
    if adapter is None:
        if inspect.isclass(note) and not isinstance(value, note):
            raise StateError(f"{what} is {type(value).__name__}, not {note.__name__}")
        return value
    try:
        return adapter.validate_python(value)
    except ValueError as error:
        raise StateError(f"{what} does not fit: {error}") from error


@functools.lru_cache(maxsize=256)
def _adapter(note: Any) -> Any:
    """What validates for an annotation; None: nothing does, it is a class that pydantic does not know."""
    from pydantic import TypeAdapter  # heavy, and only where an annotation is more than a plain type
    from pydantic.errors import PydanticUserError

    try:
        return TypeAdapter(note)
    except PydanticUserError:
        return None


def _names(names: list[str]) -> str:
    return ", ".join(map(repr, names))
