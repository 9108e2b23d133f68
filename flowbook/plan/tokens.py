"""Tokens: how a run moves through its graph.

Owns: the token-scope rule of docs/architecture.md: forks open scopes, branches see the state at their fork plus their
own deltas, joins reduce the deltas in declaration order, a race goes on with its first branch alone. Refuses: events
(`apply.py`) and time.

`Movement` is a draft: it copies the mappings of a run once, is written to while one event is applied, and is thrown
away. Nothing outside ever sees it half-way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flowbook.graph.flow import Graph
from flowbook.graph.names import START
from flowbook.graph.state import merge
from flowbook.plan.paths import branch, firing
from flowbook.plan.records import Delta, Phase, Scope, Token, View


class Movement:
    """The tokens, scopes and counts of a run while one event moves them."""

    def __init__(
        self, graph: Graph, tokens: Mapping[str, Token], scopes: Mapping[str, Scope], counts: Mapping[str, int]
    ) -> None:
        self.graph = graph
        self.tokens = dict(tokens)
        self.scopes = dict(scopes)
        self.counts = dict(counts)
        self.won = False
        """True once a race is over."""

    def enter(self, token: Token) -> None:
        """Send a token on from START."""
        self._leave(token, START, firing(START, 1), 0, self.graph.entry)

    def finish(self, token: Token, delta: Delta | None, route: int | None) -> None:
        """Send a token on from the step it stands at, with what the step changed; None: it was skipped."""
        view, deltas = token.view, token.deltas
        if delta is not None:
            view = _after(self.graph, view, delta)
            deltas = deltas if token.scope is None else (*deltas, delta)
        moved = Token(token.id, token.scope, token.branch, token.at, token.path, token.phase, view, deltas)
        way = route or 0
        self._leave(moved, token.at, token.path, way, self.graph.nodes[token.at].ways[way])

    def _leave(self, token: Token, node: str, path: str, way: int, targets: tuple[str, ...]) -> None:
        match targets:
            case ():
                self._end(token)
            case (target,):
                self._arrive(token, target)
            case _:
                self._fork(token, path, targets, (node, way))

    def _arrive(self, token: Token, node: str) -> None:
        scope = None if token.scope is None else self.scopes[token.scope]
        if scope is not None and scope.join == node:
            self.tokens[token.id] = replace(token, at=node, path="", phase=Phase.JOINING)
            self._close(scope)
            return
        n = self.counts.get(node, 0) + 1
        self.counts[node] = n
        # Written out, here and in `finish`: `dataclasses.replace` costs five times as much, once per step.
        self.tokens[token.id] = Token(
            token.id, token.scope, token.branch, node, firing(node, n), Phase.READY, token.view, token.deltas
        )

    def _end(self, token: Token) -> None:
        self.tokens[token.id] = Token(
            token.id, token.scope, token.branch, token.at, "", Phase.ENDED, token.view, token.deltas
        )
        if token.scope is not None:
            self._close(self.scopes[token.scope])

    def _fork(self, token: Token, path: str, targets: tuple[str, ...], fork: tuple[str, int]) -> None:
        members = tuple(branch(path, i) for i in range(len(targets)))
        self.tokens[token.id] = replace(token, path=path, phase=Phase.FORKED)
        self.scopes[path] = Scope(path, token.id, self.graph.joins[fork], members, fork in self.graph.races)
        born = [Token(m, path, i, t, "", Phase.READY, token.view, ())
                for i, (m, t) in enumerate(zip(members, targets, strict=True))]  # fmt: skip
        # All are born before the first one arrives: one that arrives at the join at once must not close the scope.
        self.tokens.update((child.id, child) for child in born)
        for child in born:
            if child.id in self.tokens:  # a race may be over with its first branch
                self._arrive(child, child.at)

    def _close(self, scope: Scope) -> None:
        """Close a scope when none of its tokens lives outside its join, or when its race is won; one token goes on."""
        members = [self.tokens[m] for m in scope.members]
        if scope.first:
            members = [t for t in members if t.phase in (Phase.JOINING, Phase.ENDED)]
            self.won = True
        elif any(t.phase in (Phase.READY, Phase.FORKED) for t in members):
            return
        self._remove(scope)
        parent = self.tokens[scope.parent]
        view, deltas = parent.view, tuple(d for t in members for d in t.deltas)
        for delta in deltas:
            view = _after(self.graph, view, delta)
        parent = replace(parent, view=view, deltas=() if parent.scope is None else parent.deltas + deltas)
        if scope.join is not None and any(t.phase is Phase.JOINING for t in members):
            self._arrive(parent, scope.join)
        else:
            self._end(parent)

    def _remove(self, scope: Scope) -> None:
        """Take a scope away with all its tokens; of a race that is won also the scopes that the losers have opened."""
        del self.scopes[scope.path]
        for inner in [s for s in self.scopes.values() if s.parent in scope.members]:
            self._remove(inner)
        for member in scope.members:
            del self.tokens[member]


def _after(graph: Graph, view: View, delta: Delta) -> View:
    """A view with one delta merged in."""
    values: dict[str, Any] = merge(graph.schema, view.values, delta.update)
    if delta.node in delta.update or not delta.node:
        return View(values, view.results)  # a state key goes before a result of the same name, so it is not kept twice
    return View(values, {**view.results, delta.node: delta.result})


def view_after(graph: Graph, view: View, delta: Delta) -> View:
    """What a token sees once its step has changed this."""
    return _after(graph, view, delta)
