"""MCP: tools of servers that speak the Model Context Protocol.

Owns: `mcp`, what a server offers as steps, and its sessions: one per server and app, kept as a resource. Refuses:
everything else of the protocol, and loading the package `mcp` before a server is used.

What a server offers is asked once, where the agent is declared, and is part of the definition from then on: a
conversation that goes on in another process offers its model the same tools. Each session lives in a task of its own,
because it must be left by the task that entered it; a server that has died is started anew by the next call.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import json
import tempfile
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flowbook.agents.parts import Image
from flowbook.errors import DeclarationError, ToolServerFailed
from flowbook.graph.durations import Duration
from flowbook.graph.names import NAME
from flowbook.graph.resource import resource
from flowbook.graph.step import Step, step
from flowbook.secret import Secret

PATIENCE = 30.0
"""Seconds that a server gets to start and to say what it offers."""


@dataclass(frozen=True, slots=True)
class ToolServer:
    """An MCP server. Made by `mcp`."""

    address: str
    """How it is reached, as JSON; secrets by their names."""
    only: tuple[str, ...] | None
    timeout: Duration | None
    prefix: str
    offered: list[dict[str, Any]] = field(default_factory=list, compare=False, repr=False)
    """What it has said; empty: it was not asked yet."""

    def steps(self) -> list[Step]:
        """Its tools, as steps; asks the server. Raises `ToolServerFailed`."""
        if not self.offered:
            self.offered.extend(_in_a_thread(_listed(self.address)))
        offered = self.offered
        unknown = [name for name in self.only or () if name not in {one["name"] for one in offered}]
        if unknown:
            has = ", ".join(one["name"] for one in offered)
            raise DeclarationError(f"mcp(tools={unknown!r}): the server has no such tool; it has {has or 'none'}")
        return [self._step(one) for one in offered if self.only is None or one["name"] in self.only]

    def _step(self, offered: Mapping[str, Any]) -> Step:
        own = f"{self.prefix}{offered['name']}"
        name = own if NAME.match(own) else "".join(c if c.isalnum() or c == "_" else "_" for c in own)
        server, tool, declared = self.address, str(offered["name"]), json.dumps({**offered, "name": name})

        @step(name=name, timeout=self.timeout)
        async def remote(arguments: dict[str, Any], mcp_sessions: Any = None) -> Any:
            check(declared, arguments)
            return await mcp_sessions.call(server, tool, arguments)

        return remote


def mcp(
    *,
    command: Sequence[str] | str | None = None,
    url: str | None = None,
    env: Mapping[str, str | Secret] | None = None,
    headers: Mapping[str, str | Secret] | None = None,
    tools: Sequence[str] | None = None,
    timeout: Duration | None = "2m",
    prefix: str = "",
) -> ToolServer:
    """The tools of an MCP server, for ``fb.agent(tools=[...])``.

        fb.mcp(command=["uvx", "mcp-server-git"])        fb.mcp(url="http://127.0.0.1:8000/mcp")

    ``command`` is started once per process and ended with the app; ``env`` are variables for it, ``headers`` go with
    requests to a ``url``: write keys as ``fb.Secret``. ``tools``: only these. ``timeout``: of one call. ``prefix``:
    before the tools' names, where two servers have the same. It needs the package ``mcp``
    (``flowbook-jupyter[mcp]``). Raises `DeclarationError`.
    """
    if (command is None) == (url is None):
        raise DeclarationError('mcp(): give it one of command=["program", ...] and url="http://..."')
    if isinstance(command, str):
        command = command.split()
    if command is not None and (not command or not all(isinstance(word, str) for word in command)):
        raise DeclarationError(f"mcp(command={command!r}): it is a program and its arguments")
    address = {"command": list(command), "env": _named(env)} if command else {"url": url, "headers": _named(headers)}
    return ToolServer(json.dumps(address), None if tools is None else tuple(tools), timeout, prefix)


def is_remote(thing: Any) -> bool:
    """Is a tool one of a server's?"""
    return isinstance(thing, Step) and "mcp_sessions" in thing.signature.parameters


def declared(thing: Step) -> dict[str, Any] | None:
    """What a server says of a tool: name, description, schema; None: the step is no server's."""
    if not is_remote(thing):
        return None
    seen = inspect.getclosurevars(inspect.unwrap(thing.fn))
    text = seen.nonlocals.get("declared", seen.globals.get("declared"))  # rebuilt from its source, it has no closure
    return json.loads(text) if isinstance(text, str) else None


def check(declared: str, arguments: Any) -> None:
    """Raise ValueError, with a text for the model, for arguments that do not fit a tool's schema."""
    jsonschema: Any = importlib.import_module("jsonschema")  # comes with mcp
    errors = jsonschema.Draft202012Validator(json.loads(declared)["schema"]).iter_errors(arguments)
    told = [f"{'.'.join(map(str, e.absolute_path)) or 'all of it'}: {e.message}" for e in errors]
    if told:
        raise ValueError(f"the arguments do not fit: {'; '.join(told)}")


class Sessions:
    """The sessions of one app, one per server."""

    def __init__(self) -> None:
        self._open: dict[str, _Session] = {}

    async def call(self, address: str, tool: str, arguments: dict[str, Any]) -> Any:
        """What a tool gives: a text, or a list of texts and images. Raises `ToolServerFailed`."""
        session = self._open.get(address)
        if session is None or session.task.done():
            session = self._open[address] = _Session(address)
        client = await asyncio.shield(session.ready)
        try:
            found = await client.call_tool(tool, arguments)
        except Exception as error:
            if "closed" in str(error).lower() or isinstance(error, OSError):
                session.over.set()  # it is dead: the next call begins with another one
                self._open.pop(address, None)
            raise ToolServerFailed(f"{_shown(address)}, {tool}: {_why(error)}") from error
        return _told(found)

    async def close(self) -> None:
        """End all servers that were started."""
        for session in self._open.values():
            session.over.set()
        await asyncio.gather(*(s.task for s in self._open.values()), return_exceptions=True)


@resource
async def mcp_sessions() -> AsyncIterator[Sessions]:
    """The sessions that live as long as the app."""
    sessions = Sessions()
    yield sessions
    await sessions.close()


@dataclass(eq=False)
class _Session:
    address: str
    over: asyncio.Event = field(default_factory=asyncio.Event)
    ready: asyncio.Future[Any] = field(init=False)
    task: asyncio.Task[None] = field(init=False)

    def __post_init__(self) -> None:
        self.ready = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(self._live(), name="flowbook-mcp")

    async def _live(self) -> None:
        try:
            async with _entered(self.address) as client:
                self.ready.set_result(client)
                await self.over.wait()
        except Exception as error:
            if not self.ready.done():
                self.ready.set_exception(error)
                self.ready.exception()  # looked at: who asked may be gone


@contextlib.asynccontextmanager
async def _entered(address: str) -> AsyncIterator[Any]:
    """A session with a server. Raises `ToolServerFailed` if there is none within `PATIENCE` seconds."""
    try:
        package: Any = await asyncio.to_thread(importlib.import_module, "mcp")
    except ImportError as error:
        raise ToolServerFailed('MCP servers need the package mcp: pip install "flowbook-jupyter[mcp]"') from error
    async with contextlib.AsyncExitStack() as stack:
        said = stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace"))  # noqa: SIM115  the stack's
        try:
            # Not sys.stderr: in a kernel it has no file descriptor that a process could write to.
            async with asyncio.timeout(PATIENCE):
                transport = await _transport(package, json.loads(address), said, stack)
                client = await stack.enter_async_context(package.Client(transport))
        except Exception as error:
            said.seek(0)
            words = said.read()[-500:].strip()
            raise ToolServerFailed(
                f"{_shown(address)} cannot be used: {_why(error)}{words and '; it said: '}{words}"
            ) from error
        yield client


async def _transport(package: Any, address: dict[str, Any], said: Any, stack: contextlib.AsyncExitStack) -> Any:
    if "command" in address:
        program, *arguments = address["command"]
        env = _valued(address["env"])
        return package.stdio_client(package.StdioServerParameters(command=program, args=arguments, env=env), said)
    http: Any = importlib.import_module("mcp.client.streamable_http")
    client = await stack.enter_async_context(http.create_mcp_http_client(headers=_valued(address["headers"])))
    return http.streamable_http_client(address["url"], http_client=client)


async def _listed(address: str) -> list[dict[str, Any]]:
    async with _entered(address) as client:
        found: list[dict[str, Any]] = []
        cursor = None
        while True:
            page = await client.list_tools(cursor=cursor)
            for one in page.tools:
                about = one.description or one.title or ""
                found.append({"name": one.name, "description": about, "schema": dict(one.input_schema)})
            cursor = page.next_cursor
            if not cursor:
                return found


def _told(result: Any) -> Any:
    """A server's result: a text where it is texts alone, else texts and images."""
    found: list[Any] = []
    for part in result.content:
        if part.type == "text":
            found.append(part.text)
        elif part.type == "image":
            found.append(Image.of(part.data, part.mime_type))
        elif part.type == "resource" and hasattr(part.resource, "text"):
            found.append(part.resource.text)
        else:
            found.append(f"[{part.type} that cannot be shown to a model]")
    if not found and result.structured_content is not None:
        found.append(json.dumps(result.structured_content, ensure_ascii=False))
    text = "\n".join(one for one in found if isinstance(one, str))
    if result.is_error:
        return f"Error: {text or 'the tool failed, and does not say why'}"
    return found if any(isinstance(one, Image) for one in found) else text


def _in_a_thread(coroutine: Any) -> Any:
    """The result of a coroutine, also where a loop is running: on a loop of its own."""
    found: list[Any] = []

    def work() -> None:
        try:
            found.append((asyncio.run(coroutine), None))
        except BaseException as error:
            found.append((None, error))

    thread = threading.Thread(target=work, name="flowbook-mcp")
    thread.start()
    thread.join()
    result, error = found[0]
    if error is not None:
        raise error
    return result


def _named(values: Mapping[str, str | Secret] | None) -> dict[str, Any]:
    return {k: {"secret": v.name} if isinstance(v, Secret) else str(v) for k, v in (values or {}).items()}


def _valued(values: Mapping[str, Any]) -> dict[str, str]:
    return {k: Secret(v["secret"]).get() if isinstance(v, dict) else v for k, v in values.items()}


def _shown(address: str) -> str:
    found = json.loads(address)
    return f"MCP server {found['url'] if 'url' in found else ' '.join(found['command'])!r}"


def _why(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return "it gave no answer in time" if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"
