"""Flow cells: ``%%flow NAME``, or ``%flow NAME`` on the first line of a cell that goes on.

Owns: framing the cell, collecting its topologies, making the graph, binding it to its name and saying what there is to
say about it. Refuses: what the words in it mean (`names.py`), running the graph.

IPython never awaits a magic, and code that a magic runs has tracebacks of its own. So there is no magic here: an input
transformer turns the first line into a call and adds one at the end, and what stands between stays an ordinary cell,
with its own line numbers, source and top-level ``await``.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flowbook.errors import DeclarationError, FlowbookError, TopologyError
from flowbook.graph.expression import Composable, Terminal, fragment
from flowbook.graph.flow import Graph
from flowbook.graph.flow import graph as make_graph
from flowbook.graph.forms import nodes_of
from flowbook.graph.imperative import imperative
from flowbook.graph.names import NAME
from flowbook.graph.step import Policy, attempt_options
from flowbook.ids import short
from flowbook.jupyter.limits import LIMITS, limits
from flowbook.jupyter.mistakes import brief, usage
from flowbook.jupyter.names import HOOK, Words
from flowbook.jupyter.parse import Command, parse
from flowbook.show.html import flow_html
from flowbook.show.planned import plan_plain, planned_flow_html
from flowbook.show.text import flow_plain

if TYPE_CHECKING:
    from flowbook.jupyter.session import Session
    from flowbook.observe.planned import Plan
    from flowbook.rows import Registered

COMMAND = Command(
    "NAME",
    "Declare a flow: steps, then a topology such as START >> a >> [b, c] >> d >> END.",
    "%%flow research --state State",
    options={
        "--state CLASS": "the state's schema: a TypedDict, a dataclass or a pydantic model",
        "--freeze A,B": "notebook variables that belong to the flow, with their values",
        "--pickle": "carry what source cannot rebuild as a signed pickle (needs cloudpickle)",
        "--version TEXT": "a label of your own for this version",
        **LIMITS,
    },
)

PATIENCE = 3.0
"""Seconds that the plan after an edit may take: a run may have a journal of a million rows."""
BODY_LIMITS = frozenset({"retries", "backoff", "run_timeout"})
"""Options about attempts and time that mean something to an imperative flow."""
_MAGIC = re.compile(r"%%flow(?=\s|\Z)(.*)", re.DOTALL)
_LINE = re.compile(r"%flow[ \t]+([A-Za-z_]\w*)(?![\w(])(.*)", re.DOTALL)


def framed(lines: list[str], commands: frozenset[str] = frozenset()) -> list[str]:
    """The input transformer: a flow cell with a call before and a call behind, any other cell as it is.

    ``commands``: words behind ``%flow`` that are commands and not names of flows.
    """
    first = lines[0] if lines else ""
    magic = _MAGIC.match(first)
    if magic is not None:
        arguments = magic[1].strip()
        if arguments in ("--help", "-h", "?"):
            return [f"{HOOK}.help()\n"]
    else:
        line = _LINE.match(first)
        if line is None or line[1] in commands or not any(x.strip() for x in lines[1:]):
            return lines
        arguments = f"{line[1]}{line[2]}".strip()
    body = lines[1:] or ["\n"]
    if not body[-1].endswith("\n"):
        body = [*body[:-1], body[-1] + "\n"]
    return [f"{HOOK}.begin({arguments!r})\n", *body, f"{HOOK}.end()\n"]


@dataclass(frozen=True, slots=True)
class Begun:
    """What the first line said."""

    name: str
    state: str | None
    freeze: tuple[str, ...]
    pickled: bool
    version: str | None
    limits: Mapping[str, Any]


@dataclass
class Hook:
    """What a framed cell talks to. There is one per session; it stands among the builtins."""

    session: Session
    begun: Begun | None = None
    pieces: list[Any] = field(default_factory=list)
    words: Words = field(init=False)

    def __post_init__(self) -> None:
        self.words = Words(self.session.namespace)

    def help(self) -> None:
        """``%%flow --help``."""
        print(COMMAND.help("%%flow"))  # noqa: T201 - the answer to --help

    def begin(self, arguments: str) -> None:
        """The first line of a flow cell."""
        self.clear()
        parsed = parse(arguments, COMMAND)
        if len(parsed.words) != 1 or parsed.pairs or parsed.call:
            raise usage("%%flow takes the flow's name, as in `%%flow research --state State`")
        name = parsed.words[0]
        if not NAME.match(name):
            raise usage(f"{name!r} cannot be a flow's name: letters, digits and _ only, not starting with a digit")
        freeze = tuple(filter(None, (w.strip() for w in parsed.options.get("freeze", "").split(","))))
        self.begun = Begun(
            name, parsed.options.get("state"), freeze, "pickle" in parsed.options, parsed.options.get("version"),
            limits(parsed.options),
        )  # fmt: skip

    def collect(self, value: Any) -> Any:
        """A bare expression at the cell's top level: a topology joins the graph, anything else is itself."""
        if self.begun is None or not isinstance(value, Composable) or isinstance(value, Terminal):
            return value
        self.pieces.append(value)
        return None

    def end(self, *bodies: str) -> None:
        """The end of a flow cell: the graph is made, bound and shown.

        ``bodies``: the cell's functions that may be imperative flows; it is one if there is no topology.
        """
        begun, pieces = self.begun, self.pieces
        assert begun is not None, "a framed cell begins with begin()"
        self.clear()
        try:
            made = self._graph(begun, pieces, bodies)
            registered = self.session.declare(made)
        except FlowbookError as error:
            raise brief(error) from None
        repeated = self.session.repeated(made)
        notes, warnings = says(made, registered, repeated=repeated)
        edited = registered is not None and registered.previous is not None and not repeated
        plan = plan_after(self.session, made) if edited else None
        self.session.bind(made)
        if registered is None:
            warnings.append("not connected to a database, so it cannot run yet: %flow connect URL")
        html = flow_html(made, notes, warnings) if plan is None else planned_flow_html(plan, notes, warnings)
        plain = flow_plain(made) if plan is None else plan_plain(plan)
        self.session.publish({"text/html": html, "text/plain": "\n".join([plain, *notes, *warnings])})

    def clear(self) -> None:
        """Forget a cell that did not come to its end."""
        self.begun, self.pieces = None, []

    def _graph(self, begun: Begun, pieces: list[Any], bodies: tuple[str, ...]) -> Graph:
        if not pieces and len(bodies) == 1:
            return self._imperative(begun, bodies[0])
        if not pieces:
            raise TopologyError(
                begun.name, ("there is no topology in the cell: end it with, say, START >> first >> second >> END",)
            )
        if any(getattr(n, "name", "") == begun.name for p in pieces for n in nodes_of(fragment(p))):
            raise TopologyError(begun.name, (f"a step has the flow's own name {begun.name!r}: rename one of them",))
        namespace, freeze = self.session.namespace, self._frozen(begun)
        state = None
        if begun.state is not None:
            try:
                state = eval(begun.state, namespace)  # noqa: S307 - the user's own expression, in the user's namespace
            except Exception as error:
                raise DeclarationError(f"--state {begun.state}: {type(error).__name__}: {error}") from None
        return make_graph(
            begun.name, pieces[0], *pieces[1:], state=state, version=begun.version, freeze=freeze,
            pickled=begun.pickled, **begun.limits,
        )  # fmt: skip

    def _imperative(self, begun: Begun, name: str) -> Graph:
        """The flow of a function. Raises a usage error for an option that means nothing to one."""
        given = {*begun.limits, *(["state"] if begun.state is not None else [])}
        if wrong := sorted(given - BODY_LIMITS):
            options, those = (
                ", ".join(f"--{o.replace('_', '-')}" for o in sorted(names)) for names in (wrong, BODY_LIMITS)
            )
            raise usage(
                f"{options}: these belong to a topology, and the cell has the function {name!r} instead, which keeps "
                f"its own state, returns its result, and gives each step its options where it calls it. For the "
                f"function as a whole there are {those}"
            )
        limits = dict(begun.limits)
        run_timeout = limits.pop("run_timeout", None)
        policy = Policy(**attempt_options(**limits).policy)
        return imperative(
            self.session.namespace[name], begun.name, policy, version=begun.version, freeze=self._frozen(begun),
            pickled=begun.pickled, run_timeout=run_timeout,
        )  # fmt: skip

    def _frozen(self, begun: Begun) -> dict[str, Any]:
        """What ``--freeze`` names, with its values. Raises `DeclarationError`."""
        namespace = self.session.namespace
        missing = [n for n in begun.freeze if n not in namespace]
        if missing:
            raise DeclarationError(f"--freeze names {', '.join(map(repr, missing))}, which the notebook does not have")
        return {n: namespace[n] for n in begun.freeze}


def plan_after(session: Session, made: Graph) -> Plan | None:
    """What an edit means for the last run; None: there is none, or its code is this very code.

    It is there by the way, so nothing that goes wrong with it, or takes long, holds up the cell.
    """

    async def within() -> Plan:
        async with asyncio.timeout(PATIENCE):
            return await session.app.app.plan(made)

    try:
        plan = session.app.portal.call(within())
    except (FlowbookError, TimeoutError):
        return None
    return plan if plan.changes else None


def says(made: Graph, registered: Registered | None, *, repeated: bool) -> tuple[list[str], list[str]]:
    """What the cell says below its picture: (notes, warnings)."""
    if registered is None:
        return [], []
    version = f"v{registered.definition.version}"
    notes = [f"{made.name} {version}{f' ({made.version})' if made.version else ''}"]
    if repeated:
        notes[0] += ": unchanged"
    elif registered.previous is not None:
        changed = differences(registered)
        notes[0] += f", since v{registered.previous.version}: {changed}" if changed else ""
    warnings = []
    if registered.portable:
        notes[0] += " · portable: it can be resumed without this kernel"
    else:
        warnings = [f"not portable: {obstacle}" for obstacle in registered.obstacles]
    for row in registered.unfinished:
        at = f", at {row.current}" if row.current else ""
        notes.append(f"1 unfinished run, {row.status}{at}: %flow resume {short(row.id)}")
    return notes, warnings


def differences(registered: Registered) -> str:
    """What is new in this version, in one line."""
    from flowbook.graph.changes import changes  # reads definitions; needed only when a cell was edited

    assert registered.previous is not None
    try:
        return "; ".join(changes(registered.previous, registered.definition))
    except (KeyError, TypeError, ValueError):  # its rows are read as they are: another release may have written them
        return "it was stored by another release of flowbook, so it cannot be compared"
