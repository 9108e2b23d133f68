"""Maps: the nodes that apply a step to each item of a list of the state.

Owns: `Map`, and `map_`, which makes one. Refuses: running items (`run/maps.py`) and deciding which (`plan/mapping.py`).

``map_`` is known by its name from a list comprehension: ``pages = [fetch(url) for url in urls]``, only that each item
is durable by itself, and that many run at once. The step's first parameter (``ctx`` aside) is the item; the others are
filled by their names, as in any step. A dict that is returned for an item is that item's result, not an update.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from flowbook.errors import DeclarationError
from flowbook.graph.binding import wants_context
from flowbook.graph.expression import Composable, Fragment, Unknown
from flowbook.graph.names import checked
from flowbook.graph.step import Defaults, Policy, Step

OnError = Literal["fail", "collect"]
"""What becomes of a map one of whose items has used up its attempts."""
CONCURRENCY = 10
"""Items under way at once, where nothing else is said."""


@dataclass(frozen=True, slots=True)
class Map(Composable):
    """A node that applies a step to each item of a list. Made by `map_`."""

    name: str
    step: Step
    """Applied to each item; its policy is that of each item."""
    over: str
    """State key of the list (or name of the step that returned it)."""
    into: str | None = None
    """State key that gets the results, in the order of the items; None: the node's name."""
    concurrency: int = CONCURRENCY
    """Items under way at once. One that waits for its next attempt keeps its place."""
    collect: bool = False
    """True: an item that fails for good leaves an `ItemError` in the results. False: it fails the run."""

    @property
    def key(self) -> str:
        """State key that gets the results."""
        return self.into or self.name

    @property
    def item(self) -> str:
        """The parameter that gets the item."""
        found = _item_parameter(self.step)
        assert found is not None  # `map_` has looked
        return found

    @property
    def filled(self) -> Mapping[str, inspect.Parameter]:
        """The parameters that are filled by name: all others."""
        return {name: p for name, p in self.step.signature.parameters.items() if name != self.item}

    @property
    def policy(self) -> Policy:
        """Retries, back-off and time limit of each item."""
        return self.step.policy

    @property
    def options(self) -> dict[str, Any]:
        """All but its name and what its step is made of, as plain values: what a definition keeps."""
        return {
            "step": self.step.name,
            "over": self.over,
            "into": self.into,
            "concurrency": self.concurrency,
            "collect": self.collect,
        }

    @property
    def guard(self) -> None:
        """A map has no condition."""

    def with_defaults(self, defaults: Defaults) -> Map:
        """The same node with a flow's options where its step has none of its own."""
        return replace(self, step=self.step.with_defaults(defaults))

    def as_(self, name: str) -> Map:
        """The same as another node."""
        return replace(self, name=checked(name))

    def __repr__(self) -> str:
        return f"<map {self.name}: {self.step.name} over {self.over!r} into {self.key!r}, {self.concurrency} at once>"


def map_(
    step: Any,
    over: str,
    into: str | None = None,
    *,
    concurrency: int = CONCURRENCY,
    on_error: OnError = "fail",
    name: str | None = None,
) -> Any:
    """A node that applies a step to each item of a list, ``concurrency`` of them at once.

    ``find_urls >> map_(fetch, over="urls", into="pages") >> report``

    ``over`` is the state key of the list, ``into`` the one that gets the results, in the order of the items (default:
    the node's name, which is the step's where none is given). The step's first parameter is the item, the others are
    filled by their names as always; ``ctx.index`` is the item's place. Each item has a checkpoint of its own
    (``fetch#1[3]``), and retries, time limit and back-off as the step says; one that waits for its next attempt keeps
    its place among the ``concurrency``.

    When an item fails for good: ``on_error="fail"`` lets those that are under way finish, starts no others and fails
    the run, and a retry of the run goes on with the items that have no result; ``"collect"`` puts an `ItemError` in its
    place and goes on.

    Up to 1,000 results of together 1 MB are a plain list in the state. More are a read-only sequence that reads from
    the journal what is looked at; with a reducer on ``into`` they are always a list, which the reducer gets.

    Raises `DeclarationError` for what cannot work.
    """
    given: tuple[Any, Any, Any] = step, over, concurrency  # whatever was typed
    if isinstance(given[0], Fragment) and any(isinstance(h, Unknown) for h in given[0].heads):
        return given[0]  # a name that a flow cell does not define: reported with the topology's other mistakes
    if not isinstance(given[0], Step):
        raise DeclarationError(f"map_({_shown(given[0])}, ...): it takes a step")
    if step.compensation is not None:
        raise DeclarationError(
            f"map_({step.name}, ...): items are not undone one by one, so its step takes no compensate=; put a step "
            f"behind the map whose compensation undoes all of them"
        )
    if not isinstance(given[1], str) or not given[1]:
        raise DeclarationError(f"map_({step.name}, over={over!r}): over= is the state key of a list, as a text")
    if isinstance(given[2], bool) or not isinstance(given[2], int) or given[2] < 1:
        raise DeclarationError(f"map_({step.name}, concurrency={concurrency!r}): it counts items at once, from 1")
    if on_error not in ("fail", "collect"):
        raise DeclarationError(f'map_({step.name}, on_error={on_error!r}): it is "fail" or "collect"')
    if into is not None and not str(into):
        raise DeclarationError(f"map_({step.name}, into={into!r}): into= is a state key, as a text")
    _check_step(step)
    return Map(checked(name or step.name), step, over, into, concurrency, on_error == "collect")


def _check_step(step: Step) -> None:
    if _item_parameter(step) is None:
        raise DeclarationError(
            f"map_({step.name}): {step.name}{step.signature} has no parameter for the item; the first one gets it"
        )
    if step.guard is not None:
        raise DeclarationError(
            f"map_(when(..., {step.name})): a condition asks the state and not an item, so it would hold for all of "
            f"them or none; use branch(...) before the map, or return early in the step"
        )
    if step.policy.store == "recompute":
        raise DeclarationError(
            f'map_({step.name}): store="recompute" is not for the items of a map; use store="pickle", or let the item '
            f"return what can be stored"
        )


def _item_parameter(step: Step) -> str | None:
    """The first parameter that can be given by position and does not ask for the context."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = (p.name for p in step.signature.parameters.values() if p.kind in kinds and not wants_context(p))
    return next(found, None)


def _shown(thing: Any) -> str:
    if hasattr(thing, "nodes") and hasattr(thing, "entry"):
        return f"flow {thing.name!r}: a flow per item is not built yet"
    if callable(thing) and hasattr(thing, "__name__"):
        return f"{thing.__name__}: a plain function, put @step on it"
    return repr(thing)
