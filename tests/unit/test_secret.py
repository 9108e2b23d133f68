"""Secrets: what is stored and shown of them is their names."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from flowbook import secret
from flowbook.agents.loop import agent
from flowbook.agents.settings import Model
from flowbook.app import App
from flowbook.codec import decode, encode
from flowbook.codec.pickles import load_pickle, sign_pickle
from flowbook.errors import SecretMissing
from flowbook.graph.imperative import flow
from flowbook.graph.source import describe
from flowbook.graph.step import step
from flowbook.secret import Secret
from flowbook.testing import ScriptedModel, memory_app

CANARY = 'sk-canary-4711-αβγ"x'


@dataclass
class Order:
    """Of a user's."""

    token: str


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """No secret is known before, and none after."""
    monkeypatch.setattr(secret, "known", ())
    monkeypatch.setattr(secret, "_values", {})
    return


@pytest.fixture
async def app() -> AsyncIterator[App]:
    """An app in memory."""
    async with memory_app() as app:
        yield app


VALUES: list[Any] = [
    CANARY, [CANARY], {CANARY: CANARY}, f"Bearer {CANARY}!", Order(CANARY), (CANARY, 1), {CANARY},
    np.array([CANARY, "x"]), pd.DataFrame({"a": [CANARY]}), pl.DataFrame({"a": [CANARY]}), pa.table({"a": [CANARY]}),
    CANARY.encode() * 9,
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda v: type(v).__name__)
def test_no_encoded_value_holds_a_secret_and_each_is_readable(value: Any) -> None:
    """Whatever kind of value it lies in; without the secret it comes back in full."""
    before = encode(value)
    Secret("canary", CANARY)
    after = encode(value)
    assert before != after
    for form in (CANARY, json.dumps(CANARY)[1:-1], CANARY.split('"', maxsplit=1)[0]):
        assert form.encode() not in after
        assert form.encode("utf-32-le") not in after
    assert type(decode(after)) is type(decode(before))
    assert "*****" in str(decode(after)) or type(value) is pa.Table


def test_numbers_stay_numbers_and_pickles_keep_their_signature() -> None:
    """A secret of digits is replaced by digits; a pickle is signed without it."""
    Secret("pin", "1234567890")
    assert decode(encode({"a": 1234567890, "b": "pin 1234567890"})) == {"a": 1111111111, "b": "pin 1111111111"}
    loaded = load_pickle(sign_pickle({"x": "1234567890"}, b"key"), b"key")
    assert loaded == {"x": "1111111111"}


def test_a_secret_is_carried_by_its_name() -> None:
    """Its value is asked of the process where it is used."""
    made = Secret("canary", CANARY)
    data = encode({"key": made})
    assert b"canary" in data
    back: Any = decode(data)
    assert back == {"key": made}
    assert back["key"].get() == CANARY
    assert CANARY not in f"{made!r} {made}"


def test_what_cannot_be_a_secret_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that are too short to be told from other text, and those that are not there."""
    with pytest.raises(SecretMissing, match="fewer than 8"):
        Secret("short", "abc")
    with pytest.raises(SecretMissing, match="no value in this process"):
        Secret("NOT_THERE_AT_ALL").get()
    monkeypatch.setenv("LATER_CANARY", CANARY)
    assert Secret("LATER_CANARY").get() == CANARY
    assert secret.redact(f"a {CANARY} b").startswith("a ****")


async def test_steps_that_print_log_raise_and_return_a_secret_leave_none(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in the journal, nor in what is kept of their output, nor on the terminal."""

    @step
    def leak(token: Secret) -> str:
        print("printed", token.get())
        logging.getLogger("some.library").warning("logged %s", token.get())
        return token.get()

    @step
    def fail(token: Secret) -> str:
        raise ValueError(f"401 for key {token.get()}")

    @flow
    async def whole(ctx: Any, token: Secret) -> str:
        await ctx.step(leak, token)
        await ctx.step(fail, token)
        return ""

    async with memory_app() as app:  # behind what pytest has put before the streams
        run = await app.start(whole, {"token": Secret("canary", CANARY)})
        with pytest.raises(ValueError, match="401"):
            await run.result()
        rows = b"".join(e.payload or b"" for e in await app.store.history(run.id))
        outputs = b"".join(o.payload for o in await run.outputs())
        row = await app.store.run(run.id)
        view = str(await run.view())
        told = capsys.readouterr()
    texts = [rows.decode("utf-8", "replace"), outputs.decode(), str(row), told.out, told.err, caplog.text, view]
    assert "printed" in texts[1]
    assert "logged" in texts[1]
    assert "printed" in told.out
    for text in texts:
        assert CANARY not in text
        assert json.dumps(CANARY)[1:-1] not in text
        assert "canary-4711" not in text


async def test_a_model_s_key_is_used_and_not_stored(app: App) -> None:
    """Given as it is or as a secret; a server that repeats it in its error is not repeated."""
    key = "sk-canary-0815-abcdef"
    with ScriptedModel() as model:
        model.on("hello", "hi").on("fail", fails=[400])
        at = Model("m", base_url=model.base_url, api_key=key)
        assert key not in repr(at)
        it = agent("keyed", "You greet.", model=at, retries=0)
        assert key not in json.dumps([describe(it).spec, describe(it).sources])
        run = await app.start(it, {"question": f"hello {key}"})
        assert (await run.result())["answer"] == "hi"
        assert model.requests[0].headers["authorization"] == f"Bearer {key}"
        rows = b"".join(e.payload or b"" for e in await app.store.history(run.id))
        assert key.encode() not in rows
