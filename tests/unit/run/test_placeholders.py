"""What the codec does not carry: signed pickles, and values that are computed again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flowbook.errors import SignatureRefused, Unencodable
from flowbook.graph.expression import END_NODE as END
from flowbook.graph.expression import branch
from flowbook.graph.flow import Graph, graph
from flowbook.graph.step import step, value
from flowbook.plan.sealed import Absent, Sealed
from tests.unit.run.apps import Apps, scenario


class Model:
    """A class of the user's that the codec knows nothing of."""

    def __init__(self, weight: int) -> None:
        self.weight = weight


class Fitting:
    """A flow that fits a model, waits, and uses it; it counts how often it fits."""

    def __init__(self, store: Any, shape: str) -> None:
        self.fits: list[int] = []
        self.gate = asyncio.Event()
        made = {"dict": lambda m: {"model": m, "score": 1}, "value": lambda m: m, "wrapped": lambda m: value({"m": m})}

        def fit(n: int = 3) -> Any:
            self.fits.append(n)
            return made[shape](Model(n))

        async def wait() -> None:
            await self.gate.wait()

        def use(state: dict[str, Any], fit: Any = None) -> int:
            match shape:
                case "dict":
                    return int(state["model"].weight + fit["model"].weight)
                case "value":
                    return int(state["fit"].weight + fit.weight)
                case _:
                    return int(state["fit"]["m"].weight + fit["m"].weight)

        self.flow: Graph = graph(
            "fitting", step(name="fit", store=store)(fit) >> step(name="wait")(wait) >> step(name="use")(use)
        )


@pytest.mark.parametrize("shape", ["dict", "value", "wrapped"])
@pytest.mark.parametrize("store", ["pickle", "recompute"])
@scenario
async def test_a_model_is_had_by_later_steps_here_and_in_another_process(apps: Apps, store: str, shape: str) -> None:
    """As itself, whether it is asked for by key, by the step's name or in `state`."""
    it = Fitting(store, shape)
    here = await apps.open()
    it.gate.set()
    run = await here.start(it.flow)
    assert (await run.result())["use"] == 6
    assert it.fits == [3]

    it.gate.clear()
    run = await here.start(it.flow)
    while len(apps.kinds(run)) < 1 or len(it.fits) < 2:
        await asyncio.sleep(0.002)
    await asyncio.sleep(0.01)
    await apps.crash(here)
    there = await apps.open()
    await there.register(it.flow)
    it.gate.set()
    assert (await (await there.resume(run.id)).result())["use"] == 6
    assert it.fits == ([3, 3] if store == "pickle" else [3, 3, 3]), "a pickle is loaded, the other computed again once"


@scenario
async def test_nothing_of_the_value_stands_in_the_journal_where_it_is_computed_again(apps: Apps) -> None:
    """Its place holds a word that says where it came from; what can be stored is stored."""
    it = Fitting("recompute", "dict")
    it.gate.set()
    app = await apps.open()
    run = await app.start(it.flow)
    await run.result()
    view = await run.view()
    assert view.steps[0].result == {"model": Absent("fit#1", "model", "Model"), "score": 1}
    assert repr(view.steps[0].result["model"]) == "<Model of fit#1, computed again when needed>"


@scenario
async def test_a_run_gives_back_the_model_itself(apps: Apps) -> None:
    """A pickled one is opened for who asks for the result."""
    it = Fitting("pickle", "dict")
    it.gate.set()
    app = await apps.open()
    run = await app.start(it.flow)
    state = await run.result()
    assert isinstance(state["model"], Model)
    assert state["model"].weight == 3
    assert isinstance((await run.view()).steps[0].result["model"], Sealed)


@pytest.mark.parametrize("store", ["pickle", "recompute"])
@scenario
async def test_a_router_sees_the_model_itself(apps: Apps, store: Any) -> None:
    """Not its placeholder."""
    fit = step(name="fit", store=store)(lambda: {"model": Model(3)})
    flow = graph("f", fit >> branch(lambda s: s.model.weight, {3: END, 4: fit}))
    app = await apps.open()
    run = await app.start(flow)
    await run.result()
    assert apps.kinds(run) == ["fit#1 finished", "completed"]


@pytest.mark.parametrize("store", ["pickle", "recompute"])
@scenario
async def test_a_context_shows_the_model_itself(apps: Apps, store: Any) -> None:
    """`ctx.state.model` as well as a parameter."""

    @step
    def use(ctx: Any) -> int:
        weight: int = ctx.state.model.weight
        return weight

    app = await apps.open()
    run = await app.start(graph("f", step(name="fit", store=store)(lambda: {"model": Model(3)}) >> use))
    assert (await run.result())["use"] == 3


@scenario
async def test_a_pickle_with_another_key_is_not_loaded(apps: Apps) -> None:
    """It is verified before a byte of it is interpreted."""
    from flowbook.app import App, Options
    from flowbook.store.memory import MemoryStore

    it = Fitting("pickle", "dict")
    it.gate.set()
    app = await apps.open()
    run = await app.start(it.flow)
    await run.result()
    async with App(MemoryStore(apps.database), Options("default", b"another key")) as stranger:
        await stranger.register(it.flow)
        with pytest.raises(SignatureRefused):
            await stranger.result(run.id)


@scenario
async def test_without_a_word_the_error_proposes_both(apps: Apps) -> None:
    """`store="pickle"` and `store="recompute"` are found where they are needed."""
    app = await apps.open()
    run = await app.start(graph("f", step(name="fit")(lambda: {"model": Model(3)})))
    with pytest.raises(Unencodable, match=r"model") as caught:
        await run.result()
    assert 'store="pickle"' in str(caught.value)
    assert '"recompute"' in str(caught.value)
