"""Flows that are defined while workers run, on a real database and in other processes."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from flowbook.cli import main
from flowbook.graph import templates
from tests.integration.test_workers import Bench, bench

__all__ = ["bench"]

STEPS = """
import os

import flowbook as fb

@fb.steps
@fb.step
def double(n):
    return {"n": n * 2, "pid": os.getpid()}
"""
SPEC = {"name": "x", "steps": {"double": {"step": "double", "input": {"n": "input.n"}}}}
WAITS = {"name": "x", "steps": {"ask": {"wait": "approved", "next": "double"}, "double": {"step": "double"}}}


@pytest.fixture
def call(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """A command on that database: exit code, what it printed, what it said."""
    monkeypatch.setattr(templates.steps, "_own", {})  # what the module registers is gone after the test

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--url", bench.url])
        found = capsys.readouterr()
        return int(ended.value.code or 0), found.out, found.err

    return run


def test_a_worker_that_runs_already_carries_what_is_defined_now(
    bench: Bench, call: Callable[..., tuple[int, str, str]]
) -> None:
    """Defined, started by name, carried elsewhere from that worker's own templates, never from stored source."""
    for name, text in {
        "steps_of_ours.py": STEPS,
        "spec.json": json.dumps(SPEC),
        "waits.json": json.dumps(WAITS),
        "wrong.json": json.dumps({"name": "x", "steps": {"a": {"step": "nothing"}}}),
    }.items():
        (bench.folder / name).write_text(text)
    ours = ("-m", "steps_of_ours.py")
    worker = bench.worker(*ours, "--no-from-source")
    code, _, said = call("define", "invoice", "wrong.json", *ours)
    assert (code, "/steps/a/step" in said) == (2, True)
    assert call("define", "invoice", "spec.json", *ours, "--by", "ana")[0] == 0
    code, out, _ = call("start", "invoice", "n=4", *ours, "--wait", "--json")
    view = json.loads(out)
    assert (code, view["status"]) == (0, "completed")
    assert view["steps"][0]["result"] == {"n": 8, "pid": worker.pid}

    assert call("define", "invoice", "waits.json", *ours)[0] == 0
    code, out, _ = call("start", "invoice", "n=4", *ours, "--json")
    run = json.loads(out)["id"]
    bench.until(lambda: bench.row(run)["status"] == "waiting")
    code, _, said = call("undefine", "invoice")
    assert (code, "FB778" in said, run in said) == (2, True, True)
    assert call("signal", run, "approved")[0] == 0
    bench.until(lambda: bench.row(run)["status"] == "completed")
    code, out, _ = call("definitions", *ours, "--json")
    assert [(d["name"], d["version"], d["state"]) for d in json.loads(out)] == [("invoice", 2, "ok")]
    assert call("undefine", "invoice")[0] == 0
    assert json.loads(call("definitions", "--json")[1]) == []
    code, _, said = call("start", "invoice", "n=4", *ours)
    assert (code, "FB779" in said) == (2, True)
