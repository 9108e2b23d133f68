"""Plans in a real kernel and on the command line, on a real database."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import flowbook as fb
from flowbook.cli.code import graphs_of, load_module
from tests.integration.test_cli import Call, call
from tests.integration.test_notebook import Kernel, environment, new_kernel, talk

__all__ = ["call", "environment", "new_kernel", "talk"]

NOTES = """\
%%flow notes
@step
def search(query):
    print("searching")
    return {"docs": [query] * 3}

@step
def count(docs):
    return len(docs)

@step
def write(count):
    return {"report": f"{count} found"}

START >> search >> count >> write >> END
"""
FLOWS = """
import flowbook as fb

@fb.step
def search(query):
    return {"docs": [query] * 3}

@fb.step
def count(docs):
    return len(docs)

notes = fb.graph("notes", search >> count)
"""


def test_an_edited_cell_says_what_becomes_of_the_last_run_and_a_run_does_just_that(talk: Kernel) -> None:
    """Plan, edit, plan by itself, run what changed: the part that was reused is not executed."""
    talk(NOTES)
    before = talk("%flow plan notes query='q'")
    assert not before.error
    assert "3 new" in before.text
    talk("run = %flow run notes query='q' --wait")
    edited = talk(NOTES.replace("return len(docs)", "return len(docs) + 1"))
    assert not edited.error
    assert "1 reused, 2 will run again" in edited.text
    assert "step `count` changed" in edited.text
    planned = talk("%flow plan notes(query='q')")
    assert "data:image/svg+xml;base64," in planned.html
    assert "after `count`" in planned.html
    again = talk("other = %flow run notes query='q' --reuse last --wait\nprint(other.state['report'])")
    assert "4 found" in again.printed
    assert "searching" not in again.printed
    assert "notes.plan(" not in talk("notes.plan(query='q')").error
    assert "input changed" in talk("notes.plan(query='another')").text
    assert "differs in 'query'" in talk("%flow run notes query='another' --reuse last").error


def test_the_command_line_plans_a_flow_of_a_module_and_executes_nothing(
    fresh_database: str, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table of fates and reasons, and all of it as JSON."""
    monkeypatch.setenv("FLOWBOOK_HOME", str(tmp_path / "home"))
    file = tmp_path / "planned_flows.py"
    file.write_text(FLOWS)
    code, out, _ = call("plan", f"{file}:notes", "query=q", "--json")
    assert code == 0
    assert [n["plan"] for n in json.loads(out)["nodes"]] == ["new", "new"]
    (notes,) = graphs_of(load_module(str(file)))
    with fb.connect(fresh_database, env={"FLOWBOOK_HOME": str(tmp_path / "home")}) as app:
        app.start(notes, {"query": "q"}).result()
    file.write_text(FLOWS.replace("len(docs)", "len(docs) + 1"))
    code, out, _ = call("plan", f"{file}:notes", "query=q", "--json")
    record = json.loads(out)
    assert [(n["node"], n["plan"]) for n in record["nodes"]] == [("search", "reused"), ("count", "will run again")]
    code, out, _ = call("plan", f"{file}:notes")
    assert "its code changed" in out
    code, _, err = call("plan", f"{file}:other")
    assert code == 2
    assert "it has notes" in err
    code, _, err = call("plan", "nowhere")
    assert code == 2
    assert "no flow 'nowhere' is stored" in err
