"""Notebooks whose kernels are killed: many at once, each at a random cell, and one that takes too much memory."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import papermill as pm
import pytest

from flowbook.errors import KernelDied
from flowbook.papermill.running import current_app
from tests.integration.books import Job, notes, printed, statuses, write

MANY = 20
CELLS = 6


@pytest.fixture
def here(tmp_path: Path, fresh_database: str, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A folder and a database, for notebooks that are run in this process."""
    job = Job(tmp_path, fresh_database)
    for name, value in job.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return job


def book(job: Job, n: int) -> Path:
    """A notebook that adds one cell after the other to a list, and says where it is."""
    first = f"import os, time\nopen('pid{n}', 'w').write(str(os.getpid()))\nseen = []"
    cells = [f"{notes(f'{n}-{k}')}\ntime.sleep(0.3)\nseen.append({n * 100 + k})\nprint(seen)" for k in range(1, CELLS)]
    return write(job.folder / f"in{n}.ipynb", first, *cells)


def killed_at(job: Job, n: int, cell: int) -> None:
    """Kill the kernel of a notebook in the middle of a cell."""
    job.until(f"{n}-{cell}", 400)
    os.kill(int((job.folder / f"pid{n}").read_text()), signal.SIGKILL)


@pytest.mark.crash
@pytest.mark.timeout(900)
def test_twenty_notebooks_in_parallel_each_killed_at_a_random_cell_all_end_right(here: Job) -> None:
    """One process, twenty threads: each call says that its kernel died, the same call again ends as if it had not, and
    no cell that had finished is executed again.
    """
    draw = random.Random(7)
    cells = [draw.randrange(1, CELLS) for _ in range(MANY)]
    deaths: list[str] = []
    wrong: list[str] = []

    def work(n: int) -> None:
        path, out = str(book(here, n)), str(here.folder / f"out{n}.ipynb")
        threading.Thread(target=killed_at, args=(here, n, cells[n]), daemon=True).start()
        for _ in range(2):
            try:
                pm.execute_notebook(path, out, engine_name="flowbook", run_key=f"job{n}", progress_bar=False)
            except KernelDied as died:
                deaths.append(str(died))
            except BaseException as error:
                wrong.append(f"{n}: {type(error).__name__}: {error}")

    with current_app():  # one connection for all of it
        threads = [threading.Thread(target=work, args=(n,)) for n in range(MANY)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
    assert len(deaths) == MANY
    ran = Counter(here.lines())
    for n in range(MANY):
        seen = [[n * 100 + k for k in range(1, last + 1)] for last in range(1, CELLS)]
        assert printed(here.folder / f"out{n}.ipynb") == ["", *(f"{list_}\n" for list_ in seen)]
        assert set(statuses(here.folder / f"out{n}.ipynb")) == {"completed"}
        assert {k: ran[f"{n}-{k}"] for k in range(1, CELLS)} == {k: 1 + (k == cells[n]) for k in range(1, CELLS)}


@contextlib.contextmanager
def small_group() -> Iterator[Path]:
    """A group of processes that may take 400 MB together; skips where none can be made."""
    name = f"flowbook-{uuid4().hex[:8]}"
    group = Path("/sys/fs/cgroup/memory" if Path("/sys/fs/cgroup/memory").is_dir() else "/sys/fs/cgroup", name)
    try:
        group.mkdir()
        limit = next(group / f for f in ("memory.limit_in_bytes", "memory.max") if (group / f).exists())
        limit.write_text(str(400 * 1024 * 1024))
        swap = group / "memory.swap.max"
        if swap.exists():
            swap.write_text("0")
    except (OSError, StopIteration) as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        pytest.skip(f"no group of processes with a limit can be made here: {error}")
    try:
        yield group
    finally:
        deadline = time.monotonic() + 20
        while group.exists() and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                group.rmdir()
            time.sleep(0.05)


@pytest.mark.crash
def test_a_kernel_that_is_killed_for_memory_says_so(here: Job) -> None:
    """The system's own out-of-memory killer, in a group with a limit; the error names it, the cell and the way on."""
    with small_group() as group:
        write(
            here.folder / "in.ipynb", f"import os\nopen({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))",
            "x = 1", "big = bytearray(os.urandom(1)) * (900 * 1024 * 1024)",
        )  # fmt: skip
        with pytest.raises(KernelDied) as died:
            pm.execute_notebook("in.ipynb", "out.ipynb", engine_name="flowbook", progress_bar=False)
    assert "killed for memory" in str(died.value)
    assert "out-of-memory killer" in str(died.value)
    assert "cell 3 of 3" in str(died.value)
    assert "It may take 400 MB" in str(died.value)
