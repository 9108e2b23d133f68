"""What a run *is*, in memory: frozen records that the pure floor reads and returns.

Owns: the shapes of runs, tokens, scopes and troubles. Refuses: deciding (`decide.py`), changing (`apply.py`),
bytes (`journal.py`). A change returns a new record; the mappings inside are replaced, never written to.

A *token* is a place where the run is going on. A fork opens a *scope* with one token per branch; the token that
forked waits in phase ``forked`` until its scope closes. See "Tokens" in docs/architecture.md for the rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from flowbook.quick import quick

ROOT = ""
"""Id of the token that a run begins with."""


class Status(StrEnum):
    """What a run is doing. ``pending`` and ``waiting`` runs are owned by nobody and cost nothing."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"

    @property
    def over(self) -> bool:
        """True when nothing will happen to the run by itself any more."""
        return self in (Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.SUPERSEDED)


class Phase(StrEnum):
    """What a token is doing."""

    READY = "ready"
    """It stands at a step that has not finished: to be started, running, or backing off."""
    FORKED = "forked"
    """It waits for the scope that it opened."""
    JOINING = "joining"
    """It stands at the join of its scope and waits for its siblings."""
    ENDED = "ended"
    """It was routed to END."""


@quick
@dataclass(frozen=True, slots=True)
class View:
    """The state as one token sees it."""

    values: Mapping[str, Any]
    """State key -> value."""
    results: Mapping[str, Any]
    """Step name -> the whole last result of that step, as far as this token's past goes."""


@quick
@dataclass(frozen=True, slots=True)
class Delta:
    """What one finished step changed."""

    node: str
    """Name of the step; empty: somebody edited the state (`RunForked`)."""
    result: Any
    """The whole result as the step returned it (an update, or a single value)."""
    update: Mapping[str, Any]
    """State key -> new value (before reducers)."""


@quick
@dataclass(frozen=True, slots=True)
class Token:
    """One place where the run goes on."""

    id: str
    """``ROOT``, or ``<path of the fork>[<branch>]``."""
    scope: str | None
    """Path of the fork that made this token; None for the root token."""
    branch: int
    """Place in the fork's declaration order, from 0."""
    at: str
    """Name of the node it stands at (its last node when it has ended)."""
    path: str
    """``name#n`` of the firing it stands at; of the fork when it has forked; empty at a join or at the end."""
    phase: Phase
    view: View
    deltas: tuple[Delta, ...]
    """What was changed since the fork of its scope, in order; always empty for the root token."""


@dataclass(frozen=True, slots=True)
class Scope:
    """A fork that has not closed yet."""

    path: str
    """Path of the fork's firing (``START#1`` when a flow begins with a fork)."""
    parent: str
    """Id of the token that forked."""
    join: str | None
    """Node where the branches meet; None when each branch ends at END."""
    members: tuple[str, ...]
    """Ids of the branches' tokens, in declaration order."""
    first: bool = False
    """True: a race, which the first branch that comes through closes."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception as the journal keeps it: text only, so that reading it needs no code."""

    type: str
    """Qualified name of the exception's class."""
    message: str
    traceback: str
    """The formatted traceback, with the engine's own frames cut off."""
    code: str = ""
    """flowbook's own error code, where it was one of ours."""
    notes: tuple[str, ...] = ()
    """What went wrong after it: compensations that failed."""


@quick
@dataclass(frozen=True, slots=True)
class Trouble:
    """What has gone wrong at one path so far."""

    failed: int = 0
    """Attempts that raised or timed out."""
    lost: int = 0
    """Attempts whose process died."""
    retry_at: datetime | None = None
    """When the next attempt may begin; None: at once, or never if ``final``."""
    final: bool = False
    """True when the attempts are used up."""
    failure: Failure | None = None
    """The last one."""

    @property
    def attempts(self) -> int:
        """All attempts that are known to have begun and not to have succeeded."""
        return self.failed + self.lost

    def worse(self, failure: Failure, *, lost: bool, final: bool, retry_at: datetime | None) -> Trouble:
        """What it is after one more attempt that has failed, or has died with its process."""
        return Trouble(self.failed + (not lost), self.lost + lost, retry_at, final, failure)


NO_TROUBLE: Final = Trouble()
UNKNOWN: Final = Failure("Unknown", "the cause was not stored", "")
"""Of what has failed for good, where nobody knows why any more."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A signal that was delivered, without its payload."""

    id: int
    """Number of the delivery."""
    name: str
    at: datetime
    """When it was delivered, by the database's clock."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A pause that has begun."""

    due: datetime | None
    """When its time is up, by the database's clock; None: never."""
    mark: int = 0
    """Tells this beginning from an earlier one at its path (`WaitBegan.mark`)."""
    listens: bool = False
    """True: somebody may end it by a signal; False: time alone."""


@quick
@dataclass(frozen=True, slots=True)
class HandedOut:
    """A step whose result comes from somebody else."""

    attempt: int
    proof: str
    """Digest of the token's secret."""
    due: datetime | None
    """When its time is up, by the database's clock; None: never."""


@quick
@dataclass(frozen=True, slots=True)
class Halted:
    """How a step has ended its run (`flowbook.graph.halt`)."""

    path: str
    """Where."""
    result: Any
    """The run's result."""
    given: bool
    """False: it gave none, the result is the state."""


@quick
@dataclass(frozen=True, slots=True)
class Fan:
    """A map under way (`mapping.py`)."""

    total: int
    """Items in all."""
    next: int = 0
    """Items from this one on have no outcome."""
    open: frozenset[int] = frozenset()
    """Items before ``next`` that have no outcome either; at most as many as may be under way at once."""
    failed: int = 0
    """Items in whose place the record of their failure stands."""


@quick
@dataclass(frozen=True, slots=True)
class Undoing:
    """What a run will end as, once what it did is undone."""

    path: str
    """Of the step that failed it; empty: no step did."""
    failure: Failure | None
    """Why it fails; None: it was cancelled."""
    by: str
    """Who cancelled it."""
    undone: frozenset[str] = frozenset()
    """Paths of the steps whose compensation has finished."""


@dataclass(frozen=True, slots=True)
class Child:
    """A run that was started at a path, or attached to by its key."""

    id: UUID
    number: int = 1
    """How many have been started at this path; another one than the first replaces one that was cancelled."""
    again: bool = False
    """True: it ended badly and the run was retried since, so it is to be retried too."""


@dataclass(frozen=True, slots=True)
class Call:
    """A durable call of a body (``ctx.step(...)``, ``ctx.sleep(...)``) that is over."""

    shown: str
    """What was called, for people: ``charge('A17')``, cut off."""
    digest: str
    """Of what was called with which arguments, 16 hex digits: a body that runs again must make the same call."""
    at: datetime
    """When it ended, by the database's clock, to the millisecond."""
    result: Any = None
    failure: Failure | None = None
    """Why it failed for good; None: it has a result."""
    raised: Any = None
    """``[module, class, arguments, attributes]`` of the exception, so that a body that runs again can catch the same
    one; None: it cannot be made again."""
    seq: int = 0
    """Place of its outcome in the journal."""


@quick
@dataclass(frozen=True, slots=True)
class Run:
    """A run, folded from its input and its journal."""

    id: UUID
    flow: str
    status: Status
    seq: int
    """The last journal entry that is folded in; 0: none."""
    tokens: Mapping[str, Token]
    """Live and parked tokens by id."""
    scopes: Mapping[str, Scope]
    """Open scopes by path of their fork."""
    counts: Mapping[str, int]
    """Node name -> how often it has been reached; the next path is ``name#count+1``."""
    troubles: Mapping[str, Trouble] = field(default_factory=dict)
    """Path -> its trouble; gone when the path finishes."""
    waits: Mapping[str, Waiting] = field(default_factory=dict)
    """Path -> the pause that has begun there; gone when it is over."""
    handed: Mapping[str, HandedOut] = field(default_factory=dict)
    """Path -> what of it was handed out; gone when the attempt is over."""
    fans: Mapping[str, Fan] = field(default_factory=dict)
    """Path -> the map that has begun there; gone when it is over."""
    calls: Mapping[str, Call] = field(default_factory=dict)
    """Path -> a durable call that is over; gone when the step that made it has its outcome."""
    heard: Mapping[str, int] = field(default_factory=dict)
    """Signal -> number of the last delivery of that name that was consumed or refused."""
    floor: int = 0
    """Every delivery up to this one is settled."""
    since: datetime | None = None
    """When the time began that ``run_timeout`` counts: the run's beginning or its last retry."""
    children: Mapping[str, Child] = field(default_factory=dict)
    """Path -> the child that was started there; gone when the path finishes."""
    mail: int = 0
    """Number of the last cancel or retry that an entry says was read."""
    cancelled_by: str | None = None
    """Who asked for the cancel that is under way."""
    started: Mapping[str, int] = field(default_factory=dict, compare=False)
    """Path -> attempt that a journal row says had begun. Advisory rows may be missing, so this is no part of a run's
    identity; it is read once, after a take-over (`lost_attempts`)."""
    failure: Failure | None = None
    """Why the run failed."""
    failed_path: str | None = None
    """Path of the step that failed the run."""
    halted: Halted | None = None
    """How a step has ended the run; None: it ends when no token lives."""
    limit: int | None = None
    """How often a node may be reached, as a retry has set it; None: as the flow says."""
    done: tuple[str, ...] = ()
    """Finished steps that have a compensation, in the order in which they finished."""
    undoing: Undoing | None = None
    """What it will end as, from when its steps began to be undone."""

    @property
    def view(self) -> View:
        """The state of the run as a whole: what the root token sees."""
        return self.tokens[ROOT].view

    def at(self, path: str) -> Token | None:
        """The token of which something is wanted at a path."""
        root = self.tokens[ROOT]
        if root.path == path and root.phase is Phase.READY:  # the common case: nothing is forked
            return root
        return next((t for t in self.tokens.values() if t.path == path and t.phase is Phase.READY), None)

    @property
    def ready(self) -> list[str]:
        """The paths at which something is wanted, in the order of the tokens; before the first node there is none."""
        return [t.path for t in self.tokens.values() if t.phase is Phase.READY and t.path]

    @property
    def asks(self) -> bool:
        """True if somebody may decide how it goes on: a pause of its listens for signals, or a step was handed out."""
        return bool(self.handed) or any(w.listens for w in self.waits.values())

    @property
    def current(self) -> str:
        """Where it stands, for tables: the paths of its tokens, cut off at 200 characters."""
        inside = [path for path in self.waits if "/" in path]
        outside = [t.path for t in self.tokens.values() if t.path]
        standing = [path for path in outside if not any(p.startswith(f"{path}/") for p in inside)]
        return ", ".join(sorted(standing + inside))[:200]
