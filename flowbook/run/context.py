"""The context: what a step may ask about the run it belongs to.

Owns: `Context`, which fills parameters named ``ctx``: where a step is, and the verbs that it may use (`asking.py`,
`spawned.py`, `handout.py`, `streams.py` do them). Refuses: changing the run's state; a step does it by what it returns.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from flowbook.errors import DeclarationError, UsageError
from flowbook.graph.binding import StateView
from flowbook.graph.durations import Duration
from flowbook.plan.paths import item_of
from flowbook.run import asking
from flowbook.run.accounts import Account
from flowbook.run.calls import Caller
from flowbook.run.handout import HandOut
from flowbook.run.spawned import Spawned, attached, joined, spawned
from flowbook.run.streams import Said


@dataclass(frozen=True, slots=True)
class Context:
    """Where a step is."""

    run_id: UUID
    flow: str
    path: str
    """``fit#2``: the second firing of ``fit``."""
    attempt: int
    """From 1."""
    state: StateView
    """All of the state, read-only."""
    clock: Callable[[], datetime]
    database: Any = field(default=None, repr=False, compare=False)
    """The session of a transactional step."""
    caller: Caller | None = None
    """The body that this is the context of; None: it can make no durable calls."""
    durable_time: bool = False
    """True: it is the body of an imperative flow."""
    say: Callable[[Context, str, str], Said] | None = field(default=None, repr=False, compare=False)
    """Streams text; None: nobody can hear it."""
    tools: Any = field(default=None, repr=False, compare=False)
    """What the process has (`run/tools.py`), for steps of the house; None: this context belongs to no run under way."""
    handing: HandOut = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "handing", HandOut(self.run_id, self.path, self.attempt))

    @property
    def index(self) -> int | None:
        """Place of the item in its list, from 0; None: the step is not applied by a map."""
        return item_of(self.path)[1] if self.path.endswith("]") else None

    @property
    def session(self) -> Any:
        """The ``AsyncSession`` of a transactional step: what it does there and its checkpoint are committed together.

        Its transaction is flowbook's to end: ``commit()`` and ``rollback()`` are refused, ``begin_nested()`` is fine.
        Raises `DeclarationError` in any other step.
        """
        if self.database is None:
            raise DeclarationError(
                f"{self.path} asks for ctx.session and is not transactional: write @step(transactional=True)"
            )
        return self.database

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of this path and for no other path of any run: give it to services that
        take one, and a repeated attempt has no second effect there.
        """
        return f"{self.run_id}:{self.path}"

    def hand_out(self) -> str:
        """Let somebody else complete this step; the answer is a token, for whoever shall do it.

        ``return ctx.hand_out()``, or send it somewhere (a mail, another program) and return: what the body returns does
        not count any more. When it has ended, the run waits at this step, durably and at no cost, until ``app.complete(
        token, value)`` or ``flowbook complete TOKEN '{...}'`` gives the result, or ``app.fail(token, why)`` fails the
        attempt. The first answer counts, also one that comes before the body has ended. ``timeout=`` of the step is how
        long is waited. The token is as good as a password for this one step: it is good for this attempt alone, and a
        body that raises, or dies, after it gave its token away is run again, with another token.
        """
        return self.handing.make()

    def now(self) -> datetime:
        """The moment, timezone-aware, UTC.

        In an imperative flow it is durable: the moment of the last call that has ended (at first, of the run's start),
        the same each time the body runs. In a step of a graph another attempt sees another moment.
        """
        if self.durable_time:
            return self._caller().clock
        return self.clock()

    @property
    def elapsed(self) -> float:
        """Seconds since the run was started, by the database's clock; what it waited for people included."""
        return (self.clock() - self._caller().desk.born).total_seconds()

    def account(self, budget: str) -> Account:
        """A budget that runs of this namespace share under a name: ``await ctx.account("team").reserve(...)``.

        Agents with ``Budget(shared="team")`` use it. It is counted in the database, whichever process spends.
        """
        account = self._caller().desk.account
        assert account is not None
        return account(budget, self.path, self.attempt)

    # -- durable calls -------------------------------------------------------------------------------------------------

    def step(self, step: Any, /, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Run a step and keep its outcome: ``await ctx.step(charge, order)``.

        It is tried as its options say; what ends it for good is raised here. When the body runs again, the result (or
        the exception) is there without the step being run. Two calls that are not awaited in between run together.
        Raises `CallsChanged` if something else was called here before, TypeError for arguments that do not fit.
        """
        return asking.called(self._caller(), step, args, kwargs)

    def sleep(self, duration: Duration) -> Awaitable[None]:
        """Let time pass (seconds, ``"1h"``, a timedelta). A crash does not start it again; a long one costs nothing."""
        return asking.slept(self._caller(), duration)

    def wait(self, signal: str, *, timeout: Duration | None = None, schema: type | None = None) -> Awaitable[Any]:
        """Wait for a signal and return its payload, as ``schema`` wants it.

        A signal that was sent before is not lost; a payload that does not fit is reported, and the wait goes on. Raises
        `WaitTimedOut` when ``timeout`` has passed.
        """
        return asking.waited(self._caller(), (signal,), timeout, schema)

    def wait_any(
        self, *signals: str, timeout: Duration | None = None, schema: type | None = None
    ) -> Awaitable[tuple[str, Any]]:
        """Wait for the first of several signals: ``name, payload = await ctx.wait_any("approved", "rejected")``.

        Else as `wait`.
        """
        return asking.waited(self._caller(), signals, timeout, schema, named=True)

    def map(
        self,
        step: Any,
        items: Iterable[Any],
        *,
        concurrency: int | None = None,
        on_error: Literal["fail", "collect"] = "fail",
        item: str | None = None,
    ) -> Awaitable[list[Any]]:
        """Run a step or a flow for each item, each with its own outcome and retries; results in the order of the items.

        The third item of ``charge`` has the path ``order#1/map#1/charge#3``.

        ``concurrency``: how many are under way together (None: 16). ``on_error="collect"`` puts the exception of an
        item that failed in the place of its result; ``"fail"`` raises the first one.

        Over a flow each item is a child, as by `spawn`: an item that is a dict is its input, any other one its first
        parameter, or the input that ``item`` names. Children that are under way when another one fails go on.
        """
        return asking.mapped(self._caller(), step, items, concurrency, on_error, item)

    def gather(self, *awaitables: Awaitable[Any]) -> Awaitable[list[Any]]:
        """Wait for several coroutines or calls together; results in their order.

        Each coroutine numbers its own calls. The first exception is raised, after the others have been stopped.
        """
        return asking.gathered(self._caller(), awaitables)

    def spawn(self, flow: Any, /, **input: Any) -> Spawned:
        """Have another flow run as a child, a run of its own, and go on at once: ``child = ctx.spawn(invoice, n=3)``.

        ``await ctx.join(child)``, or ``await child``, waits for its result. A body that runs again finds the same
        child. It is cancelled with this run; it goes on if it is not joined. Raises `StateError` for an input that does
        not fit, `Unencodable` for one that cannot be stored.
        """
        return spawned(self._caller(), flow, input)

    def attach(
        self, flow: Any, input: Mapping[str, Any], *, key: str, kept: Callable[[Any, Any, Mapping[str, Any]], Any]
    ) -> Spawned:
        """As `spawn`, for the run of that flow with this key, whoever has begun it.

        One that is over gives what it gave, one that failed goes on from where it failed, one that was cancelled is
        begun anew. ``kept``: what of it is kept here, of its row, its result and its state at the end.
        """
        return attached(self._caller(), flow, input, key, kept)

    def join(self, child: Spawned) -> Awaitable[Any]:
        """Wait for a child, durably, and return its result: of an imperative flow what it returns, of others a dict.

        Raises `ChildFailed` if it failed or was cancelled. A run that fails of that and is retried has the child go on
        from where it failed.
        """
        return joined(self._caller(), child)

    def emit(self, name: str, payload: Mapping[str, Any] | Any = None, /) -> Awaitable[None]:
        """Write an event into the run's journal, once, for whoever watches it."""
        return asking.emitted(self._caller(), name, payload)

    def stream(self, text: str, /, *, channel: str = "text") -> Said:
        """Say something before the step is done, for whoever looks on: ``await ctx.stream(token)``.

        Readers (``run.stream()``, here and in other processes) get the first piece at once, and then what has come ten
        times a second. The text lasts until the step has its outcome, which alone counts; a crash leaves no half answer
        as an answer, and another attempt's text takes the place of this one's. It costs the journal nothing.

        A plain function calls it without ``await``. ``channel``: readers can tell several texts of one step apart by
        it. Raises `UsageError` for anything but text.
        """
        if self.say is None:
            raise UsageError(f"{self.path} cannot stream: this context belongs to no run under way")
        return self.say(self, channel, text)

    def uuid(self) -> UUID:
        """A UUID that is the same each time the body runs: the n-th one of this path of this run."""
        return self._caller().uuid()

    def _caller(self) -> Caller:
        if self.caller is None:
            raise DeclarationError(
                f"{self.path} makes no durable calls: only a coroutine function that is a step, or the body of an "
                f"imperative flow, can, and only while its run carries it. What a compensation does, it does "
                f"itself; it is tried again until it has"
            )
        return self.caller
