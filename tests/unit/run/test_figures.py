"""Plots of steps: displayed and closed at the step's end, never mixed, and matplotlib is not imported for them."""

from __future__ import annotations

import asyncio
import base64
import subprocess
import sys

import pytest

from flowbook import graph, step
from flowbook.graph.expression import START_NODE as START
from flowbook.graph.mapping import map_
from tests.unit.run.apps import Apps, scenario

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")


@scenario
async def test_open_figures_are_kept_and_closed_at_the_end_of_a_step(apps: Apps) -> None:
    """Two figures, two pictures; also of a step that fails."""
    app = await apps.open()
    import matplotlib.pyplot as plt

    @step
    def draw():
        print("drawing")
        plt.figure().add_subplot().plot([1, 2])
        plt.figure().add_subplot().plot([2, 1])
        raise LookupError("behind the plots")

    run = await app.start(graph("drawing", START >> draw))
    await asyncio.wait([asyncio.ensure_future(run.result())])
    text, *pictures = await run.outputs()
    assert text.text == "drawing\n"
    assert [p.kind for p in pictures] == ["display", "display"]
    for picture in pictures:
        assert base64.b64decode(picture.bundle["image/png"]).startswith(b"\x89PNG")
        assert picture.text == "<Figure size 640x480 with 1 Axes>"
    assert plt.get_fignums() == []


@scenario
async def test_steps_that_plot_take_turns(apps: Apps) -> None:
    """Eight at once through the state machine of pyplot: each figure has its own title and nothing of the others."""
    app = await apps.open()
    import matplotlib.pyplot as plt

    seen: dict[int, tuple[str, int]] = {}

    @step
    def draw(item):
        plt.title(f"plot {item}")
        plt.plot([0, item])
        axes = plt.gca()
        seen[item] = (axes.get_title(), len(axes.lines))

    flow = graph("studio", START >> map_(draw, over="items", into="done", concurrency=8))
    run = await app.start(flow, {"items": [*range(8)]})
    await run.result()
    assert seen == {n: (f"plot {n}", 1) for n in range(8)}
    assert sorted(o.path for o in await run.outputs()) == [f"draw#1[{n}]" for n in range(8)]


@scenario
async def test_a_figure_that_somebody_else_has_open_is_left_alone(apps: Apps) -> None:
    """The notebook's own figure is neither displayed nor closed by a step."""
    app = await apps.open()
    import matplotlib.pyplot as plt

    mine = plt.figure()
    try:

        @step
        def draw():
            plt.figure()

        run = await app.start(graph("mine", START >> draw))
        await run.result()
        assert len(await run.outputs()) == 1
        assert plt.get_fignums() == [mine.number]
    finally:
        plt.close("all")


@scenario
async def test_a_step_in_a_process_of_its_own_sends_its_plots(apps: Apps) -> None:
    """They are drawn there and shown here."""
    app = await apps.open()

    @step(executor="process")
    def far():
        import matplotlib as mpl

        mpl.use("agg")
        import matplotlib.pyplot as plt

        plt.plot([1, 2])

    run = await app.start(graph("far", START >> far))
    await run.result()
    (picture,) = await run.outputs()
    assert picture.bundle["image/png"].startswith("iVBOR")


def test_who_does_not_plot_loads_no_matplotlib() -> None:
    """A flow whose step prints, in a fresh process."""
    code = """
import asyncio, sys, warnings
from flowbook import graph, step
from flowbook.graph.expression import START_NODE as START
from flowbook.app import App
from flowbook.store.memory import MemoryStore
@step
def talk():
    print("hello")
    warnings.warn("careful")
async def main():
    async with App(MemoryStore()) as app:
        run = await app.start(graph("talk", START >> talk))
        await run.result()
        out, err = await run.outputs()
        assert out.text == "hello\\n"
        assert (err.kind, "UserWarning: careful" in err.text) == ("stderr", True)
asyncio.run(main())
assert "matplotlib" not in sys.modules and "IPython" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
    assert "UserWarning: careful" in done.stderr
