"""Flows as data: written, read, checked, and run like any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypedDict

import pytest
from jsonschema import Draft202012Validator

import flowbook as fb
from flowbook.errors import ConditionFailed, SpecRefused
from flowbook.graph.flow import Graph
from flowbook.graph.rebuild import rebuild
from flowbook.graph.templates import Templates
from flowbook.graph.written import json_schema
from flowbook.testing import run_to_completion
from tests.unit.graph.test_rebuild import KEY, stored

ROOT = Path(__file__).parents[3]


class State(TypedDict, total=False):
    n: int
    docs: list[str]
    judge: bool
    report: str
    approved: dict[str, Any]


@fb.step(retries=2)
def search(n: int) -> dict[str, Any]:
    return {"docs": ["a", "b"], "n": n + 1}


@fb.step
def judge(docs: list[str]) -> bool:
    return len(docs) > 1


@fb.step
def write(docs: list[str], title: str = "") -> dict[str, Any]:
    return {"report": f"{title}: {', '.join(docs)}"}


@fb.step
def length(text: str) -> int:
    return len(text)


@fb.flow
async def order(ctx: fb.Context, n: int) -> int:
    return n


def decide(s: Any) -> bool:
    return bool(s.judge)


small = fb.graph("small", search)

FLOWS = [
    fb.graph("linear", search >> judge >> write, version="7", run_timeout="1h", outputs=["report"]),
    fb.graph("fork", search >> [judge, length.as_("other")] >> write),
    fb.graph("loop", search >> judge >> fb.branch(decide, {True: write, False: search}), state=State),
    fb.graph("race", search >> fb.race(judge, fb.sleep("1h")) >> write),
    fb.graph("begins", fb.race(judge, length)),
    fb.graph("waits", search >> fb.wait("approved", timeout="2d", schema=dict, into="docs") >> write),
    fb.graph("late", search >> fb.wait("approved", timeout="2d", on_timeout=judge) >> write),
    fb.graph("any", search >> fb.wait_any({"yes": write, "no": search}, timeout=60, on_timeout=fb.END)),
    fb.graph("maps", search >> fb.map_(length, over="docs", into="sizes", concurrency=3, on_error="collect")),
    fb.graph("mapped", search >> fb.map_(small, over="docs", item="n")),
    fb.graph("child", search >> fb.subflow(small, input={"n": "n"}, into="other") >> write),
    fb.graph("policy", fb.step(search, retries=0, backoff=(1, 60), timeout=9) >> fb.when(decide, judge)),
    order,
]
KNOWN = [search, judge, write, length, order, decide, small, State, dict]


def topology(graph: Graph) -> dict[str, Any]:
    """All that says how a flow goes."""
    nodes = {
        name: (type(n.step).__name__, n.ways, n.labels, getattr(n.step, "policy", None))
        for name, n in graph.nodes.items()
    }
    parts = ("name", "entry", "joins", "races", "run_timeout", "outputs", "recursion_limit", "version", "doc")
    return {"nodes": nodes, "order": list(nodes), **{part: getattr(graph, part) for part in parts}}


@pytest.mark.parametrize("flow", FLOWS, ids=lambda f: f.name)
def test_a_flow_that_was_written_and_read_is_the_same_flow(flow: Graph) -> None:
    """The topology, options and identity survive the way through JSON; the spec fits the published schema."""
    spec = json.loads(json.dumps(flow.to_spec()))
    Draft202012Validator(json_schema()).validate(spec)
    again = fb.Flow.from_spec(spec, KNOWN)
    assert topology(again) == topology(flow)
    assert again.fingerprint == flow.fingerprint
    assert again.to_spec() == spec


def test_the_published_schema_is_the_one_of_the_models() -> None:
    """docs/flow.schema.json is what the code checks."""
    text = (ROOT / "docs" / "flow.schema.json").read_text(encoding="utf-8")
    assert json.loads(text) == json_schema()
    Draft202012Validator.check_schema(json.loads(text))


REVIEW = """
flowbook: 1
name: review
doc: What a tenant wrote.
start: search
outputs: [report]
steps:
  search:
    step: search
    retries: 1
    next: judge
  judge:
    step: judge
    input: {docs: steps.search.output.docs}
    branch:
      - when: {and: [{var: judge}, {">": [{var: n}, 1]}]}
        to: write
      - to: search
  write:
    step: write
    when: {"!": [{missing: [docs]}]}
    input:
      docs: "steps[*].output.docs[0]"
      title: {logic: {cat: [{var: input.title}, " ", {var: state.n}]}}
"""


def test_a_text_of_yaml_is_a_flow_and_runs() -> None:
    """Mappings read steps, the run's own input and the state; conditions are JSON Logic."""
    flow = fb.Flow.from_spec(REVIEW)
    assert run_to_completion(flow, n=0, title="T") == {"report": "T 2: a"}
    assert flow.doc == "What a tenant wrote."


def test_what_a_step_returned_is_read_whatever_it_was() -> None:
    """An update, a single value, a map's list, and a step that was skipped: there, or told as missing."""
    spec = {
        "name": "x",
        "steps": {
            "search": {"step": "search", "next": "judge"},
            "judge": {"step": "judge", "next": "sizes"},
            "sizes": {"map": "length", "over": "docs", "next": "write"},
            "write": {
                "step": "write",
                "input": {"docs": ["steps.search.output.docs[1]", {"value": "steps.x"}], "title": "steps.judge.output"},
                "next": "all",
            },
            "all": {"step": "collect", "input": {"every": "steps[*].output", "sizes": "steps.sizes.output"}},
        },
    }

    @fb.step
    def collect(every: list[Any], sizes: list[int]) -> dict[str, Any]:
        return {"every": every, "sizes": list(sizes)}

    found = run_to_completion(fb.Flow.from_spec(spec, [*KNOWN, collect]), n=0)
    assert found["report"] == "True: b, steps.x"
    assert found["sizes"] == [1, 1]
    assert found["every"] == [{"docs": ["a", "b"], "n": 1}, True, [1, 1], {"report": "True: b, steps.x"}]


def test_a_flow_of_data_is_rebuilt_from_what_is_stored_of_it() -> None:
    """Conditions and mappings are part of the definition: another one is another flow, and a stored one is rebuilt."""
    flow = fb.Flow.from_spec(REVIEW)
    assert rebuild(stored(flow), key=KEY).fingerprint == flow.fingerprint
    other = fb.Flow.from_spec(REVIEW.replace("{var: n}, 1", "{var: n}, 5"))
    third = fb.Flow.from_spec(REVIEW.replace("docs[0]", "docs[1]"))
    assert len({flow.fingerprint, other.fingerprint, third.fingerprint}) == 3


def test_a_file_is_a_spec(tmp_path: Path) -> None:
    """A path of YAML or JSON is read, as a path or as a text."""
    (tmp_path / "review.yaml").write_text(REVIEW, encoding="utf-8")
    (tmp_path / "review.json").write_text(json.dumps(fb.Flow.from_spec(REVIEW).to_spec()), encoding="utf-8")
    for path in (tmp_path / "review.yaml", str(tmp_path / "review.json")):
        assert fb.Flow.from_spec(path).name == "review"
    with pytest.raises(SpecRefused, match="cannot be read"):
        fb.Flow.from_spec(tmp_path / "none.yaml")


WRONG = {
    "flowbook": 2,
    "name": "bad name",
    "colour": "red",
    "start": "serch",
    "state": "Nowhere",
    "steps": {
        "search": {"step": "serch", "next": ["judge", "nowhere"]},
        "judge": {"step": "judge", "retries": -1, "next": "write", "input": {"docs": "steps.gone.output"}},
        "write": {
            "step": "write",
            "input": {"docs": "steps.wait.output", "tile": 1, "title": "state..x", "text": {"logic": {"cut": 1}}},
            "when": {"and": [{"equals": [1, 2]}]},
            "next": "wait",
            "branch": [{"when": {"var": "n"}, "to": "judge"}],
        },
        "wait": {"wait": ["yes", "no"], "on_timeout": "gone"},
        "both": {"step": "judge", "sleep": 1},
        "a/b": {"sleep": "soon"},
        "nap": {"sleep": "soon"},
    },
}


def test_all_mistakes_are_told_at_once_with_their_places() -> None:
    """Each mistake has the JSON pointer of its place, and nothing is defined."""
    with pytest.raises(SpecRefused) as refused:
        fb.Flow.from_spec(WRONG, KNOWN)
    told = dict(refused.value.problems)
    assert set(told) >= {
        "/flowbook", "/name", "/colour", "/steps/search/step", "/steps/search/next/1", "/steps/judge/retries",
        "/steps/judge/input/docs",
        "/steps/write/input/docs", "/steps/write/input/tile", "/steps/write/input/title",
        "/steps/write/input/text/logic/cut", "/steps/write/when/and/0/equals", "/steps/write/branch",
        "/steps/wait/on_timeout", "/steps/wait", "/steps/both", "/steps/a~1b", "/steps/nap",
    }  # fmt: skip
    assert "judge" in told["/steps/search/step"]
    assert "/steps/nap" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("name: [unclosed", "neither YAML nor JSON"),
        ("a: &x [1]\nb: *x\n", "aliases"),
        ("name: x\nname: y\n", "twice"),
        ("just a text\n", "a mapping of keys"),
        ("name: x\nwhen: 2026-11-21\n", "a spec is JSON"),
        ("name: x\n", "there is no step"),
        ("name: x\nsteps: {a: {step: judge}, b: {step: judge, next: b}}\n", "b"),
    ],
)
def test_texts_that_are_no_specs_are_refused(text: str, what: str) -> None:
    """Broken YAML, tricks of YAML, and topologies that cannot work."""
    with pytest.raises(SpecRefused, match=what):
        fb.Flow.from_spec(text, KNOWN)


def test_the_topology_is_checked_as_that_of_any_flow() -> None:
    """Two steps that never meet and a cycle without a way out are refused, by the name of the step."""
    spec = {
        "name": "x",
        "start": "a",
        "steps": {"a": {"step": "judge", "next": "b"}, "b": {"step": "judge", "next": "a"}},
    }
    with pytest.raises(SpecRefused, match="/steps"):
        fb.Flow.from_spec(spec, KNOWN)


def test_a_mapping_that_finds_nothing_fails_the_step_with_its_place() -> None:
    """What is not there is an error that says what is, and no None that goes on."""
    spec = {"name": "x", "steps": {"length": {"step": "length", "input": {"text": "input.title"}}}}
    with pytest.raises(ConditionFailed, match=r"'text' of step 'length' is 'input.title'.*'title'.*other"):
        run_to_completion(fb.Flow.from_spec(spec, KNOWN), other=1)


def test_only_what_was_registered_can_be_named() -> None:
    """A spec reaches what was put into the templates, by its name; a lambda has none; names are not taken twice."""
    known = Templates(judge)
    spec = {"name": "x", "steps": {"a": {"step": "judge", "next": "b"}, "b": {"step": "write"}}}
    with pytest.raises(SpecRefused, match=r"no step is registered as 'write'.*judge"):
        fb.Flow.from_spec(spec, known)
    known.add(write)
    assert fb.Flow.from_spec(spec, known).name == "x"
    with pytest.raises(fb.FlowbookError, match="registered already"):
        known.add(length, name="judge")
    with pytest.raises(fb.FlowbookError, match="cannot be registered"):
        known.add(lambda s: True)
    other = Templates()
    other.add_all(FLOWS[2])
    assert set(other) == {"search", "judge", "write", "decide", "State"}
