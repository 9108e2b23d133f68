"""Every error that flowbook raises, in one tree with stable codes.

Owns: the classes, their codes, their messages. Refuses: logic, imports from the rest of the house.

    FlowbookError
    ├── ValueRefused            FB1xx  a value the codec cannot carry
    │   ├── Unencodable             FB101
    │   ├── Undecodable             FB102
    │   └── SignatureRefused        FB103
    ├── DeclarationError        FB2xx  a graph, step or state schema that cannot work
    │   ├── TopologyError           FB201
    │   ├── StateError              FB202
    │   ├── BindingError            FB203
    │   ├── NotPortable             FB204
    │   ├── WrongLoop               FB205
    │   └── TransactionMisused      FB206
    ├── RunError                FB3xx  a run that did not end well, or a request a run cannot serve
    │   ├── StepFailed              FB301
    │   ├── StepTimeout             FB302
    │   ├── RunCancelled            FB303
    │   ├── KeyConflict             FB304
    │   ├── RunNotFound             FB305
    │   ├── CodeMissing             FB306
    │   ├── RunOver                 FB307
    │   ├── RunUnfinished           FB308
    │   ├── AttemptLost             FB309
    │   ├── IllegalTransition       FB310
    │   ├── WaitTimedOut            FB311
    │   ├── PayloadRefused          FB312
    │   ├── RunTimedOut             FB313
    │   ├── ChildFailed             FB314
    │   ├── RunUndone               FB315
    │   ├── RecursionLimitReached   FB318
    │   ├── PointUnknown            FB320
    │   ├── TokenRefused            FB331
    │   ├── AlreadyAnswered         FB332
    │   ├── HandOutFailed           FB333
    │   ├── NothingToDecide         FB334
    │   ├── CallsChanged            FB340
    │   ├── NothingToReuse          FB760
    │   ├── NotProven               FB761
    │   └── NotExportable           FB762
    ├── StoreError              FB4xx  the database, or the way to it
    │   ├── StoreUnavailable        FB401
    │   ├── Fenced                  FB402
    │   ├── PathClash               FB403
    │   ├── SchemaMismatch          FB404
    │   ├── BadDatabaseUrl          FB405
    │   ├── EmbeddedUnavailable     FB406
    │   ├── PayloadTooLarge         FB407
    │   └── TransactionLost         FB408
    ├── UsageError              FB5xx  a call that cannot be taken as it was typed
    │   ├── NotConnected            FB501
    │   ├── ScheduleRefused         FB740
    │   └── ScheduleNotFound        FB741
    ├── SpecError               FB775  flows that are given as data
    │   ├── SpecRefused             FB776
    │   ├── ConditionFailed         FB777
    │   ├── DefinitionInUse         FB778
    │   └── NotDefined              FB779
    ├── AgentError              FB6xx  a model, or the loop around one
    │   ├── BudgetReached           FB601
    │   ├── TurnsReached            FB602
    │   ├── AnswerCut               FB603
    │   ├── ModelFailed             FB604
    │   ├── ReplayMissed            FB605
    │   ├── AnswerTooLong           FB606
    │   ├── EvaluationRefused       FB620
    │   ├── SecretMissing           FB621
    │   └── ToolServerFailed        FB622
    └── NotebookError           FB7xx  a notebook's cells and variables
        ├── CellFailed              FB701
        ├── KernelDied              FB702
        ├── KernelNotStarted        FB703
        ├── NotebookUnreadable      FB704
        ├── ResultMissing           FB705
        ├── CheckpointRefused       FB720
        ├── CheckpointDamaged       FB721
        └── VariableMissing         FB722

A message says what happened, where, and what to do next; values in it are shown with ``{x!r}``.
The code is stable across releases and is what docs and searches refer to.
"""

from __future__ import annotations

from typing import Any, ClassVar


class FlowbookError(Exception):
    """The root: ``except FlowbookError`` catches all that the library raises on purpose."""

    code: ClassVar[str] = "FB000"

    def __str__(self) -> str:
        return f"[{self.code}] {super().__str__()}"

    @property
    def message(self) -> str:
        """The text without its code."""
        return super().__str__()


class ValueRefused(FlowbookError):
    """A value cannot cross the border between memory and the journal."""

    code = "FB100"


class Unencodable(ValueRefused):
    """The codec does not know how to carry a value; ``key_path`` says where in the result it stands."""

    code = "FB101"

    def __init__(self, key_path: str, reason: str) -> None:
        super().__init__(f"{key_path or 'value'}: {reason}")
        self.key_path = key_path
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.key_path, self.reason)


class Undecodable(ValueRefused):
    """Stored bytes are not what their codec tag says."""

    code = "FB102"


class SignatureRefused(ValueRefused):
    """A pickle or a stored source is not signed with this user's key, so it is not loaded."""

    code = "FB103"


class DeclarationError(FlowbookError):
    """Something declared by the user cannot work; raised before anything runs."""

    code = "FB200"


class TopologyError(DeclarationError):
    """All mistakes of one topology at once; ``problems`` has one text per mistake."""

    code = "FB201"

    def __init__(self, flow: str, problems: tuple[str, ...]) -> None:
        lines = "\n".join(f"  - {p}" for p in problems)
        count = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        super().__init__(f"flow {flow!r} has {count} in its topology:\n{lines}")
        self.flow = flow
        self.problems = problems


class StateError(DeclarationError):
    """A state schema is unusable, or an update does not fit it."""

    code = "FB202"


class BindingError(DeclarationError):
    """A step's parameter has nothing to be filled with."""

    code = "FB203"


class NotPortable(DeclarationError):
    """A definition cannot be rebuilt from stored source; ``reasons`` has one text per obstacle."""

    code = "FB204"

    def __init__(self, flow: str, reasons: tuple[str, ...]) -> None:
        lines = "\n".join(f"  - {r}" for r in reasons)
        super().__init__(f"flow {flow!r} is not portable:\n{lines}")
        self.flow = flow
        self.reasons = reasons


class WrongLoop(DeclarationError):
    """A step used a client or a lock that belongs to another event loop; the text says how to give it its own."""

    code = "FB205"


class TransactionMisused(DeclarationError):
    """A step ended the transaction of ``ctx.session`` itself, or used it after one of its statements had failed."""

    code = "FB206"


class RunError(FlowbookError):
    """A run ended badly, or was asked for something it cannot do."""

    code = "FB300"


class StepFailed(RunError):
    """A step has used up its attempts; the step's own exception is the ``__cause__`` where it is still in memory."""

    code = "FB301"


class StepTimeout(RunError):
    """An attempt ran past its ``timeout=``."""

    code = "FB302"


class RunCancelled(RunError):
    """The run was cancelled before it ended."""

    code = "FB303"


class KeyConflict(RunError):
    """The idempotency key is taken by a run with a different input."""

    code = "FB304"


class RunNotFound(RunError):
    """No run has this id or prefix, or more than one has."""

    code = "FB305"


class CodeMissing(RunError):
    """No live process has the code of this run; the text says how to supply it."""

    code = "FB306"


class RunOver(RunError):
    """The run has already ended, so the request came too late."""

    code = "FB307"


class RunUnfinished(RunError):
    """A result was asked for and did not come within the time given."""

    code = "FB308"


class AttemptLost(RunError):
    """A step was running when its process died; stored as the attempt's error, never raised at users."""

    code = "FB309"


class IllegalTransition(RunError):
    """An event met a run whose status does not admit it: a bug in flowbook or a damaged journal."""

    code = "FB310"


class WaitTimedOut(RunError):
    """No signal came within the ``timeout=`` of a wait that has no way on for that."""

    code = "FB311"


class PayloadRefused(RunError):
    """The payload of a signal does not fit what the wait declares; the wait goes on."""

    code = "FB312"


class RunTimedOut(RunError):
    """The run took longer than the ``run_timeout=`` of its flow."""

    code = "FB313"


class ChildFailed(RunError):
    """A run that this one had started did not end well; its id and what happened there are in the text."""

    code = "FB314"


class RunUndone(RunError):
    """What the run had done was undone by its compensations, so it cannot go on from where it failed."""

    code = "FB315"


class RecursionLimitReached(RunError):
    """A run came to one node more often than its recursion limit allows; retry it with a higher one."""

    code = "FB318"


class PointUnknown(RunError):
    """A run was to be looked at, forked or entered at a step that it never came to, or at a row that it has not."""

    code = "FB320"


class TokenRefused(RunError):
    """A text is no token, or the step that it was made for does not wait for it (any more)."""

    code = "FB331"


class AlreadyAnswered(RunError):
    """Somebody was first to decide, or to complete a step that was handed out; the text says who and when."""

    code = "FB332"

    def __init__(self, message: str, first: Any = None) -> None:
        super().__init__(message)
        self.first = first
        """The first answer (path, signal, by, payload, at), where it is known."""


class HandOutFailed(RunError):
    """A step was handed out, and who had it says that it failed."""

    code = "FB333"


class NothingToDecide(RunError):
    """No decision is open where one was to be taken, or it does not say which of several is meant."""

    code = "FB334"


class CallsChanged(RunError):
    """A body that ran again did not make the durable calls that it made before, so their results fit no more."""

    code = "FB340"


class NothingToReuse(RunError):
    """No earlier run has results that a run of this flow, with this input, could reuse; the text says why."""

    code = "FB760"


class NotProven(RunError):
    """A flow is to be promoted, and no proof of this version of it has passed; `flow.prove(...)` makes one."""

    code = "FB761"


class NotExportable(RunError):
    """A flow cannot be written as a plain module of the same identity; the text says what is in the way."""

    code = "FB762"


class StoreError(FlowbookError):
    """The database or the way to it."""

    code = "FB400"


class StoreUnavailable(StoreError):
    """The database does not answer; the engine keeps trying, a command gives up with this."""

    code = "FB401"


class Fenced(StoreError):
    """Another process owns the run now; what this one still holds of it must not be written."""

    code = "FB402"


class PathClash(StoreError):
    """Two outcomes for one path were offered: a bug in flowbook; the run is failed loudly."""

    code = "FB403"


class SchemaMismatch(StoreError):
    """The database's schema is older or newer than this library can work with."""

    code = "FB404"


class BadDatabaseUrl(StoreError):
    """The database URL cannot be understood or used."""

    code = "FB405"


class EmbeddedUnavailable(StoreError):
    """The embedded Postgres cannot be started here; the text says why and what to set instead."""

    code = "FB406"


class PayloadTooLarge(StoreError):
    """A single value is larger than a journal row may be."""

    code = "FB407"


class TransactionLost(StoreError):
    """The connection of a transactional step was lost; what it had done is undone, and it is tried again."""

    code = "FB408"


class UsageError(FlowbookError):
    """A call, command or magic cannot be taken as it was typed."""

    code = "FB500"


class NotConnected(UsageError):
    """There is no connected app in this process."""

    code = "FB501"


class SpecError(FlowbookError):
    """A flow that is given as data cannot be had, or cannot be used."""

    code = "FB775"


class SpecRefused(SpecError):
    """All mistakes of one spec at once; ``problems`` has (JSON pointer, what is wrong there) for each."""

    code = "FB776"

    def __init__(self, flow: str, problems: tuple[tuple[str, str], ...]) -> None:
        lines = "\n".join(f"  - {at or '/'}: {what}" for at, what in problems)
        count = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        super().__init__(f"the spec of flow {flow!r} has {count}, and nothing was defined:\n{lines}")
        self.flow = flow
        self.problems = problems


class ConditionFailed(SpecError):
    """A condition of JSON Logic, or a mapping of a step's input, could not be worked out for the state."""

    code = "FB777"


class DefinitionInUse(SpecError):
    """A definition is not taken back while runs of it are active."""

    code = "FB778"


class NotDefined(SpecError):
    """No flow of that name is defined in the namespace."""

    code = "FB779"


class ScheduleRefused(UsageError):
    """A schedule cannot work as it was typed: its cron expression, its time zone, its options or its templates."""

    code = "FB740"


class ScheduleNotFound(UsageError):
    """No schedule has this name in this namespace."""

    code = "FB741"


class AgentError(FlowbookError):
    """A model did not do what an agent needs of it, or the agent has reached a limit."""

    code = "FB600"


class BudgetReached(AgentError):
    """An agent's run has used what it may; asked before each call of a model, so nothing more is spent."""

    code = "FB601"


class TurnsReached(AgentError):
    """An agent has asked its model as often as it may."""

    code = "FB602"


class AnswerCut(AgentError):
    """The stream of an answer ended too early; half an answer is not kept as an answer."""

    code = "FB603"


class ModelFailed(AgentError):
    """A server answered, and the answer says that it failed or says nothing."""

    code = "FB604"


class ReplayMissed(AgentError):
    """A replay would have to ask a model what it was not asked before, and was not told that it may."""

    code = "FB605"


class AnswerTooLong(AgentError):
    """A model went on and on, and was not listened to any longer; asking again would cost as much."""

    code = "FB606"


class EvaluationRefused(AgentError):
    """A data set or a scorer cannot be used; raised before anything runs."""

    code = "FB620"


class SecretMissing(AgentError):
    """A secret has no value in this process, or one that is too short to be kept out of what is stored."""

    code = "FB621"


class ToolServerFailed(AgentError):
    """An MCP server cannot be started, reached or asked for its tools."""

    code = "FB622"


class NotebookError(FlowbookError):
    """A notebook's cells or variables cannot be run, kept or brought back."""

    code = "FB700"


class CellFailed(NotebookError):
    """A cell of a notebook raised an exception, or was stopped; the text says which cell and what it raised."""

    code = "FB701"


class KernelDied(NotebookError):
    """The kernel of a notebook died under a cell: it was killed, took too much memory, or crashed."""

    code = "FB702"


class KernelNotStarted(NotebookError):
    """The kernel of a notebook could not be started, so none of its cells was executed."""

    code = "FB703"


class NotebookUnreadable(NotebookError):
    """What was given is no notebook, or there is nothing in it to execute."""

    code = "FB704"


class ResultMissing(NotebookError):
    """A notebook has not got the variable that was asked for as its result."""

    code = "FB705"


class CheckpointRefused(NotebookError):
    """A checkpoint is not signed with this user's key, or this Python cannot read it; nothing of it was loaded."""

    code = "FB720"


class CheckpointDamaged(NotebookError):
    """A piece of a checkpoint is gone, or was changed since it was written."""

    code = "FB721"


class VariableMissing(NotebookError):
    """A variable was used that the restored checkpoint does not have; the text says why, and which cell makes it."""

    code = "FB722"
