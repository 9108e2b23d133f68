"""Maps: the nodes that apply a step, or a whole flow, to each item of a list of the state.

Owns: `Map`, and `map_`, which makes one. Refuses: running items (`run/maps.py`, `run/item_runs.py`) and deciding which
(`plan/mapping.py`).

``map_`` is known by its name from a list comprehension: ``pages = [fetch(url) for url in urls]``, only that each item
is durable by itself, and that many run at once. The step's first parameter (``ctx`` aside) is the item; the others are
filled by their names, as in any step. A dict that is returned for an item is that item's result, not an update.

A flow gets of the state only the item: an item that is a dict is its whole input, as in ``flow.start(**item)``. Any
other one is the first parameter of the step that it begins with, of an imperative flow the first one of its body;
``item=`` says otherwise, and then every item is that input, a dict too.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from flowbook.errors import BindingError, DeclarationError, StateError
from flowbook.graph.binding import wants_context
from flowbook.graph.body import Body
from flowbook.graph.expression import Composable, Fragment, Unknown
from flowbook.graph.names import checked
from flowbook.graph.step import Defaults, Policy, Step
from flowbook.graph.subflow import Subflow

if TYPE_CHECKING:
    from flowbook.graph.flow import Graph

OnError = Literal["fail", "collect"]
"""What becomes of a map one of whose items has used up its attempts."""
CONCURRENCY = 10
"""Items under way at once, where nothing else is said."""


@dataclass(frozen=True, slots=True)
class Map(Composable):
    """A node that applies a step or a flow to each item of a list. Made by `map_`."""

    name: str
    step: Step | Subflow
    """Applied to each item. A step's policy is that of each item; a flow is run as a child of its own per item."""
    over: str
    """State key of the list (or name of the step that returned it)."""
    into: str | None = None
    """State key that gets the results, in the order of the items; None: the node's name."""
    concurrency: int = CONCURRENCY
    """Items under way at once. One that waits for its next attempt keeps its place."""
    collect: bool = False
    """True: an item that fails for good leaves an `ItemError` in the results. False: it fails the run."""
    named: str | None = None
    """Input of the flow that every item is, as ``item=`` says; None: nothing was said, or it is a step."""

    @property
    def key(self) -> str:
        """State key that gets the results."""
        return self.into or self.name

    @property
    def item(self) -> str:
        """The step's parameter that gets the item."""
        assert isinstance(self.step, Step)
        found = _item_parameter(self.step)
        assert found is not None  # `map_` has looked
        return found

    @property
    def filled(self) -> Mapping[str, inspect.Parameter]:
        """The step's parameters that are filled by name: all others. A flow has none."""
        if not isinstance(self.step, Step):
            return {}
        return {name: p for name, p in self.step.signature.parameters.items() if name != self.item}

    def given(self, item: Any) -> Mapping[str, Any]:
        """What the flow begins with for an item. Raises as `given_for` does."""
        assert isinstance(self.step, Subflow)
        return given_for(self.step.flow, item, self.named, f"map {self.name!r}")

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
            **({"item": self.named} if isinstance(self.step, Subflow) else {}),
        }

    @property
    def guard(self) -> None:
        """A map has no condition."""

    def with_defaults(self, defaults: Defaults) -> Map:
        """The same node with a flow's options where its step has none of its own."""
        return replace(self, step=self.step.with_defaults(defaults)) if isinstance(self.step, Step) else self

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
    item: str | None = None,
    queue: str | None = None,
) -> Any:
    """A node that applies a step or a flow to each item of a list, ``concurrency`` of them at once.

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

    ``find_urls >> map_(page, over="urls")``, where ``page`` is a flow: each item is a run of its own, a *child* of this
    one with a journal and a retry of its own, and what it results in is the item's result. Workers share the children
    among themselves; ``queue`` leaves them to those of that queue. An item that is a dict is the flow's input, any
    other one its first parameter; ``item="url"`` says that every item is the input ``url``. A retry of the run retries
    the children that failed, from their own failed steps; a cancel of the run stops them.

    Raises `DeclarationError` for what cannot work.
    """
    given: tuple[Any, Any, Any] = step, over, concurrency  # whatever was typed
    if isinstance(given[0], Fragment) and any(isinstance(h, Unknown) for h in given[0].heads):
        return given[0]  # a name that a flow cell does not define: reported with the topology's other mistakes
    is_flow = _is_flow(given[0])
    if not isinstance(given[0], Step) and not is_flow:
        raise DeclarationError(f"map_({_shown(given[0])}, ...): it takes a step or a flow")
    if not is_flow and (item, queue) != (None, None):
        option = "item" if item is not None else "queue"
        raise DeclarationError(
            f"map_({step.name}, {option}={item or queue!r}): that is for a flow; the first parameter of a step gets "
            f"the item, and it runs where its run does"
        )
    if not is_flow and step.compensation is not None:
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
    if is_flow:
        _check_item(step, item)
        what: Step | Subflow = Subflow(checked(step.name), step, queue=queue)
    else:
        _check_step(step)
        what = step
    return Map(checked(name or step.name), what, over, into, concurrency, on_error == "collect", item)


def given_for(flow: Graph, item: Any, named: str | None, who: str) -> Mapping[str, Any]:
    """What a flow begins with for an item; ``named``: the input that every item is, ``who`` asks.

    Raises `BindingError` where that cannot be told, `StateError` where the flow does not take it.
    """
    if named is None and isinstance(item, Mapping):
        odd = next((key for key in item if not isinstance(key, str)), None)
        if odd is not None:
            raise BindingError(
                f"{who}: a dict is the whole input of flow {flow.name!r}, and one has the key {odd!r}, which is no "
                f"text: if it is one of its inputs, name that by item="
            )
        try:
            flow.accept(item)
        except StateError as error:
            raise StateError(
                f"{who}: {error.message}. An item that is a dict is the whole input of the flow: if it is one of its "
                f"inputs, name that by item="
            ) from error
        return item
    name = named or first_input(flow)
    if name is None:
        raise BindingError(
            f"{who}: an item is {type(item).__name__}, and how flow {flow.name!r} begins does not tell which of its "
            f"inputs that is: name it by item=, or map over dicts of its inputs"
        )
    return {name: item}


def first_input(flow: Graph) -> str | None:
    """The input that an item is which is no dict: the first parameter of the step that a flow begins with.

    None where that is not told: it begins with something else than a step, or with several that ask for different
    things, or its state does not declare it.
    """
    found = {_first_asked(flow, node) for node in flow.entry}
    name = found.pop() if len(found) == 1 else None
    return name if flow.schema is None or name in flow.schema.annotations else None


def _first_asked(flow: Graph, node: str) -> str | None:
    step = flow.nodes[node].step
    if not isinstance(step, Step):
        return None
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    asked = (p.name for p in step.signature.parameters.values() if p.kind not in kinds and not wants_context(p))
    name = next((name for name in asked if name not in flow.resources), None)
    return None if name == "state" and not isinstance(step, Body) else name  # "state" is all of it


def _is_flow(thing: Any) -> bool:
    return hasattr(thing, "nodes") and hasattr(thing, "entry")  # a Graph, whose module stands above this one


def _check_item(flow: Graph, item: Any) -> None:
    if item is None:
        return
    body = flow.nodes[flow.entry[0]].step
    known = flow.schema.annotations.keys() if flow.schema is not None else None
    if isinstance(body, Body):
        known = {name: p for name, p in body.signature.parameters.items() if not wants_context(p)}.keys()
    if not isinstance(item, str) or not item or (known is not None and item not in known):
        has = "" if known is None else f"; it has {', '.join(map(repr, known)) or 'none'}"
        raise DeclarationError(f"map_({flow.name}, item={item!r}): item= is the name of an input of the flow{has}")


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
    if isinstance(thing, Subflow):
        return f"subflow {thing.name!r}: give the flow itself, map_({thing.flow.name}, ...)"
    if callable(thing) and hasattr(thing, "__name__"):
        return f"{thing.__name__}: a plain function, put @step on it"
    return repr(thing)
