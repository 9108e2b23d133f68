"""Written flows: the form of a spec, as models.

Owns: what may stand where, and `json_schema`, which is published as ``docs/flow.schema.json`` (a test compares the
two). Refuses: what the names in it mean (`reading.py`). Imported only by who reads or writes specs: pydantic.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=200)]
"""Letters, digits and _, not starting with a digit."""
Length = Annotated[float | str, Field(description="Seconds, or a text as in '90s', '2d'.")]
Target = Annotated[
    str | list[str] | None, Field(description="The step that follows, several of them (a fork), or END (null).")
]
Label = str | bool | int | None
Rule = Annotated[Any, Field(description="JSON Logic over the state: {'>': [{'var': 'amount'}, 100]}.")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Case(_Part):
    """A way on behind a switch."""

    is_: Label = Field(alias="is", description="What the switch gives for this way; of a wait, the signal.")
    to: Target = None
    race: bool = Field(False, description="Of several targets the first one that comes through wins.")


class Arm(_Part):
    """A way on behind a branch; the first one whose condition holds is taken."""

    when: Rule = Field(None, description="JSON Logic over the state; left out in the last one, which always holds.")
    to: Target = None
    race: bool = False


class Function(_Part):
    """A registered function of the state."""

    function: str


class Switch(_Part):
    """Where what follows is chosen by a value."""

    value: Rule = Field(
        None,
        description="JSON Logic over the state, or {'function': name}; left out behind a wait, whose signal it is.",
    )
    cases: list[Case] = Field(min_length=1)


class Waits(_Part):
    """How long to wait before another attempt; see `flowbook.Backoff`."""

    initial: float = Field(1.0, ge=0)
    factor: float = Field(2.0, ge=0)
    max: float = Field(60.0, ge=0)
    jitter: bool = True
    step: float = Field(0.0, ge=0)


class _Node(_Part):
    next: Target = Field(None, description="What follows; left out, the flow ends here.")
    race: bool = Field(False, description="Of several that follow the first one that comes through wins.")
    branch: list[Arm] | None = Field(None, min_length=1)
    switch: Switch | None = None


class _Tried(_Node):
    retries: int | None = Field(None, ge=0, le=30_000, description="Further attempts; left out, as the template says.")
    backoff: Waits | list[Length] | None = None
    timeout: Length | None = Field(None, description="Of an attempt.")
    retry_on: list[str] | None = None
    no_retry_on: list[str] | None = None
    input: dict[str, Any] | None = Field(
        None,
        description="Parameter: 'steps.x.output.y', 'steps[*].output', 'input.y', 'state.y', {'logic': rule}, "
        "{'value': anything}, or any other JSON as it stands. What is left out is filled by its name.",
    )


class StepNode(_Tried):
    """A registered step."""

    step: str
    when: Rule = Field(None, description="JSON Logic over the state, or {'function': name}; else it is skipped.")


class MapNode(_Tried):
    """A registered step, or flow, for each item of a list of the state."""

    map: str
    over: str
    into: str | None = None
    concurrency: int = Field(10, ge=1)
    on_error: Literal["fail", "collect"] = "fail"
    item: str | None = None
    queue: str | None = None


class WaitNode(_Node):
    """A wait for a signal, or for the first of several."""

    wait: Name | list[Name]
    timeout: Length | None = None
    on_timeout: Target = None
    into: str | None = None
    payload: dict[Name, str] | None = Field(None, description="Signal: the registered class that its payload must be.")


class SleepNode(_Node):
    """A time that passes."""

    sleep: Length


class FlowNode(_Node):
    """A registered flow, as a run of its own."""

    flow: str
    input: dict[str, str] | Function | None = Field(None, description="Its key: the key of this flow's state.")
    into: str | None = Field("", description="State key that gets its result; null: the result is an update.")
    key: Function | None = None
    queue: str | None = None


KINDS: dict[str, type[_Node]] = {
    "step": StepNode,
    "map": MapNode,
    "wait": WaitNode,
    "sleep": SleepNode,
    "flow": FlowNode,
}


def kind_of(node: Any) -> str | None:
    """The kind of a node, by the key that only that kind has; None: it has none of them, or several."""
    if not isinstance(node, dict):
        return next((kind for kind, model in KINDS.items() if type(node) is model), None)
    found = [kind for kind in KINDS if kind in node]
    return found[0] if len(found) == 1 else None


Node = Annotated[
    Annotated[StepNode, Tag("step")]
    | Annotated[MapNode, Tag("map")]
    | Annotated[WaitNode, Tag("wait")]
    | Annotated[SleepNode, Tag("sleep")]
    | Annotated[FlowNode, Tag("flow")],
    Discriminator(
        kind_of,
        custom_error_type="kind",
        custom_error_message="a node has exactly one of: step, map, wait, sleep, flow",
    ),
]


class Head(_Part):
    """All of a spec but its nodes."""

    flowbook: Literal[1] = Field(1, description="The form of this spec.")
    name: Name
    doc: str = ""
    version: str | None = Field(None, description="A label for people; versions are counted by the store.")
    state: str | None = Field(None, description="The registered state class; left out, the state takes any key.")
    start: Target = Field(None, description="Where it begins; left out, with the steps that none leads to.")
    race: bool = Field(False, description="Of several beginnings the first one that comes through wins.")
    outputs: list[str] | None = Field(None, description="State keys that are the result; left out, all of the state.")
    run_timeout: Length | None = None
    recursion_limit: int | None = Field(None, ge=1)
    body: str | None = Field(None, description="The registered imperative flow that this is; then it has no steps.")


class Spec(Head):
    """A flow as data."""

    steps: dict[Name, Node] = Field(default_factory=dict, description="Name of a node: what it does and what follows.")


def json_schema() -> dict[str, Any]:
    """The JSON Schema of specs (draft 2020-12)."""
    schema = Spec.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "A flow of flowbook"}
