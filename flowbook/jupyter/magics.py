"""Magics: ``%flow COMMAND``. Parse, call, return.

Owns: the table of commands and one short function for each. Refuses: logic; what a verb does is the app's business.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flowbook.errors import FlowbookError
from flowbook.ids import short
from flowbook.jupyter import fixing
from flowbook.jupyter.mistakes import brief, usage, without_our_frames
from flowbook.jupyter.parse import Command, Parsed, bound, count, known, parse, unquoted_value
from flowbook.plan.records import Status
from flowbook.show.diff import diff_html, diff_plain
from flowbook.show.html import flow_html, runs_html
from flowbook.show.text import flow_plain, runs_plain

if TYPE_CHECKING:
    from flowbook.jupyter.session import Session
    from flowbook.sync import SyncRun

_WAIT = {"--wait": "until the end; raises the step's own exception"}
_RUN = "RUN is an id, a unique beginning or ending of one, or `last`."

TABLE = {
    c.name: c
    for c in (
        Command(
            "run", "Start a run and show it live; back at once with its handle.",
            '%flow run research query="a text" k=5   or   %flow run research(query=q, k=n)', "FLOW [NAME=VALUE ...]",
            {"--key K": "re-attach to the run that has this key", **_WAIT},
        ),
        Command(
            "runs", "List runs, newest first.", "%flow runs --status failed", "",
            {"--status S": ", ".join(Status), "--flow F": "of this flow", "--limit N": "at most so many (20)"},
        ),
        Command(
            "show", f"Look into a run: topology, timeline, journal, state, output, code. {_RUN}", "%flow show last",
            "RUN",
        ),
        Command("graph", "Show a flow's topology.", "%flow graph research", "FLOW"),
        Command("resume", f"Carry on a run that nobody carries. {_RUN}", "%flow resume 3f2a1b9c", "RUN", _WAIT),
        Command("retry", f"Carry on a failed run from the step that failed. {_RUN}", "%flow retry last", "RUN",
                {**_WAIT, "--recursion-limit N": "how often a node may be reached from now on"}),
        Command(
            "signal", f"Send a run a signal, now or before it waits for one. {_RUN}",
            '%flow signal last approved by=ana', "RUN NAME [KEY=VALUE ...]",
        ),
        Command(
            "fork", f"Begin another run at one of a run's steps, with an edited state. {_RUN}",
            "%flow fork last --at judge#1 docs='[...]'", "RUN [KEY=VALUE ...]",
            {"--at PATH": "the step that it begins with, e.g. judge#1", **_WAIT},
        ),
        Command(
            "enter", "Put what a step was given and its source into a new cell, to be fixed there; without PATH, the "
            f"step that failed the run. {_RUN}", "%flow enter last fit#2", "RUN [PATH]",
        ),
        Command(
            "inputs", f"What a step was given, as a value. {_RUN}",
            "%flow inputs last fit#2   or   docs, k = %flow inputs last fit#2", "RUN [PATH]",
        ),
        Command(
            "continue", f"Carry a failed run on from the step that failed, with the code as it is now. {_RUN}",
            "%flow continue last", "RUN", _WAIT,
        ),
        Command("diff", f"Compare two runs: where they part, steps, state. {_RUN}", "%flow diff 3f2a9c01 last", "A B"),
        Command("cancel", f"Ask a run to stop. {_RUN}", "%flow cancel last", "RUN"),
        Command("status", "Which database, which flows, what is going on.", "%flow status"),
        Command(
            "connect", "Connect to another database; without a URL, to the one that the environment names or the "
            "embedded one.", "%flow connect postgresql://localhost/mine", "[URL]",
        ),
    )
}  # fmt: skip


class Magics:
    """The commands of a session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._verbs: dict[str, Callable[[Parsed], Any]] = {name: getattr(self, f"_{name}") for name in TABLE}

    def flow(self, line: str) -> Any:
        """``%flow ...``."""
        __tracebackhide__ = True
        name, _, rest = line.strip().partition(" ")
        if name in ("", "--help", "-h", "help"):
            print(overview())  # noqa: T201 - the answer to --help
            return None
        if name not in TABLE:
            flow = " (a flow cell needs its steps below this line)" if name in self._session.flow_names() else ""
            raise usage(f"%flow has no command {name!r}{flow}{known(name, list(TABLE))}; `%flow --help` lists them")
        command = TABLE[name]
        if rest.strip() in ("--help", "-h") or rest.rstrip().endswith(" --help"):
            print(command.help())  # noqa: T201 - the answer to --help
            return None
        parsed = parse(rest, command)
        if (name not in ("run", "signal", "fork") and parsed.pairs) or (name != "run" and parsed.call):
            raise usage(f"%flow {name} takes no inputs; `%flow {name} --help`")
        try:
            return self._verbs[name](parsed)
        except FlowbookError as error:
            raise brief(error) from None

    def _run(self, it: Parsed) -> SyncRun:
        __tracebackhide__ = True
        if it.call is not None:
            name, expressions = bound(it.call)
            graph = self._session.flow(name)
            values = {k: self._evaluate(e) for k, e in expressions.items()}
        else:
            graph, values = self._session.flow(_one(it, "run", "the flow's name")), {}
        run = self._session.app.start(graph, {**values, **it.pairs}, key=it.options.get("key"))
        return self.shown(run, it)

    def _runs(self, it: Parsed) -> None:
        limit = it.options.get("limit", "20")
        if not limit.isdigit():
            raise usage(f"--limit {limit!r} is not a number")
        rows = self._session.app.runs(
            flow=it.options.get("flow"), status=it.options.get("status"), limit=int(limit)
        ).page().rows  # fmt: skip
        self._session.publish({"text/html": runs_html(rows), "text/plain": runs_plain(rows)})

    def _show(self, it: Parsed) -> SyncRun:
        run = self._session.run(_one(it, "show", "a run"))
        self._session.displays.inspect(run)
        return run

    def _graph(self, it: Parsed) -> None:
        graph = self._session.flow(_one(it, "graph", "the flow's name"))
        self._session.publish({"text/html": flow_html(graph), "text/plain": flow_plain(graph)})

    def _resume(self, it: Parsed) -> SyncRun:
        __tracebackhide__ = True
        return self.shown(self._session.run(_one(it, "resume", "a run")).resume(), it)

    def _retry(self, it: Parsed) -> SyncRun:
        __tracebackhide__ = True
        text = it.options.get("recursion-limit")
        limit = None if text is None else count(text, "--recursion-limit")
        return self.shown(self._session.run(_one(it, "retry", "a run")).retry(recursion_limit=limit), it)

    def _signal(self, it: Parsed) -> None:
        if len(it.words) != 2:
            raise usage("%flow signal takes a run and the signal's name; `%flow signal --help`")
        run = self._session.run(it.words[0])
        run.signal(it.words[1], **it.pairs)
        needs = run.view().needs
        left = f"; it stands still: it needs {needs}" if needs else ""
        print(f"run {short(run.id)} has got {it.words[1]!r}{left}")  # noqa: T201 - the answer

    def _fork(self, it: Parsed) -> SyncRun:
        __tracebackhide__ = True
        parent = self._session.run(_one(it, "fork", "a run"))
        if "at" not in it.options:
            raise usage("%flow fork needs the step to begin with, as in --at judge#1; `%flow fork --help`")
        fork = parent.fork(it.options["at"], **{key: unquoted_value(value) for key, value in it.pairs.items()})
        return self.shown(fork, it)

    def _enter(self, it: Parsed) -> None:
        run, path = self._place(it, "enter")
        fixing.enter_cell(self._session, run, path)

    def _inputs(self, it: Parsed) -> Any:
        run, path = self._place(it, "inputs")
        return fixing.values(self._session, run, path)

    def _continue(self, it: Parsed) -> SyncRun:
        __tracebackhide__ = True
        run = self._session.run(_one(it, "continue", "a run"))
        print(fixing.go_on(self._session, run))  # noqa: T201 - what is different is never silent
        return self.shown(run, it)

    def _place(self, it: Parsed, command: str) -> tuple[SyncRun, str | None]:
        if len(it.words) not in (1, 2):
            raise usage(f"%flow {command} takes a run and the path of a step; `%flow {command} --help`")
        return self._session.run(it.words[0]), it.words[1] if len(it.words) == 2 else None

    def _diff(self, it: Parsed) -> None:
        if len(it.words) != 2:
            raise usage("%flow diff takes two runs; `%flow diff --help`")
        a, b = map(self._session.run, it.words)
        found = a.diff(b)
        self._session.publish({"text/html": diff_html(found), "text/plain": diff_plain(found)})

    def _cancel(self, it: Parsed) -> None:
        run = self._session.run(_one(it, "cancel", "a run"))
        status = run.cancel()
        told = f"is {status} already" if status.over and status is not Status.CANCELLED else "is asked to stop"
        print(f"run {short(run.id)} {'is cancelled' if status is Status.CANCELLED else told}")  # noqa: T201 - answer

    def _status(self, it: Parsed) -> None:
        app = self._session.app
        going = [r for r in app.runs(limit=200) if not r.status.over]
        flows = ", ".join(self._session.flow_names()) or "none"
        print(f"database: {app.shown}\nflows here: {flows}\nunfinished runs: {len(going)}")  # noqa: T201 - the answer
        if going:
            self._session.publish({"text/html": runs_html(going[:20]), "text/plain": runs_plain(going[:20])})

    def _connect(self, it: Parsed) -> None:
        if len(it.words) > 1:
            raise usage("%flow connect takes one URL")
        print(f"flowbook: {self._session.connect(*it.words)}")  # noqa: T201 - one line says which database it is

    def shown(self, run: SyncRun, it: Parsed) -> SyncRun:
        """Show a run that goes on; wait where that is asked for, or where nobody would see the end."""
        __tracebackhide__ = True
        displays = self._session.displays
        displays.show(run)
        # Who waits without looking for a run that listens would wait for the cell that sends the signal.
        if "wait" in it.options or (displays.headless and not run.view().listens):
            try:
                run.result()
            except Exception as error:
                raise without_our_frames(error) from error.__cause__
        return run

    def _evaluate(self, expression: ast.expr) -> Any:
        code = compile(ast.Expression(expression), "<%flow run>", "eval")
        return eval(code, self._session.namespace)  # noqa: S307 - the user's own expression, in the user's namespace


def overview() -> str:
    """The text of ``%flow --help``."""
    wide = max(map(len, TABLE))
    lines = [f"    %flow {c.name:<{wide}}  {c.what.removesuffix(_RUN).strip()}" for c in TABLE.values()]
    return "\n".join(
        ["%%flow NAME          declares a flow (`%%flow --help`)", *lines, "", "Each has --help with an example."]
    )


def _one(it: Parsed, command: str, what: str) -> str:
    if len(it.words) != 1:
        given = f", not {' '.join(it.words)!r}" if it.words else ""
        raise usage(f"%flow {command} takes {what}{given}; `%flow {command} --help`")
    return it.words[0]
