"""A scripted model: an OpenAI-compatible server for tests, on this machine, that counts what it is asked.

Owns: `ScriptedModel`, its rules, and the two dialects of the wire: chat completions and responses, whole and streamed.
Refuses: being clever. A rule is chosen by what the conversation *says* and never by how often somebody asked, so the
answers stay right when a run is killed, resumed, forked or repeated.

    with ScriptedModel() as model:
        model.on("2 + 3", calls=[("add", {"a": 2, "b": 3})])
        model.on("5", text="The sum is 5.")         # the last message holds the text: here the tool's result
        ... OpenAI(base_url=model.base_url, api_key="none") ...
        assert model.count("2 + 3") == 1
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from flowbook.testing.wire import DIALECTS, Dialect, Reply

Match = str | Callable[[list[dict[str, Any]]], bool]
"""A text that the last message must hold, or a function of all messages."""


@dataclass(frozen=True)
class Asked:
    """One request that came."""

    model: str
    messages: list[dict[str, Any]]
    body: Mapping[str, Any]
    at: float
    """``time.monotonic()``."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """By their names in lower case."""

    @property
    def last(self) -> str:
        """The text of the last message."""
        return text_of(self.messages[-1]) if self.messages else ""


@dataclass
class Rule:
    """What is answered when."""

    match: Match
    reply: Reply
    model: str | None = None
    """Only this model answers so; None: any."""
    fails: list[int] = field(default_factory=list)
    """HTTP statuses of the first requests that this rule meets, before it answers; 0: the connection is cut."""

    def fits(self, asked: Asked) -> bool:
        """Is this the answer to that request?"""
        if self.model is not None and self.model != asked.model:
            return False
        return self.match in asked.last if isinstance(self.match, str) else bool(self.match(asked.messages))


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a message, whatever its form."""
    content = message.get("content", message.get("output", ""))
    if isinstance(content, str):
        return content
    return " ".join(str(part.get("text", "")) for part in content or ())


class ScriptedModel:
    """The server; a context manager. Rules are tried in their order; without a match the answer is HTTP 400."""

    def __init__(self) -> None:
        self.requests: list[Asked] = []
        self._rules: list[Rule] = []
        self._guard = threading.Lock()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def base_url(self) -> str:
        """For ``OPENAI_BASE_URL`` or ``Model(base_url=)``."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def on(
        self,
        match: Match,
        text: str = "",
        *,
        calls: Sequence[tuple[str, Mapping[str, Any] | str]] = (),
        model: str | None = None,
        pace: float = 0.0,
        fails: Sequence[int] = (),
        cut_after: int | None = None,
        usage: tuple[int, int] | None = None,
        thinking: str = "",
    ) -> ScriptedModel:
        """Add a rule: what to answer when the last message holds ``match``, or when ``match(messages)`` is true.

        ``calls``: tools to call, (name, arguments); a text as arguments goes out as it is, however broken. ``pace``:
        seconds between two pieces of a stream. ``fails``: HTTP statuses that come first, one per request (0: the
        connection is cut at once). ``cut_after``: cut the stream after so many pieces, the first time. ``usage``:
        tokens (in, out). ``thinking``: what a reasoning model says before.
        """
        reply = Reply(text, tuple((n, a if isinstance(a, str) else json.dumps(a)) for n, a in calls), pace, cut_after,
                      usage, thinking)  # fmt: skip
        with self._guard:
            self._rules.append(Rule(match, reply, model, list(fails)))
        return self

    def count(self, match: Match | None = None) -> int:
        """How many requests came, or how many of them ``match``."""
        rule = None if match is None else Rule(match, Reply())
        with self._guard:
            return sum(rule is None or rule.fits(asked) for asked in self.requests)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, asked: Asked) -> tuple[int | None, Reply]:
        """(status, reply) for a request, which is noted; None as status: cut the connection."""
        with self._guard:
            self.requests.append(asked)
            rule = next((r for r in self._rules if r.fits(asked)), None)
            if rule is None:
                return 400, Reply(f"the script has no answer to {asked.last[:200]!r}")
            if rule.fails:
                return rule.fails.pop(0) or None, Reply("the script says that this fails")
            reply = rule.reply
            if reply.cut_after is not None:  # once
                rule.reply = Reply(reply.text, reply.calls, reply.pace, None, reply.usage, reply.thinking)
            return 200, reply


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, script: ScriptedModel) -> None:
        self.script = script
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away (a process that was killed) is nothing to report."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        dialect = DIALECTS.get(self.path.partition("?")[0].rsplit("/v1/", 1)[-1])
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        if dialect is None:
            self._whole(404, {"error": {"message": f"no such path: {self.path}"}})
            return
        asked = Asked(body.get("model", ""), dialect.messages(body), body, time.monotonic(),
                      {name.lower(): text for name, text in self.headers.items()})  # fmt: skip
        status, reply = self.server.script.answer(asked)
        if status is None:
            self._cut()
        elif status != 200:
            self._whole(status, {"error": {"message": reply.text, "type": "scripted", "code": status}})
        elif body.get("stream"):
            self._stream(dialect, asked, reply)
        else:
            self._whole(200, dialect.whole(asked.model, asked.body, reply))

    def _whole(self, status: int, content: Mapping[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, dialect: Dialect, asked: Asked, reply: Reply) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number, piece in enumerate(self._pieces(dialect, asked, reply)):
            if reply.cut_after is not None and number >= reply.cut_after:
                self._cut()
                return
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            if reply.pace:
                time.sleep(reply.pace)
        self.wfile.write(b"0\r\n\r\n")

    @staticmethod
    def _pieces(dialect: Dialect, asked: Asked, reply: Reply) -> Iterator[bytes]:
        for event in dialect.pieces(asked.model, asked.body, reply):
            name = f"event: {event['type']}\n" if dialect.named else ""
            yield f"{name}data: {json.dumps(event)}\n\n".encode()
        if not dialect.named:
            yield b"data: [DONE]\n\n"

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
