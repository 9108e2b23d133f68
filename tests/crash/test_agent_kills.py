"""An agent is killed before, after and between every statement that it sends; what was answered is not paid again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flowbook.testing import ScriptedModel
from tests.crash.agent_victims import TURNS
from tests.crash.test_wire import ZYGOTES, occurrences
from tests.crash.zygotes import Zygote, zygotes

pytestmark = pytest.mark.crash

LOOKS = ("news", "run", "members", "heartbeat", "mail", "orphans", "announce", "claim")
"""Statements that only look, or come by the clock: as many as there is time. Their first ones are taken."""


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    """Wants two notes taken in each of twelve turns, and then says so, word by word."""

    def after(turn: int) -> Any:
        return lambda messages: sum(m["role"] == "assistant" for m in messages) == turn

    with ScriptedModel() as model:
        for turn in range(1, TURNS + 1):
            calls = [("note", {"turn": turn, "side": side}) for side in "ab"]
            model.on(after(turn - 1), f"Turn {turn} of it, in words.", calls=calls, pace=0.005)
        yield model.on(after(TURNS), "All of it is written down now.", pace=0.005)


def ask(zygote: Zygote, request: dict[str, Any]) -> dict[str, Any]:
    """What became of a victim: the points that it passed, and what it came to."""
    answer = zygote.ask(request)
    told: list[str] = answer.pop("told")
    results = [json.loads(line[1:]) for line in told if line.startswith("=")]
    return {**answer, "points": [line for line in told if not line.startswith("=")], "results": results}


@pytest.mark.timeout(3600)  # some 400 points, of two processes each
def test_an_agent_that_is_killed_anywhere_asks_once_per_turn_and_ends_as_it_would_have(
    fresh_database: str, model: ScriptedModel, tmp_path: Path
) -> None:
    """One request per turn, two only for the one in flight; each tool once, twice only for those in flight; the same
    conversation word by word, with one result for each call."""
    with zygotes("tests.crash.agent_victims", ZYGOTES) as them:
        base = {"url": fresh_database, "model": model.base_url, "kill_at": ""}
        first = {**base, "key": "migrates", "marks": str(tmp_path / "migrates")}
        assert ask(them[0], first)["exit"] == 0
        whole = ask(them[0], {**base, "key": "unbroken", "marks": str(tmp_path / "unbroken")})
        (unbroken,) = whole["results"]
        targets = [
            t for t in occurrences(whole["points"])
            if not t.startswith(LOOKS) or t.endswith(":1")
        ]  # fmt: skip
        print(f"\n{len(targets)} points")

        def broken(zygote: Zygote, target: str) -> dict[str, Any]:
            key = target.replace(":", "-").replace(" ", "_")
            request = {**base, "key": key, "marks": str(tmp_path / key)}
            killed = ask(zygote, {**request, "kill_at": target})
            last = ask(zygote, request)
            assert last["exit"] == 0, f"killed at {target}: the last process did not end well"
            return {"at": target, "key": key, "killed": killed["killed"], "results": last["results"]}

        with ThreadPoolExecutor(ZYGOTES) as pool:
            lanes = [
                pool.submit(lambda n: [broken(them[n], target) for target in targets[n::ZYGOTES]], lane)
                for lane in range(ZYGOTES)
            ]
            outcomes = [outcome for lane in lanes for outcome in lane.result()]

    requests: Counter[tuple[str, int]] = Counter(
        (asked.model, sum(m["role"] == "assistant" for m in asked.messages)) for asked in model.requests
    )
    kills = 0
    for outcome in outcomes:
        where = f"killed at {outcome['at']}"
        assert outcome["results"] == [unbroken], where
        per_turn = {turn: n for (key, turn), n in requests.items() if key == outcome["key"]}
        assert set(per_turn) == set(range(TURNS + 1)), where
        assert sum(per_turn.values()) <= TURNS + 1 + outcome["killed"], f"{where}: {per_turn}"
        done = Counter((tmp_path / outcome["key"]).read_text().split())
        assert set(done) == {f"{turn}{side}" for turn in range(1, TURNS + 1) for side in "ab"}, where
        assert max(done.values()) <= 1 + outcome["killed"], f"{where}: {done}"
        assert sum(done.values()) <= 2 * TURNS + 2 * outcome["killed"], f"{where}: {done}"
        kills += outcome["killed"]
    print(f"{kills} processes were killed")
    assert kills > 0.8 * len(targets)
