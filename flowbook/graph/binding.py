"""Parameters: what a step is called with.

Owns: filling parameters by name, and the read-only view that routers get. Refuses: calling the step.

A parameter named ``ctx`` (or annotated ``Context``) gets the context, ``state`` all of the state; any other name gets
the state key of that name, else the whole last result of the step of that name, else the resource of that name, else
its default.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from flowbook.errors import BindingError
from flowbook.graph.step import Step

_NOTHING: Mapping[str, Any] = {}
_Router = TypeVar("_Router", bound=Callable[..., Any])


class StateView(Mapping[str, Any]):
    """A state that can be read as ``s.x`` and as ``s["x"]``, and not be written."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_values", values)

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __getattr__(self, key: str) -> Any:
        try:
            return self._values[key]
        except KeyError:
            has = ", ".join(map(repr, self._values)) or "nothing"
            raise AttributeError(f"the state has no {key!r}; it has {has}") from None

    def __setattr__(self, key: str, value: Any) -> None:
        raise AttributeError(f"the state is read-only here: return {{{key!r}: ...}} from a step to change it")

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"StateView({dict(self._values)!r})"


def wants_context(parameter: inspect.Parameter) -> bool:
    """True for ``ctx`` and for parameters annotated ``Context`` (the class or its name)."""
    note = parameter.annotation
    return parameter.name == "ctx" or getattr(note, "__name__", note) in ("Context", "fb.Context", "flowbook.Context")


if TYPE_CHECKING:
    Uncopied = Any
else:

    class Uncopied:
        """Annotates a parameter that gets the record's own value and no copy of it, of the state a plain dict.

        Its step must not change what it is given. For steps of our own that look at much and change nothing: a
        conversation would be copied anew at each of its turns.
        """


def uncopied(router: _Router) -> _Router:
    """The same for the state that a router is given."""
    router.__dict__["uncopied"] = True
    return router


@dataclass(frozen=True, slots=True)
class Slots:
    """What a step asks for, looked up once."""

    parameters: tuple[tuple[str, bool, bool], ...]
    """(name, wants the context, has a default) of each parameter that is filled by name."""
    context: bool
    """True if one of them wants the context."""
    uncopied: frozenset[str]
    """Those that are annotated `Uncopied`."""
    positional: bool
    """True if some are positional-only, or are ``*args`` or ``**kwargs``, which durable calls may fill."""


_BY_PLACE = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.VAR_POSITIONAL,
    inspect.Parameter.VAR_KEYWORD,
)


def slots(step: Step) -> Slots:
    """The parameters that are filled by name (not ``*args`` and ``**kwargs``)."""
    cached: Slots | None = step.__dict__.get("_slots")
    if cached is None:
        loose = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        filled = [p for p in step.signature.parameters.values() if p.kind not in loose]
        cached = Slots(
            tuple((p.name, wants_context(p), p.default is not inspect.Parameter.empty) for p in filled),
            any(wants_context(p) for p in filled),
            frozenset(p.name for p in filled if getattr(p.annotation, "__name__", p.annotation) == "Uncopied"),
            any(p.kind in _BY_PLACE for p in step.signature.parameters.values()),
        )
        step.__dict__["_slots"] = cached
    return cached


def left_open(
    step: Step, values: Mapping[str, Any], results: Mapping[str, Any], given: Mapping[str, Any] = _NOTHING
) -> list[str]:
    """The parameters that neither the state nor a result fills, nor what is ``given``: what a resource may fill."""
    return [
        name
        for name, for_context, _ in slots(step).parameters
        if not for_context and name not in values and name != "state" and name not in results and name not in given
    ]


def bind(
    step: Step,
    values: Mapping[str, Any],
    results: Mapping[str, Any],
    ctx: Any,
    resources: Mapping[str, Any] = _NOTHING,
    given: Mapping[str, Any] = _NOTHING,
) -> dict[str, Any]:
    """Parameter name -> value, not copied; ``given`` goes first. Raises `BindingError` for one that nothing fills."""
    bound: dict[str, Any] = {}
    for name, for_context, has_default in slots(step).parameters:
        if name in given:
            bound[name] = given[name]
        elif name in values:
            bound[name] = values[name]
        elif for_context:
            bound[name] = ctx
        elif name == "state":
            bound[name] = dict(values)
        elif name in results:
            bound[name] = results[name]
        elif name in resources:
            bound[name] = resources[name]
        elif not has_default:
            raise BindingError(
                f"step {step.name!r} wants {name!r}, and nothing fills it: the state has "
                f"{_names(values)}, finished steps are {_names(results)}. Pass it as input, return it from an earlier "
                f"step, make it an @resource, or give it a default"
            )
    return bound


def call(step: Step, bound: Mapping[str, Any]) -> Any:
    """Call the step's function with bound parameters (positional-only ones by position)."""
    if slots(step).positional:
        arguments = inspect.BoundArguments(step.signature, dict(bound))
        return step.fn(*arguments.args, **arguments.kwargs)
    return step.fn(**bound)


def _names(mapping: Mapping[str, Any]) -> str:
    return ", ".join(repr(n) for n in mapping) or "nothing"
