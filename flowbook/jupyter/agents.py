"""Agent cells: ``%%agent NAME`` declares an agent, ``%%ask NAME`` asks it.

Owns: what stands on their first lines, and which conversation a question goes on with. Refuses: the loop (`agents/`)
and pictures. The body of both cells is text and not code, so both are plain cell magics.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flowbook.agents.loop import agent
from flowbook.agents.settings import Budget, Model
from flowbook.errors import FlowbookError
from flowbook.graph.flow import Graph
from flowbook.jupyter.cell import says
from flowbook.jupyter.mistakes import brief, usage
from flowbook.jupyter.parse import Command, Parsed, count, known, parse
from flowbook.show.html import flow_html
from flowbook.show.text import flow_plain

if TYPE_CHECKING:
    from flowbook.jupyter.session import Session
    from flowbook.sync import SyncRun

AGENT = Command(
    "NAME",
    "Declare an agent; the rest of the cell is its instructions.",
    "%%agent researcher --model gpt-4.1-mini --tools search,add --approve send_mail --budget 0.50",
    options={
        "--model M": "the model's name, or a variable that is an fb.Model",
        "--tools A,B": "functions, steps and agents of the notebook that the model may call",
        "--approve A,B": "tools whose calls wait until somebody has agreed; or a function of (name, arguments)",
        "--output CLASS": "a pydantic model that the answer is to fit",
        "--budget USD": "what a run may cost, or a variable that is an fb.Budget",
        "--max-turns N": "how often a run may ask its model (20)",
        "--fallback A,B": "models for when the one before does not answer",
        "--base-url URL": "of an OpenAI-compatible server; left out: OPENAI_BASE_URL, else OpenAI's",
        "--api chat": "chat (default) or responses",
    },
)
ASK = Command(
    "NAME",
    "Ask an agent; the rest of the cell is the question. It goes on with the conversation of the last %%ask.",
    "%%ask researcher",
    options={
        "--new": "begin a new conversation",
        "--after RUN": "go on with the conversation of this run",
        "--key K": "a conversation of its own, which this cell attaches to when it is run again",
        "--wait": "until the answer; raises what the run failed with",
    },
)


class AgentMagics:
    """The two magics of a session."""

    def __init__(self, session: Session, shown: Callable[[SyncRun, Parsed], SyncRun]) -> None:
        self._session = session
        self._shown = shown
        self._last: dict[str, SyncRun] = {}
        """Agent -> the run of its last question."""

    def agent(self, line: str, cell: str | None = None) -> None:
        """``%%agent``."""
        it = self._parsed(AGENT, "%%agent", line)
        if it is None:
            return
        name = _name(it, AGENT, "%%agent")
        if "model" not in it.options:
            raise usage("%%agent needs --model, as in `--model gpt-4.1-mini`; `%%agent --help`")
        if not (cell or "").strip():
            raise usage("%%agent needs the agent's instructions below its first line")
        made = self._declared(name, (cell or "").strip(), it)
        notes, warnings = says(made, self._session.declare(made), repeated=self._session.repeated(made))
        self._session.bind(made)
        plain = "\n".join([flow_plain(made), *notes, *warnings])
        self._session.publish({"text/html": flow_html(made, notes, warnings), "text/plain": plain})

    def ask(self, line: str, cell: str | None = None) -> SyncRun | None:
        """``%%ask``."""
        __tracebackhide__ = True
        it = self._parsed(ASK, "%%ask", line)
        if it is None:
            return None
        name = _name(it, ASK, "%%ask")
        question = (cell or "").strip()
        if not question:
            raise usage("%%ask needs a question below its first line")
        key, flow = it.options.get("key"), self._session.flow(name)
        try:
            before = self._before(name, it)
            if before is None or key is not None:
                run = self._session.app.start(flow, {"question": question}, key=key)
            else:
                run = before.ask(question, graph=flow)
        except FlowbookError as error:
            raise brief(error) from None
        self._last[name] = run
        return self._shown(run, it)

    def _before(self, name: str, it: Parsed) -> SyncRun | None:
        """The run whose conversation a question goes on with; None: it begins one."""
        if "after" in it.options:
            return self._session.run(it.options["after"])
        return None if "new" in it.options else self._last.get(name)

    def _parsed(self, command: Command, magic: str, line: str) -> Parsed | None:
        if line.strip() in ("", "--help", "-h", "?"):
            print(command.help(magic).replace(f"{magic} NAME NAME", f"{magic} NAME"))  # noqa: T201 - the answer
            return None
        it = parse(line, command)
        if it.pairs or it.call:
            raise usage(f"{magic} takes a name and options; `{magic} --help`")
        return it

    def _declared(self, name: str, instructions: str, it: Parsed) -> Graph:
        options = it.options
        given: dict[str, Any] = {}
        if "approve" in options:
            given["approve"] = self._approve(options["approve"])
        if "output" in options:
            given["output"] = self._variable(options["output"], "--output")
        if "budget" in options:
            given["budget"] = self._budget(options["budget"])
        if "max-turns" in options:
            given["max_turns"] = count(options["max-turns"], "--max-turns")
        at = {"base_url": options.get("base-url"), "api": options.get("api", "chat")}
        fallback = [self._model(m, at) for m in _listed(options.get("fallback", ""))]
        tools = [self._variable(t, "--tools") for t in _listed(options.get("tools", ""))]
        try:
            return agent(
                name, instructions, model=self._model(options["model"], at), tools=tools, fallback=fallback, **given
            )
        except FlowbookError as error:
            raise brief(error) from None

    def _model(self, text: str, at: dict[str, Any]) -> Model:
        own = self._session.namespace.get(text)
        return own if isinstance(own, Model) else Model(text, **at)

    def _approve(self, text: str) -> Any:
        names = _listed(text)
        own = self._session.namespace.get(names[0]) if len(names) == 1 else None
        takes = getattr(getattr(own, "__code__", None), "co_varnames", ())[:2]
        return own if takes == ("name", "arguments") else names

    def _budget(self, text: str) -> Budget:
        own = self._session.namespace.get(text)
        if isinstance(own, Budget):
            return own
        try:
            usd = ast.literal_eval(text.removeprefix("$"))
        except (ValueError, SyntaxError):
            usd = None
        if type(usd) not in (int, float) or usd <= 0:
            raise usage(f"--budget {text!r}: USD, as in --budget 0.50, or a variable that is an fb.Budget")
        return Budget(usd=float(usd))

    def _variable(self, name: str, option: str) -> Any:
        space = self._session.namespace
        if name not in space:
            near = known(name, [n for n in space if n[:1] != "_"])
            raise usage(f"{option} {name}: the notebook has no {name!r}{near}")
        return space[name]


def _listed(text: str) -> list[str]:
    return [w.strip() for w in text.split(",") if w.strip()]


def _name(it: Parsed, command: Command, magic: str) -> str:
    if len(it.words) != 1:
        raise usage(f"{magic} takes the agent's name, as in `{command.example}`")
    return it.words[0]
