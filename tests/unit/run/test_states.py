"""States of every form through the whole engine: TypedDict, dataclass and pydantic model."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

import pytest
from pydantic import BaseModel, Field

from flowbook.errors import StateError
from flowbook.graph.flow import graph
from flowbook.graph.step import step
from tests.unit.run.apps import Apps, scenario


class Typed(TypedDict, total=False):
    n: int
    log: Annotated[list[str], operator.add]
    note: str


@dataclass
class Data:
    n: int = 1
    log: Annotated[list[str], operator.add] = field(default_factory=lambda: ["made"])
    note: str = "-"


class Model(BaseModel):
    n: int = 1
    log: Annotated[list[str], operator.add] = Field(default_factory=lambda: ["made"])
    note: str = "-"


def adds(name: str) -> Any:
    """A step that logs and counts."""

    def body(n: int) -> dict[str, Any]:
        return {"log": [name], "n": n + 1}

    return step(name=name)(body)


@pytest.mark.parametrize("state", [Typed, Data, Model], ids=lambda s: s.__name__)
@scenario
async def test_a_state_of_any_form_goes_through_a_fork_and_another_process(apps: Apps, state: Any) -> None:
    """Reducers reduce in declaration order, the input goes before the defaults, the result is of the declared class."""
    app, other = await apps.open(), await apps.open()
    flow = graph("f", adds("a") >> [adds("b"), adds("c")] >> adds("d"), state=state)
    await other.register(flow)
    run = await app.start(flow, {"n": 5, "log": ["in"]})
    ends = [await run.result(5), await (await other.run(run.id)).result(5)]
    for end in ends:
        assert (end if state is Typed else vars(end)) == (
            {"n": 8, "log": ["in", "a", "b", "c", "d"]} | ({} if state is Typed else {"note": "-"})
        )
        assert isinstance(end, dict if state is Typed else state)


@pytest.mark.parametrize("state", [Data, Model], ids=lambda s: s.__name__)
@scenario
async def test_defaults_are_made_for_each_run(apps: Apps, state: Any) -> None:
    """A list of one run is none of the next one's."""
    app = await apps.open()
    flow = graph("f", adds("a"), state=state)
    for _ in range(2):
        end = await (await app.start(flow)).result(5)
        assert (end.n, end.log) == (2, ["made", "a"])


@pytest.mark.parametrize("state", [Typed, Data, Model], ids=lambda s: s.__name__)
@scenario
async def test_an_unknown_key_is_an_error(apps: Apps, state: Any) -> None:
    """In the input before anything is written, in an update as the step's failure, with the key and the class."""
    app = await apps.open()

    @step
    def wrong() -> dict[str, Any]:
        return {"nn": 1}

    flow = graph("f", wrong, state=state)
    with pytest.raises(StateError, match="'m', which"):
        await app.start(flow, {"m": 1})
    with pytest.raises(StateError, match=f"'nn', which {state.__name__} does not declare"):
        await (await app.start(flow, {"n": 1})).result(5)


@scenario
async def test_a_pydantic_state_validates_updates_and_a_dataclass_takes_them(apps: Apps) -> None:
    """What is no int is refused by the one, and coerced where pydantic coerces."""
    app = await apps.open()

    @step
    def text(note: str) -> dict[str, Any]:
        return {"n": note}

    flow = graph("f", text, state=Model)
    assert (await (await app.start(flow, {"note": "7"})).result(5)).n == 7
    with pytest.raises(StateError, match="'n' does not fit Model"):
        await (await app.start(flow, {"note": "seven"})).result(5)
    assert (await (await app.start(graph("g", text, state=Data), {"note": "seven"})).result(5)).n == "seven"


@scenario
async def test_outputs_of_a_model_are_a_dict(apps: Apps) -> None:
    """Only what is asked for, whatever class the state is."""
    app = await apps.open()
    run = await app.start(graph("f", adds("a"), state=Model, outputs=["n"]))
    assert await run.result(5) == {"n": 2}
    assert isinstance(await run.state(), Model)
