"""Magics: ``%flow COMMAND``. Parse, call, return.

Owns: the table of commands and one short function for each. Refuses: logic; what a verb does is the app's business.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flowbook.errors import FlowbookError
from flowbook.ids import short
from flowbook.jupyter import fixing, preparing, schedules
from flowbook.jupyter.answers import control, of_inbox, who
from flowbook.jupyter.beside import Beside
from flowbook.jupyter.displays import OnInterrupt
from flowbook.jupyter.mistakes import brief, usage, without_our_frames
from flowbook.jupyter.parse import Command, Parsed, bound, count, known, parse, unquoted_value
from flowbook.jupyter.runs import show_runs
from flowbook.observe.inbox import DecisionView
from flowbook.plan.records import Status
from flowbook.run.deciding import Answered
from flowbook.run.saying import NOTHING
from flowbook.show.compared import diff_html
from flowbook.show.diff import diff_plain
from flowbook.show.html import flow_html, runs_html
from flowbook.show.inbox import Inbox, inbox_html, inbox_plain
from flowbook.show.outputs import outputs_html, outputs_plain
from flowbook.show.planned import plan_html, plan_plain
from flowbook.show.text import flow_plain, runs_plain

if TYPE_CHECKING:
    from flowbook.graph.flow import Graph
    from flowbook.jupyter.session import Session
    from flowbook.sync import SyncRun

_WAIT = {"--wait": "until the end; raises the step's own exception"}
_CHANGE = {
    "--on-change own|refuse|new": "a run that began with other code: under its own version, not at all, or (failed) new"
}
_INTERRUPT = {"--on-interrupt keep|cancel": "what an interrupt of the cell does to the run"}
_BY = {"--by NAME": "who decides (this user)", "--edit JSON": "the whole payload, where it is no set of KEY=VALUE"}
_RUN = "RUN is an id, a unique beginning or ending of one, or `last`."

TABLE = {
    c.name: c
    for c in (
        Command(
            "run", "Start a run and show it live; back at once with its handle.",
            '%flow run research query="a text" k=5   or   %flow run research(query=q, k=n)', "FLOW [NAME=VALUE ...]",
            {
                "--key K": "re-attach to the run that has this key", **_CHANGE,
                "--reuse RUN": "make again only what `%flow plan` says; `last`: beside the last run with that input",
                **_WAIT, **_INTERRUPT,
            },
        ),
        Command(
            "plan", "What a run would do: which results of the last run with that input it would reuse, why the rest "
            "is made again, and what that may take. Nothing is executed.",
            '%flow plan research   or   %flow plan research query="a text"   or   %flow plan research(query=q)',
            "FLOW [NAME=VALUE ...]", {"--against RUN": "compare with this run"},
        ),
        Command(
            "prove", "Build a flow from its stored source in clean processes, kill those at every step boundary, and "
            "compare. Its steps really run, twice at least.",
            '%flow prove research(query="x")', "FLOW [NAME=VALUE ...]",
            {
                "--signal NAME": "send it this signal before; several with commas",
                "--ignore NAME": "a step or state key that may differ; several with commas",
                "--timeout SECONDS": "for all of it (300)", "--kills N": "processes that are killed at most (25)",
            },
        ),
        Command(
            "promote", "Pin this version of a flow, once it is proven: it is what is started by its name from now on.",
            '%flow promote research --cron "0 6 * * *"', "FLOW [NAME=VALUE ...]",
            {
                "--cron CRON": "have workers start it then, at this version, with this input",
                "--tz ZONE": "time zone of --cron (UTC)", "--unproven": "although no proof of it has passed",
            },
        ),
        Command(
            "export", "Write a flow as a plain module that declares the very same version: its runs go on with it "
            "(`flowbook resume RUN --module FILE`).", "%flow export research research.py", "FLOW FILE",
            {"--force": "write over a file that is there"},
        ),
        Command(
            "runs", "A table of runs, newest first; NAME=VALUE: only those with this input.",
            "%flow runs --status failed --since 24h", "[NAME=VALUE ...]",
            {
                "--status S": f"{', '.join(Status)}; several with commas", "--flow F": "of this flow",
                "--since T": "made since then: 24h, 7d, 2026-11-21", "--match TEXT": "in flow, key, error, place or id",
                "--sort BY": "created_at, started_at, ended_at, duration, flow, status; -duration: the longest first",
                "--limit N": "rows of a page (20)",
            },
        ),
        Command(
            "show", f"Look into a run: topology, timeline, journal, state, output, code. {_RUN}", "%flow show last",
            "RUN",
            {"--outputs": "what its steps printed, logged, displayed and plotted, and nothing else"},
        ),
        Command("graph", "Show a flow's topology.", "%flow graph research", "FLOW"),
        Command("resume", f"Carry on a run that nobody carries. {_RUN}", "%flow resume 3f2a1b9c", "RUN",
                {**_CHANGE, **_WAIT, **_INTERRUPT}),
        Command("retry", f"Carry on a failed run from the step that failed, with an edited state if you like. {_RUN}",
                "%flow retry last", "RUN [KEY=VALUE ...]",
                {**_WAIT, "--recursion-limit N": "how often a node may be reached from now on"}),
        Command(
            "signal", f"Send a run a signal, now or before it waits for one. {_RUN}",
            '%flow signal last approved by=ana', "RUN NAME [KEY=VALUE ...]",
        ),
        Command(
            "approve", f"Say yes to what a run waits for (without PATH: if it is one thing). The first counts. {_RUN}",
            "%flow approve last   or   %flow approve 3f2a1b9c gate#1 amount=3", "RUN [PATH] [KEY=VALUE ...]", _BY,
        ),
        Command(
            "reject", f"Say no to what a run waits for, and why. {_RUN}", "%flow reject last gate#1 too dear",
            "RUN [PATH] [WHY]", _BY,
        ),
        Command(
            "answer", f"Decide what a run waits for with a signal that is neither a yes nor a no. {_RUN}",
            "%flow answer last gate#1 escalate to=ben", "RUN PATH SIGNAL [KEY=VALUE ...]", _BY,
        ),
        Command(
            "inbox", "What waits for somebody's decision, across runs.", "%flow inbox --flow research", "",
            {"--flow F": "of this flow", "--limit N": "at most so many runs (100)"},
        ),
        Command(
            "interrupt", "What an interrupt of a cell does to the run that it shows: keep it going, or cancel it; "
            "without a word, how it is now. FLOWBOOK_ON_INTERRUPT sets it for all notebooks.", "%flow interrupt cancel",
            "[keep|cancel]",
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
        schedules.COMMAND,
        Command("status", "Which database, which flows, what is going on.", "%flow status"),
        Command(
            "connect", "Connect to another database; without a URL, to the one that the environment names or the "
            "embedded one.", "%flow connect postgresql://localhost/mine", "[URL]",
        ),
    )
}  # fmt: skip


PAIRED = frozenset({
    "run", "plan", "prove", "promote", "runs", "signal", "fork", "approve", "reject", "answer", "schedule",
})  # fmt: skip
"""Commands that take ``key=value``."""


CALLED = frozenset({"run", "plan", "prove", "promote"})
"""Commands that take a call, ``research(query=q)``."""


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
        if (name not in PAIRED and parsed.pairs) or (name not in CALLED and parsed.call):
            raise usage(f"%flow {name} takes no inputs; `%flow {name} --help`")
        try:
            return self._verbs[name](parsed)
        except FlowbookError as error:
            raise brief(error) from None

    def _run(self, it: Parsed) -> SyncRun:
        __tracebackhide__ = True
        graph, values = self._called(it, "run")
        if "reuse" in it.options:
            if "key" in it.options:
                raise usage("a run that reuses another one is a fork of it, which has no key: leave out --key")
            run = self._session.app.reuse(graph, values or None, against=self._beside(it, "reuse"))
        else:
            chosen: Any = it.options.get("on-change", "refuse")
            run = self._session.app.start(graph, values, key=it.options.get("key"), on_change=chosen)
        return self.shown(run, it)

    def _plan(self, it: Parsed) -> None:
        graph, values = self._called(it, "plan")
        plan = self._session.app.plan(graph, values or None, against=self._beside(it, "against"))
        self._session.publish({"text/html": plan_html(plan), "text/plain": plan_plain(plan)})

    def _prove(self, it: Parsed) -> None:
        graph, values = self._called(it, "prove")
        preparing.prove(self._session, graph, values, it.options)

    def _promote(self, it: Parsed) -> None:
        graph, values = self._called(it, "promote")
        print(preparing.promote(self._session, graph, values, it.options))  # noqa: T201 - the answer

    def _export(self, it: Parsed) -> None:
        if len(it.words) != 2:
            raise usage("%flow export takes a flow and a file; `%flow export --help`")
        print(preparing.export(self._session.flow(it.words[0]), it.words[1], it.options))  # noqa: T201 - the answer

    def _called(self, it: Parsed, command: str) -> tuple[Graph, dict[str, Any]]:
        """The flow and the inputs that were typed, as words or as a call."""
        if it.call is None:
            return self._session.flow(_one(it, command, "the flow's name")), dict(it.pairs)
        name, expressions = bound(it.call)
        return self._session.flow(name), {**{k: self._evaluate(e) for k, e in expressions.items()}, **it.pairs}

    def _beside(self, it: Parsed, option: str) -> SyncRun | None:
        """The run that an option names; None: the last one with that input."""
        text = it.options.get(option)
        return None if text in (None, "last") else self._session.run(text)

    def _runs(self, it: Parsed) -> None:
        limit = it.options.get("limit", "20")
        if not limit.isdigit():
            raise usage(f"--limit {limit!r} is not a number")
        found = self._session.app.runs(flow=it.options.get("flow"), limit=int(limit))
        for option, verb in (("since", "since"), ("sort", "sort"), ("match", "matching")):
            if option in it.options:
                found = getattr(found, verb)(it.options[option])
        if "status" in it.options:
            found = found.status(*filter(None, it.options["status"].split(",")))
        if it.pairs:
            found = found.input(**it.pairs)
        show_runs(self._session, found)

    def _show(self, it: Parsed) -> SyncRun | None:
        run = self._session.run(_one(it, "show", "a run"))
        if "outputs" in it.options:
            said = run.outputs()
            html = outputs_html(said) or "<div>nothing was printed</div>"
            self._session.publish({"text/html": html, "text/plain": outputs_plain(said)})
            return None
        self._session.displays.inspect(run)
        return run

    def _graph(self, it: Parsed) -> None:
        graph = self._session.flow(_one(it, "graph", "the flow's name"))
        self._session.publish({"text/html": flow_html(graph), "text/plain": flow_plain(graph)})

    def _resume(self, it: Parsed) -> SyncRun:
        __tracebackhide__ = True
        chosen: Any = it.options.get("on-change", "own")
        return self.shown(self._session.run(_one(it, "resume", "a run")).resume(on_change=chosen), it)

    def _retry(self, it: Parsed) -> SyncRun:
        __tracebackhide__ = True
        text = it.options.get("recursion-limit")
        limit = None if text is None else count(text, "--recursion-limit")
        edits = {key: unquoted_value(value) for key, value in it.pairs.items()}
        return self.shown(self._session.run(_one(it, "retry", "a run")).retry(recursion_limit=limit, **edits), it)

    def _signal(self, it: Parsed) -> None:
        if len(it.words) != 2:
            raise usage("%flow signal takes a run and the signal's name; `%flow signal --help`")
        run = self._session.run(it.words[0])
        run.signal(it.words[1], **it.pairs)
        needs = run.view().needs
        left = f"; it stands still: it needs {needs}" if needs else ""
        print(f"run {short(run.id)} has got {it.words[1]!r}{left}")  # noqa: T201 - the answer

    def _approve(self, it: Parsed) -> None:
        if len(it.words) not in (1, 2):
            raise usage("%flow approve takes a run and, if it waits at several places, a path; `%flow approve --help`")
        run, path = self._session.run(it.words[0]), it.words[1] if len(it.words) == 2 else None
        self._decided(run, run.approve(path, **self._said(it)), "approved")

    def _reject(self, it: Parsed) -> None:
        if not it.words:
            raise usage("%flow reject takes a run, a path if there are several, and why; `%flow reject --help`")
        run, rest = self._session.run(it.words[0]), list(it.words[1:])
        path = rest.pop(0) if rest and "#" in rest[0] else None
        self._decided(run, run.reject(path, " ".join(rest), **self._said(it)), "rejected")

    def _answer(self, it: Parsed) -> None:
        if len(it.words) != 3:
            raise usage("%flow answer takes a run, a path and a signal; `%flow answer --help`")
        run = self._session.run(it.words[0])
        said = run.answer(it.words[1], it.words[2], **self._said(it))
        self._decided(run, said, f"answered with {said.signal!r}")

    def _said(self, it: Parsed) -> dict[str, Any]:
        """Payload and who, as the verbs take them; ``by=`` is who, as ``--by`` is."""
        return {"by": who(self._session.env), **it.pairs, **_named(it.options, "by"), "edit": _edit(it)}

    def _decided(self, run: SyncRun, said: Answered, what: str) -> None:
        needs = run.view().needs
        left = f"; it stands still: it needs {needs}" if needs else ""
        print(f"run {short(run.id)}: {said.path} is {what} by {said.by}{left}")  # noqa: T201 - the answer

    def _inbox(self, it: Parsed) -> None:
        session, flow = self._session, it.options.get("flow")
        limit = count(it.options.get("limit", "100"), "--limit")
        found = session.app.inbox(flow=flow, limit=limit)
        bundle = {"text/html": inbox_html(found), "text/plain": inbox_plain(found)}
        place: list[Beside] = []

        def changed(now: Sequence[DecisionView]) -> None:
            if place:
                place[0].still({"text/html": inbox_html(now), "text/plain": inbox_plain(now)})

        place.append(
            session.displays.put(
                bundle, lambda: Inbox(found, of_inbox(session, flow, limit, changed), control(session))
            )
        )

    def _interrupt(self, it: Parsed) -> None:
        if len(it.words) > 1:
            raise usage("%flow interrupt takes keep or cancel; `%flow interrupt --help`")
        if it.words:
            self._session.on_interrupt = _on_interrupt(it.words[0])
        means = "goes on" if self._session.on_interrupt == "keep" else "is cancelled"
        print(f"when a cell is interrupted, the run that it shows {means}")  # noqa: T201 - the answer

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

    def _schedule(self, it: Parsed) -> None:
        schedules.run(self._session, it)

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
        chosen = it.options.get("on-interrupt")
        displays.show(run, on_interrupt=None if chosen is None else _on_interrupt(chosen))
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


def _named(options: Mapping[str, str], name: str) -> dict[str, str]:
    return {name: options[name]} if name in options else {}


def _edit(it: Parsed) -> Any:
    """The payload that stands in ``--edit``. Raises a usage error for what is no JSON."""
    text = it.options.get("edit")
    if text is None:
        return NOTHING
    try:
        return json.loads(text)
    except ValueError as error:
        raise usage(f"--edit {text!r} is not JSON: {error}") from None


def _on_interrupt(text: str) -> OnInterrupt:
    if text == "keep":
        return "keep"
    if text == "cancel":
        return "cancel"
    raise usage(f"{text!r}: an interrupt lets a run go on (keep) or cancels it (cancel)")


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
