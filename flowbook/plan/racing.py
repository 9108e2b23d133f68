"""Races: who is out of one, and what goes when one is won.

Owns: pure questions about the branches of races, asked of a run. Refuses: moving tokens (`tokens.py`).

A branch whose step has used up its attempts is *out* while others of its race may still win: nothing more is started
in it, and nothing of it is thrown away, because a retry of the run lets it go on. When all are out the race itself has
failed, and with it the branch that it stands in, or the run.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import replace

from flowbook.plan.paths import home
from flowbook.plan.records import ROOT, Phase, Run, Token
from flowbook.plan.undoing import left_to_undo, undo_path


def out_of_race(run: Run, failed: Iterable[str]) -> AbstractSet[str]:
    """Ids of the tokens that cannot go on, ``failed`` being the paths whose attempts are used up.

    With ``ROOT`` among them the run itself has failed.
    """
    at = {t.path: t for t in run.tokens.values() if t.phase is Phase.READY}
    out: set[str] = set()
    for path in failed:
        token: Token | None = at.get(home(path))
        while token is not None and token.id not in out:
            out.add(token.id)
            scope = None if token.scope is None else run.scopes[token.scope]
            if scope is not None and scope.first and not out.issuperset(scope.members):
                break  # the others may win
            token = None if scope is None else run.tokens[scope.parent]
    return out if ROOT in out else out | _below(run, out)


def standing(run: Run) -> frozenset[str]:
    """The paths at which something is to be done or under way."""
    if run.undoing is not None:
        return frozenset(map(undo_path, left_to_undo(run)))
    return frozenset(t.path for t in run.tokens.values() if t.phase is Phase.READY)


def dropped(before: Run, after: Run, path: str) -> tuple[str, ...]:
    """The paths that went without an outcome when ``path`` had one: of branches that have lost a race."""
    if len(after.scopes) >= len(before.scopes):
        return ()
    left = standing(after)
    return tuple(p for p in sorted(standing(before)) if p != path and p not in left)


def without_losers(run: Run) -> Run:
    """A run without what it knew of paths at which no token stands any more."""
    standing_at = standing(run)

    def left(path: str) -> bool:
        return path in standing_at or home(path.partition("/")[0]) in standing_at  # an item, or a call of a body there

    return replace(
        run,
        troubles={p: t for p, t in run.troubles.items() if left(p)},
        waits={p: w for p, w in run.waits.items() if left(p)},
        fans={p: f for p, f in run.fans.items() if left(p)},
        calls={p: c for p, c in run.calls.items() if left(p)},
        started={p: n for p, n in run.started.items() if left(p)},
        handed={p: h for p, h in run.handed.items() if left(p)},
    )


def _below(run: Run, out: AbstractSet[str]) -> set[str]:
    """The tokens of forks inside of branches that are out."""
    found: set[str] = set()
    parents = set(out)
    while True:
        more = {m for s in run.scopes.values() if s.parent in parents for m in s.members} - found
        if not more:
            return found
        found |= more
        parents = more
