"""The bar of a notebook's run."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

import flowbook as fb
from flowbook.cli.bar import bar_for
from flowbook.notebooks.documents import Prepared
from flowbook.testing import MemoryStore


async def test_a_notebook_on_its_way_is_a_bar_with_the_cell_under_way() -> None:
    """How many cells are done, of how many, and the first telling line of the one that runs; other runs have none."""
    cells: list[Any] = [
        {"cell_type": "code", "source": source, "metadata": {}} for source in ("a = 1", "import x\nb = slow()")
    ]
    prepared = Prepared({"cells": cells, "metadata": {}}, "report.ipynb", None, "python3")

    @fb.step
    def cell_1() -> int:
        return 1

    seen: list[Any] = []

    @fb.step
    async def cell_2(ctx: fb.Context) -> int:
        seen.append(await run.view())
        return 2

    graph = fb.graph("report", cell_1 >> cell_2)
    async with fb.App(MemoryStore()) as app:
        run = await app.start(graph, prepared.stored())
        await run.result()
        draw = bar_for(seen[0])
        assert draw is not None
        out = Console(file=io.StringIO(), width=100)
        out.print(draw(seen[0]))
        text = out.file.getvalue()  # type: ignore[attr-defined]
        assert "report" in text
        assert "1/2 cells" in text
        assert "cell 2: b = slow()" in text
        other = await app.start(fb.graph("other", fb.START >> cell_1), {})
        await other.result()
        assert bar_for(await other.view()) is None
