"""Checkpoints of real kernels in a real database: killed by SIGKILL, and gone on with in another kernel."""

from __future__ import annotations

import asyncio
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flowbook.store.migrate import upgrade
from tests.corpus.kernels import KeptKernel

Start = Callable[[], KeptKernel]

FIRST = """
import numpy as np, pandas as pd, asyncio
from dataclasses import dataclass
rng = np.random.default_rng(0)
df = pd.DataFrame({f"c{i}": rng.normal(size=400_000) for i in range(4)})
part = df["c1"].to_numpy()[5:]
@dataclass
class Score:
    value: float
def score(frame): return Score(float(frame["c0"].sum()) + bonus)
bonus = 1.0
_private = [1]
"""
SECOND = """
await asyncio.sleep(0)
lock = asyncio.Lock()
opened = open("note.txt", "w")
before = score(df)
%env NS_SET=yes
"""


@pytest.fixture
def start(fresh_database: str, tmp_path: Path) -> Iterator[Start]:
    """Starts kernels on one database, with one home and one working directory."""
    asyncio.run(upgrade(fresh_database))
    kernels: list[KeptKernel] = []

    def make() -> KeptKernel:
        kernels.append(KeptKernel(fresh_database, tmp_path / "home", tmp_path))
        return kernels[-1]

    yield make
    for kernel in kernels:
        kernel.close()


def test_a_killed_kernel_is_gone_on_with_in_another_one(start: Start, tmp_path: Path) -> None:
    """Killed in the middle of its third cell: variables, classes, views, environment; the rest by name."""
    first = start()
    first.run(FIRST, "1")
    kept = first.run(SECOND, "2")
    expected = first.ask("(float(df.to_numpy().sum()), float(part.sum()), repr(before))")
    first.begin("import time; df['c0'] = 0.0\nwhile True: time.sleep(0.05)", "3")
    time.sleep(0.3)  # anywhere inside of it
    first.kill()
    assert {x["name"] for x in kept["lost"]} >= {"opened"}

    second = start()
    report = second.restore(kept["manifest"])
    assert {x["name"] for x in report["lost"]} == {x["name"] for x in kept["lost"]}
    second.run("again = score(df)", "3")
    assert second.ask("(float(df.to_numpy().sum()), float(part.sum()), repr(before))") == expected
    assert second.ask("(again == before, type(again) is Score, __import__('os').environ['NS_SET'])") == (
        True, True, "yes",
    )  # fmt: skip
    assert second.ask("np.shares_memory(part, df['c1'].to_numpy()), _private") == (True, [1])
    assert "score(frame)" in second.ask("__import__('inspect').getsource(score)")
    key = tmp_path / "home" / "key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_another_users_kernel_refuses(start: Start, fresh_database: str, tmp_path: Path) -> None:
    """The key in its FLOWBOOK_HOME is another one, though the database is the same."""
    kept = start().run("secret = [1, 2]", "1")
    stranger = KeptKernel(fresh_database, tmp_path / "elsewhere", tmp_path)
    try:
        with pytest.raises(AssertionError, match="FB720"):
            stranger.restore(kept["manifest"])
        assert stranger.ask("'secret' in globals()") is False
    finally:
        stranger.close()
