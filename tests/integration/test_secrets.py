"""A canary as an API key: no byte of the database, of an executed notebook or of the logs has it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
import nbformat
import pytest

from flowbook.testing import ScriptedModel

pytestmark = pytest.mark.timeout(180)

ENV, MODEL, PRINTED = "sk-canary-env-1f2e3d4c5b6a", "sk-canary-model-9a8b7c6d5e", "tok-canary-print-0192837465"
CANARIES = (ENV, MODEL, PRINTED)

CELLS = [
    "%load_ext flowbook",
    "import flowbook as fb, logging, os, urllib.request\ntoken = fb.Secret('PRINTED_CANARY')",
    # with a key of its own, and with the one of the environment
    "%%agent own --model owned\nYou greet.",
    "%%agent plain --model envd\nYou greet.",
    "%%ask own --wait\nhello " + "there",
    "print(token.get()); print(plain.run(question='hello ' + os.environ['OPENAI_API_KEY'])['answer'])",
    "plain.run(question='who has ' + os.environ['OPENAI_API_KEY'])",  # the server repeats it in its error
    """@fb.step
def leak(token):
    print("printed", token.get())
    logging.getLogger("mine").warning("logged %s", token.get())
    return {"it": token.get(), "raw": token.get().encode()}
@fb.step
def fail(token, other):
    raise ValueError("401: " + token.get() + " and " + other)
leaking = fb.graph("leaking", fb.START >> leak >> fail)""",
    "leaking.run(token=token, other=os.environ['OPENAI_API_KEY'])",
    "%flow show last",
    "os.environ['OPENAI_API_KEY']",
    "fb.runs().first().view()",
]


async def dumped(url: str) -> dict[str, bytes]:
    """Table -> every row of it as bytes: what each column is stored as, texts as they are."""
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch(
            "select table_schema, table_name from information_schema.tables "
            "where table_schema not in ('pg_catalog', 'information_schema') and table_type = 'BASE TABLE'"
        )
        found = {}
        for schema, table in tables:
            rows: Any = await connection.fetch(f'select * from "{schema}"."{table}"')
            parts = [v if isinstance(v, bytes) else str(v).encode() for row in rows for v in row.values()]
            found[table] = b"\0".join(parts)
        return found
    finally:
        await connection.close()


def test_no_canary_in_the_database_in_an_executed_notebook_or_in_logs(
    fresh_database: str, flowbook_home: Path, tmp_path: Path
) -> None:
    """Keys of the environment and of a model, printed, logged, returned, raised, repeated by a server, displayed."""
    with ScriptedModel() as model:
        model.on("hello", f"you are welcome, {MODEL}")
        model.on("there", "hi")
        setup = f"owned = fb.Model('m', base_url={model.base_url!r}, api_key=os.environ['MODEL_CANARY'])\n"
        setup += f"envd = fb.Model('m', base_url={model.base_url!r})"
        cells = [*CELLS[:2], setup, *CELLS[2:]]
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell, metadata={"tags": ["raises-exception"]}) for cell in cells]
        )
        at, out = tmp_path / "in.ipynb", tmp_path / "out.ipynb"
        nbformat.write(notebook, at)
        foreign = ("JUPYTER", "JPY_", "PYTEST", "DATABASE_URL", "FLOWBOOK_", "OPENAI_")
        env = {k: v for k, v in os.environ.items() if not k.startswith(foreign)} | {
            "FLOWBOOK_DATABASE_URL": fresh_database, "FLOWBOOK_HOME": str(flowbook_home), "PYTHONPATH": str(Path.cwd()),
            "OPENAI_API_KEY": ENV, "MODEL_CANARY": MODEL, "PRINTED_CANARY": PRINTED, "IPYTHONDIR": str(tmp_path / "ip"),
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", str(at), "--output", str(out)],
            env=env, capture_output=True, text=True, timeout=150, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert {asked.headers["authorization"] for asked in model.requests} == {f"Bearer {ENV}", f"Bearer {MODEL}"}
    saved = out.read_text()
    for seen in ("you are welcome", "printed", "logged", "BadRequestError", "has no answer to", "401: ", "ValueError"):
        assert seen in saved, saved
    texts = {"notebook": saved.encode(), "logs": done.stderr.encode()} | asyncio.run(dumped(fresh_database))
    assert b"printed" in texts["output"]
    assert b"401" in texts["journal"]
    for place, data in texts.items():
        for canary in CANARIES:
            found = data.find(canary.encode())
            assert found < 0, f"{canary} is in {place}: {data[max(0, found - 200) : found + 80]!r}"
