"""``%%flow --pickle``: what source cannot rebuild travels as a signed pickle, and is opened only if it is signed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import dataclass, fields
from typing import Any

import pytest

from flowbook.errors import SignatureRefused
from flowbook.graph.flow import Graph, graph
from flowbook.graph.portable import obstacles
from flowbook.graph.rebuild import rebuild
from flowbook.graph.resource import resource
from flowbook.graph.sign import sign
from flowbook.graph.source import describe
from flowbook.graph.step import step

KEY = b"k" * 32


@dataclass
class Stored:
    namespace: str
    flow: str
    fingerprint: str
    spec: dict[str, Any]
    sources: dict[str, Any]
    signature: str


def closed_over(data: Any, *, pickled: bool) -> Graph:
    """A flow whose step reads data that no source holds."""

    def total(n: int) -> int:
        return int(sum(data)) + n

    return graph("closure", step(total), pickled=pickled)


def stored(made: Graph) -> Stored:
    """As the database gives it back."""
    d = describe(made)
    spec, sources = json.loads(json.dumps(d.spec)), json.loads(json.dumps(d.sources))
    signature = sign(KEY, "default", made.name, d.fingerprint, spec, sources)
    return Stored("default", made.name, d.fingerprint, spec, sources, signature)


def test_data_that_source_cannot_hold_is_an_obstacle_unless_it_is_pickled() -> None:
    """The same flow with and without the pickle; the fingerprint does not depend on it."""
    assert obstacles(describe(closed_over([1, 2], pickled=False)))
    assert not obstacles(describe(closed_over([1, 2], pickled=True)))
    plain, carried = describe(closed_over([1, 2], pickled=False)), describe(closed_over([1, 2], pickled=True))
    assert plain.fingerprint == carried.fingerprint


def test_a_pickled_flow_is_what_it_was_when_it_is_opened() -> None:
    """Name, fingerprint, description and behaviour."""
    kept = stored(closed_over([1, 2], pickled=True))
    again = rebuild(kept, key=KEY)
    assert (again.name, again.fingerprint) == ("closure", kept.fingerprint)
    assert describe(again).sources == kept.sources
    assert again.step_at("total")(4) == 7


def test_a_pickled_flow_keeps_all_of_its_options() -> None:
    """Whatever a graph has beside its nodes; one that is added later is kept as well."""

    @resource
    def client() -> str:
        return "c"

    def total(n: int, client: str) -> int:
        return n

    made = graph(
        "closure", step(total), pickled=True, outputs=["total"], recursion_limit=7, run_timeout=60, resources=[client]
    )
    again = rebuild(stored(made), key=KEY)
    kept = [f.name for f in fields(Graph) if f.name not in ("nodes", "resources")]
    assert {n: getattr(again, n) for n in kept} == {n: getattr(made, n) for n in kept}
    assert again.resources["client"].fn() == "c"


def test_a_pickled_flow_opens_in_another_process(tmp_path: Any) -> None:
    """Functions and data travel by value; nothing of this module is imported there."""
    file = tmp_path / "definition.json"
    file.write_text(json.dumps(vars(stored(notebook_flow()))))
    code = """
import json, sys, types
from flowbook.graph.rebuild import rebuild
from flowbook.graph.resource import resource
d = types.SimpleNamespace(**json.load(open(sys.argv[1])))
graph = rebuild(d, key=b"k" * 32)
assert graph.fingerprint == d.fingerprint
print(graph.step_at("total")(4))
"""
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("10", 0), done.stderr


def notebook_flow() -> Graph:
    """A flow as a kernel has it: its function belongs to ``__main__``."""
    namespace: dict[str, Any] = {"__name__": "__main__", "weights": [1, 2, 3]}
    exec("def total(n):\n    return sum(weights) + n\n", namespace)
    return graph("closure", step(namespace["total"]), pickled=True)


@pytest.mark.parametrize("change", ["pickle", "signature", "key"])
def test_a_pickle_that_is_not_signed_by_this_user_is_not_opened(change: str) -> None:
    """Changed bytes, a changed signature, somebody else's key: refused before anything is loaded."""
    kept = stored(closed_over([1, 2], pickled=True))
    if change == "pickle":
        kept.sources["carried"]["pickle"] = "AAAA" + kept.sources["carried"]["pickle"][4:]
    elif change == "signature":
        kept.signature = "0" * len(kept.signature)
    with pytest.raises(SignatureRefused, match="--allow-source"):
        rebuild(kept, key=b"x" * 32 if change == "key" else KEY)


def test_what_cannot_be_pickled_is_said() -> None:
    """A lock in a closure: the flow runs here all the same, and is not portable."""
    lock = threading.Lock()

    def work() -> bool:
        return lock.locked()

    (text,) = obstacles(describe(graph("locked", step(work), pickled=True)))
    assert "cannot be pickled" in text
    assert "lock" in text
