"""What keeping a notebook's variables costs, beside dill, which writes all of them each time.

Owns: the namespaces (200 MB that stay as they are, a frame of 192 MB one of whose columns changes, 1 GB to come back,
200 small cells), and the numbers. Refuses: the time that writing takes: it happens while the next cell runs.

What is measured of a cell is what its kernel waits for: `before` and `after`. Medians, because the machine is shared.
"""

from __future__ import annotations

import statistics
import time
from importlib.util import find_spec
from typing import Any

import common as c

ROUNDS = 7
COLUMN = 2_000_000 * 8
"""Bytes of one of the frame's twelve columns."""


class Kernel:
    """Cells in a dictionary, kept in a database."""

    def __init__(self, vault: Any) -> None:
        from flowbook.namespace.keeper import Keeper

        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self.keeper = Keeper(self.namespace, vault, b"k" * 32)

    def cell(self, source: str) -> float:
        """Run a cell; milliseconds that it was held up."""
        code = compile(source, "<cell>", "exec")
        with c.Timer() as before:
            self.keeper.before(source)
        exec(code, self.namespace)
        with c.Timer() as after:
            self.manifest = self.keeper.after()
        return c.ms(before.s + after.s)

    def written_by(self, source: str) -> tuple[float, int]:
        """Milliseconds that a cell was held up, and bytes of pieces that it wrote."""
        self.keeper.wait()
        before = self.keeper.written
        waited = self.cell(source)
        self.keeper.wait()
        return waited, self.keeper.written - before


def keep(ctx: c.Ctx) -> dict[str, float]:
    """All of it, on one database."""
    import asyncio

    from flowbook.store.migrate import upgrade
    from flowbook.store.vault import PostgresVault

    c.fresh_db(ctx.db)
    asyncio.run(upgrade(ctx.url))
    vault = PostgresVault(ctx.url)
    try:
        return {**unchanged(vault), **column(vault), **small(vault), **restored(vault)}
    finally:
        vault.close()


def unchanged(vault: Any) -> dict[str, float]:
    """200 MB that no cell changes: cells that cannot touch them, cells that could, and dill."""
    kernel = Kernel(vault)
    kernel.cell("import numpy as np, pandas as pd\nbig = [0]\n")
    kernel.cell(
        "a = np.random.rand(12_500_000)\ndf = pd.DataFrame({f'c{i}': np.random.rand(3_125_000) for i in range(4)})"
    )
    kernel.cell("n = 1")
    apart = [kernel.written_by(f"n = {i}") for i in range(ROUNDS)]
    reached = [kernel.written_by("m = float(a[0]) + len(df)") for _ in range(ROUNDS)]
    done: dict[str, float] = {
        "apart_ms": statistics.median(w for w, _ in apart),
        "reached_ms": statistics.median(w for w, _ in reached),
        "unchanged_bytes": max(b for _, b in [*apart, *reached[1:]]),
    }
    return done | by_dill({k: kernel.namespace[k] for k in ("a", "df")})


def by_dill(values: dict[str, Any]) -> dict[str, float]:
    """The same values by dill, if it is there."""
    if not find_spec("dill"):
        return {}
    import dill

    waits, size = [], 0
    for _ in range(3):
        with c.Timer() as t:
            size = len(dill.dumps(values, protocol=5))
        waits.append(c.ms(t.s))
    return {"dill_ms": statistics.median(waits), "dill_mb": round(size / 1e6, 1)}


def column(vault: Any) -> dict[str, float]:
    """One column of 16 MB of a frame of 192 MB gets other values."""
    kernel = Kernel(vault)
    kernel.cell(
        "import numpy as np, pandas as pd\n"
        "df = pd.DataFrame(np.random.rand(2_000_000, 12), columns=[f'c{i}' for i in range(12)])"
    )
    found = [kernel.written_by(f"df['c{i}'] = np.random.rand(len(df))") for i in range(ROUNDS)]
    return {
        "column_ms": statistics.median(w for w, _ in found),
        "column_ratio": round(max(b for _, b in found) / COLUMN, 3),
    }


def small(vault: Any) -> dict[str, float]:
    """A notebook of 200 small cells."""
    kernel = Kernel(vault)
    kernel.cell("import math, json\nrows = []\ndef f(x): return x + 1\nclass A: pass\na = A()")
    waits = [kernel.cell(f"x{i % 50} = f({i})\nrows.append({{'i': {i}}})") for i in range(200)]
    kernel.keeper.wait()
    return {"cell_ms": round(statistics.mean(waits), 2)}


def restored(vault: Any) -> dict[str, float]:
    """1 GB into another kernel: until its first cell has run, and until a cell has 250 MB that it needs."""
    kernel = Kernel(vault)
    kernel.cell("import numpy as np\n")
    kernel.cell("big = [None]; " + "; ".join(f"a{i} = np.random.rand(31_250_000)" for i in range(4)) + "; n = 3")
    kernel.keeper.wait()
    other = Kernel(vault)
    began = time.perf_counter()
    other.keeper.restore(kernel.manifest)
    other.cell("m = n + 1")
    first = time.perf_counter() - began
    other.cell("total = float(a0[0])")
    return {"restore_first_ms": c.ms(first), "restore_250mb_ms": c.ms(time.perf_counter() - began)}


c.main("flowbook", ["blake3", "cloudpickle", "numpy", "pandas"], {"KEEP": keep})
