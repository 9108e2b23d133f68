"""MCP tools against a real server on stdio, and images and files in messages."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flowbook.agents.loop import agent
from flowbook.agents.mcp import ToolServer, mcp
from flowbook.agents.parts import File, Image
from flowbook.agents.settings import Model
from flowbook.app import App
from flowbook.codec import decode, encode
from flowbook.errors import DeclarationError, ToolServerFailed
from flowbook.graph.flow import Graph
from flowbook.graph.portable import obstacles
from flowbook.graph.rebuild import rebuild
from flowbook.graph.sign import sign
from flowbook.graph.source import describe
from flowbook.secret import Secret
from flowbook.testing import ScriptedModel, memory_app
from tests.unit.agents.mcp_server import PIXEL

SERVER = Path(__file__).with_name("mcp_server.py")


@pytest.fixture
def model() -> Iterator[ScriptedModel]:
    """A server with no rules yet."""
    with ScriptedModel() as model:
        yield model


@pytest.fixture
async def app() -> AsyncIterator[App]:
    """An app in memory."""
    async with memory_app() as app:
        yield app


def made(model: ScriptedModel, tools: list[Any], api: Any = "chat", **options: Any) -> Graph:
    """An agent that asks the scripted model."""
    return agent("helper", "You help.", model=Model("m", base_url=model.base_url, api=api), tools=tools, **options)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> ToolServer:
    """The server, which is asked once what it offers. It notes each start."""
    starts = tmp_path_factory.mktemp("mcp") / "starts"
    key = Secret("server_token", "token-of-server-xyz")
    return mcp(command=[sys.executable, str(SERVER), str(starts)], env={"SERVER_TOKEN": key})


def starts(server: ToolServer) -> int:
    """How often it was started."""
    return len(Path(json.loads(server.address)["command"][-1]).read_text().split())


async def test_tools_of_a_server_are_called_in_one_session_and_their_errors_are_told(
    app: App, model: ScriptedModel, server: ToolServer
) -> None:
    """Schemas come from the server; wrong arguments, failing tools and a server that dies are texts for the model."""
    calls: list[Any] = [
        ("add", {"a": 2, "b": 3}), ("add", {"a": "x"}), ("fail", {"why": "because"}), ("token", {}), ("nothing", {}),
    ]  # fmt: skip
    model.on("begin", calls=calls).on("no tool", calls=[("die", {})]).on(
        "MCP server", calls=[("add", {"a": 4, "b": 5})]
    )
    model.on("9", "Done.")
    it = made(model, [server], max_turns=9)
    before = starts(server)  # it was asked for its tools
    run = await app.start(it, {"question": "begin"})
    assert (await run.result(timeout=60))["answer"] == "Done."
    offered = {t["function"]["name"]: t["function"] for t in model.requests[0].body["tools"]}
    assert set(offered) == {"add", "picture", "fail", "die", "token"}
    assert offered["add"]["description"] == "Add two numbers."
    assert offered["add"]["parameters"]["required"] == ["a", "b"]
    said = [m["content"] for m in (await run.state())["messages"] if m["role"] == "tool"]
    assert said[0] == "5"
    assert "do not fit" in said[1]
    assert "'b' is a required property" in said[1]
    assert "because" in said[2]
    assert said[2].startswith("Error")
    assert said[3] == "xyz"
    assert "there is no tool 'nothing'" in said[4]
    assert "MCP server" in said[5]
    assert said[6] == "9"
    assert starts(server) == before + 2  # the session, and the one after its death
    assert "token-of-server" not in json.dumps([describe(it).spec, describe(it).sources])


async def test_an_agent_with_a_server_s_tools_is_rebuilt_from_its_source(
    app: App, model: ScriptedModel, server: ToolServer
) -> None:
    """What the server offered is part of the definition, and the rebuilt agent calls it."""
    it = made(model, [replace(server, only=("add",), prefix="math_")], approve=["math_add"])
    described = describe(it)
    assert obstacles(described) == ()
    spec, sources = json.loads(json.dumps([described.spec, described.sources]))
    signature = sign(b"key", "default", it.name, it.fingerprint, spec, sources)
    stored: Any = SimpleNamespace(
        namespace="default", flow=it.name, fingerprint=it.fingerprint, spec=spec, sources=sources, signature=signature
    )
    again = rebuild(stored, key=b"key")
    assert again.fingerprint == it.fingerprint
    model.on("sum", calls=[("math_add", {"a": 2, "b": 3})]).on("5", "Five.")
    run = await app.start(again, {"question": "sum"})
    while not await app.inbox(run_id=run.id):
        assert not (await run.status()).over
        await asyncio.sleep(0.01)
    await run.approve()
    assert (await run.result(timeout=60))["answer"] == "Five."


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_an_image_that_a_tool_returns_is_shown_to_the_model(
    app: App, model: ScriptedModel, server: ToolServer, api: str
) -> None:
    """In the words of either API; and a question may have images, files and texts."""
    model.on("what is this", calls=[("picture", {})]).on(lambda m: len(m) > 2, "A point.")
    question = ["what is this?", Image(PIXEL), File(b"a,b\n1,2\n", name="table.csv")]
    run = await app.start(made(model, [replace(server, only=("picture",))], api), {"question": question})
    assert (await run.result(timeout=60))["answer"] == "A point."
    first, last = (json.dumps(asked.body) for asked in (model.requests[0], model.requests[-1]))
    assert first.count(Image(PIXEL).url) == 1
    assert "table.csv:\\na,b" in first
    assert last.count(Image(PIXEL).url) == 2
    kinds = {"chat": '"type": "image_url"', "responses": '"type": "input_image"'}
    assert kinds[api] in last


def test_images_and_files_are_values(tmp_path: Path) -> None:
    """They come back as they were; a path is read when they are made."""
    at = tmp_path / "x.png"
    at.write_bytes(PIXEL)
    for one in (Image(at), File(str(at)), File(b"%PDF-1.7 x", name="a.pdf"), Image(PIXEL)):
        back: Any = decode(encode(one))
        assert type(back) is type(one)
        assert (back.data, back.mime, back.name) == (one.data, one.mime, one.name)
    assert Image(at).mime == "image/png"
    assert File(b"%PDF-1.7 x", name="a.pdf").part["file"]["filename"] == "a.pdf"
    with pytest.raises(DeclarationError, match="cannot be read"):
        Image("nowhere.png")
    with pytest.raises(DeclarationError, match="no image"):
        Image(b"plain text")


def test_servers_that_cannot_be_used_say_why(model: ScriptedModel, server: ToolServer) -> None:
    """Where the agent is declared, with what the server said."""
    with pytest.raises(ToolServerFailed, match="cannot be used"):
        made(model, [mcp(command=["no-such-program-here"])])
    with pytest.raises(ToolServerFailed, match="it said: no way"):
        made(model, [mcp(command=[sys.executable, "-c", "import sys; sys.exit('no way')"])])
    with pytest.raises(DeclarationError, match="no such tool; it has add"):
        made(model, [replace(server, only=("subtract",))])
    with pytest.raises(DeclarationError, match="one of command"):
        mcp()
