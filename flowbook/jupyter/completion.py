"""Completion: commands, options, flows and runs behind ``%flow``.

Owns: what can follow at the cursor. Refuses: failing: a completion that raises costs the user every other one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from IPython.core.completer import SimpleCompletion, context_matcher

from flowbook.graph.step import Step
from flowbook.ids import short
from flowbook.jupyter.cell import COMMAND
from flowbook.jupyter.magics import TABLE
from flowbook.jupyter.steps import complete as complete_step
from flowbook.namespace.keeper import users_names
from flowbook.plan.records import Status

if TYPE_CHECKING:
    from flowbook.jupyter.session import Session

RUN_COMMANDS = frozenset({
    "show", "resume", "retry", "cancel", "signal", "fork", "enter", "inputs", "continue", "approve", "reject", "answer",
})  # fmt: skip
OPEN_COMMANDS = frozenset({"approve", "reject", "answer"})
"""Commands whose path is that of an open decision."""
FLOW_COMMANDS = frozenset({"run", "graph", "plan", "prove", "promote", "export", "schedule"})
CHOICES = {
    "--on-change": ["own", "refuse", "new"],
    "--on-interrupt": ["keep", "cancel"],
    "--status": [s.value for s in Status],
    "--on-missed": ["skip", "latest", "all"],
    "--overlap": ["allow", "skip", "cancel-running", "queue"],
    "--tz": ["UTC", "Europe/", "America/", "Asia/", "Africa/", "Australia/"],
}
"""What may stand behind an option."""
_LINE = re.compile(r"(?:.*=\s*)?%(%?)flow[ \t]+(.*)\Z")


def matcher(session: Session) -> Callable[[Any], Any]:
    """The matcher to be put among the completer's own."""

    @context_matcher()
    def flow_matcher(context: Any) -> dict[str, Any]:
        try:
            found = complete(context.line_with_cursor[: context.cursor_position], session)
        except Exception:
            found = None
        if found is None:
            return {"completions": []}
        fitting = [SimpleCompletion(text=t, type="flow") for t in found if t.startswith(context.token)]
        return {"completions": fitting, "suppress": True}

    made: Callable[[Any], Any] = flow_matcher
    return made


def complete(text: str, session: Session) -> Sequence[str] | None:
    """What may stand at the end of ``text``, a line up to the cursor; None: it is no line of ours."""
    line = _LINE.match(text)
    if line is None:
        return complete_step(text, users_names(session.namespace))
    if line[1]:
        return _options(COMMAND.options)
    words = line[2].split()
    if not line[2] or line[2][-1:].isspace():
        words.append("")
    if len(words) == 1:
        return [*TABLE, "--help"]
    command, current, before = words[0], words[-1], words[-2]
    if command not in TABLE:
        return []
    if before in CHOICES:
        return CHOICES[before]
    if before == "--flow" or (command in FLOW_COMMANDS and len(words) == 2 and not current.startswith("-")):
        return session.flow_names()
    runs = 2 if command == "diff" else 1 if command in RUN_COMMANDS else 0
    if len(words) <= runs + 1 and not current.startswith("-"):
        ids = session.app.runs(limit=20).ids() if session.connected else []
        return ["last", *(short(i) for i in ids)]
    if (found := _places(session, words)) is not None:
        return found
    if command == "interrupt" and len(words) == 2:
        return ["keep", "cancel"]
    if before in ("--reuse", "--against"):
        return ["last", *(short(i) for i in session.app.runs(limit=20).ids())] if session.connected else ["last"]
    if command in ("run", "plan", "prove") and not current.startswith("-"):
        return [f"{name}=" for name in inputs(session, words[1])]
    return [*_options(TABLE[command].options), "--help"]


def _places(session: Session, words: Sequence[str]) -> list[str] | None:
    """Paths, and the signals that are heard there; None: none stands here."""
    command, current, before = words[0], words[-1], words[-2]
    if current.startswith("-") or len(words) < 3 or not session.connected:
        return None
    if command in OPEN_COMMANDS and len(words) in (3, 4):
        waiting = session.app.inbox(run=session.run(words[1]))
        if len(words) == 3:
            return [it.path for it in waiting]
        return [s for it in waiting if it.path == words[2] for s in it.signals] if command == "answer" else None
    if (command in ("enter", "inputs") and len(words) == 3) or (command == "fork" and before == "--at"):
        return list(dict.fromkeys(step.path for step in session.run(words[1]).view().steps))
    if command == "signal" and len(words) == 3:
        spec = session.run(words[1]).view().spec
        return [s for n in spec.get("nodes", ()) for s, _ in n.get("wait", {}).get("signals", ())]
    return None


def inputs(session: Session, flow: str) -> list[str]:
    """Names that a flow's steps ask for and no step of its own gives."""
    nodes = session.flow(flow).nodes
    steps = [node.step for node in nodes.values() if isinstance(node.step, Step)]
    asked = {p for step in steps for p in step.signature.parameters}
    return sorted(asked - {*nodes, *session.flow(flow).signals, "ctx", "state"})


def _options(options: Any) -> list[str]:
    return [o.partition(" ")[0] for o in options]
