"""Sub-flows: nodes at which a run starts another one and goes on with its result.

Owns: `Subflow`, and `subflow`, which makes one in its place. Refuses: starting it (`run/children.py`).

The child is a run of its own, with a journal, a place in the lists and a retry of its own; the node ends when it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from flowbook.errors import DeclarationError
from flowbook.graph.expression import Composable
from flowbook.graph.names import checked
from flowbook.graph.step import Policy

if TYPE_CHECKING:
    from flowbook.graph.flow import Graph

OWN_NAME = ""
"""`Subflow.into`: the state key with the node's name."""


@dataclass(frozen=True, slots=True, eq=False)
class Subflow(Composable):
    """A node that runs another flow. Made by `subflow`."""

    name: str
    flow: Graph
    input: Callable[[Any], Mapping[str, Any]] | tuple[tuple[str, str], ...] | None = None
    """What it is started with: a function of the state, or (its key, key of the state); None: what its state schema
    declares and the state has, or all of the state where it has no schema."""
    into: str | None = OWN_NAME
    """State key that gets its result; None: the result is an update."""
    key: Callable[[Any], str] | None = None
    """Its idempotency key, from the state; None: it has none."""
    queue: str | None = None
    """Whose workers carry it; None: the same as its parent, which may be this process."""

    @property
    def policy(self) -> Policy:
        """It is tried once: its own steps have their retries, and a retry of the run is a retry of the child."""
        return Policy()

    @property
    def target(self) -> str | None:
        """State key that gets its result; None: the result is an update."""
        return self.name if self.into == OWN_NAME else self.into

    def given(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """The input for a state (a read-only view). Raises whatever a function of the user's raises, and KeyError."""
        if callable(self.input):
            found = self.input(state)
            if not isinstance(found, Mapping):
                raise DeclarationError(
                    f"input= of subflow {self.name!r} returned {type(found).__name__}: it is a dict of the keys that "
                    f"flow {self.flow.name!r} begins with"
                )
            return found
        if self.input is not None:
            return {theirs: state[ours] for theirs, ours in self.input}
        schema = self.flow.schema
        return {k: state[k] for k in state if schema is None or k in schema.annotations}

    def as_(self, name: str) -> Subflow:
        """The same flow as another node."""
        return replace(self, name=checked(name))

    def __repr__(self) -> str:
        return f"<subflow {self.name}: {self.flow.name}>"


def subflow(
    flow: Graph,
    *,
    input: Callable[[Any], Mapping[str, Any]] | Mapping[str, str] | Iterable[str] | None = None,
    into: str | None = OWN_NAME,
    key: Callable[[Any], str] | None = None,
    queue: str | None = None,
    name: str | None = None,
) -> Subflow:
    """A node at which another flow runs, as a run of its own.

    ``load >> subflow(clean, input={"rows": "raw"}) >> report``

    ``input``: a function of the state that returns the dict it begins with, a mapping (its key: key of the state), or
    names that are the same in both. Left out, it gets what its state schema declares of what the state has, or all of
    the state if it declares none.

    The result, a dict of its state at the end, is stored under the node's name (the flow's, unless ``name`` or
    ``.as_()`` says otherwise), or under ``into``; with ``into=None`` it is merged into the state as an update.

    ``key``: a function of the state that makes an idempotency key, ``key=lambda s: f"order-{s.order_id}"``. A run of
    that flow with that key and the same input, also a finished one, is then waited for instead of starting another;
    with another input the node fails (`KeyConflict`).

    ``queue``: leave the child to the workers of that queue. Raises `DeclarationError` for what cannot work.
    """
    given: Any = flow  # whatever was typed
    if not (hasattr(given, "fingerprint") and hasattr(given, "nodes")):
        raise DeclarationError(f"subflow({given!r}): give it a flow, as `graph` or %%flow makes it")
    names: Any = input
    if names is not None and not callable(names):
        pairs = names.items() if isinstance(names, Mapping) else ((n, n) for n in names)
        names = tuple((str(theirs), str(ours)) for theirs, ours in pairs)
    if key is not None and not callable(key):
        raise DeclarationError(f"subflow(..., key={key!r}): the key is a function of the state")
    if into is not None and into != OWN_NAME:
        checked(into)
    return Subflow(checked(name or flow.name), flow, names, into, key, queue)
