"""Notebooks as durable runs: papermill's engine, ``flowbook run`` and ``resume``, with real kernels and real kills."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import papermill as pm
import pytest

import flowbook as fb
from flowbook.errors import KernelDied, KernelNotStarted, VariableMissing
from flowbook.ids import short
from flowbook.plan.records import Status
from tests.integration.books import Job, notes, printed, read, statuses, write

pytestmark = pytest.mark.timeout(200)


@pytest.fixture
def job(tmp_path: Path, fresh_database: str) -> Job:
    """A folder and a database of its own."""
    return Job(tmp_path, fresh_database)


@pytest.fixture
def here(job: Job, monkeypatch: pytest.MonkeyPatch) -> Job:
    """The same for notebooks that are run in this process."""
    for name, value in job.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(job.folder)
    return job


def connected(job: Job) -> Any:
    """An app on the database of the job."""
    return fb.connect(env=job.env)


def died_at(job: Job, *cells: str, key: str) -> KernelDied:
    """Run a notebook with the engine; the error of its kernel's death."""
    write(job.folder / "in.ipynb", *cells)
    with pytest.raises(KernelDied) as died:
        pm.execute_notebook("in.ipynb", "out.ipynb", engine_name="flowbook", run_key=key, progress_bar=False)
    return died.value


KILLED_ONCE = """
import os, signal
if os.environ.get("GO") != "on":
    os.kill(os.getpid(), signal.SIGKILL)
print("two and a", a)
"""


def test_each_cell_is_a_step_of_a_run(here: Job) -> None:
    """papermill's file is as ever, and the run has a step per executed cell, with what it printed."""
    write(here.folder / "in.ipynb", "#md title", "n = 1", "print('n is', n)", "", "n * 2", tags={1: ["parameters"]})
    pm.execute_notebook("in.ipynb", "out.ipynb", {"n": 21}, engine_name="flowbook", progress_bar=False)
    book = read(here.folder / "out.ipynb")
    assert printed(here.folder / "out.ipynb") == ["", "", "n is 21\n", "", "42"]
    assert {cell.metadata.papermill["status"] for cell in book.cells} == {"completed"}
    assert book.metadata.papermill["parameters"] == {"n": 21}
    with connected(here) as app:
        run = app.find(book.metadata["flowbook"]["run"])
        assert run.status is Status.COMPLETED
        assert [step.path for step in run.steps] == ["cell_1#1", "cell_2#1", "cell_3#1", "cell_4#1"]
        assert [o.text for o in run.outputs("cell_3#1")] == ["n is 21\n"]
        row = app.runs().metadata(parameters={"n": 21})[0]
        assert (row.flow, row.metadata["notebook"]["cells"]) == ("in", 4)


def test_a_kernel_that_was_killed_is_an_error_that_names_the_cell_and_the_way_on(here: Job) -> None:
    """Which cell, which signal, what it means, which cells are kept, and the command that goes on."""
    error = died_at(here, "#md text", "a = 1", "b = 2", KILLED_ONCE, "c = 3", key="daily")
    assert "SIGKILL" in str(error)
    assert "memory" in str(error)
    assert "cell 3 of 4" in str(error)
    assert "Cells 1 to 2 are kept" in str(error)
    with connected(here) as app:
        row = app.runs()[0]
        assert row.status is Status.FAILED
        assert f"flowbook resume {short(row.id)}" in str(error)
        assert "KernelDied" in (row.error or "")
    assert statuses(here.folder / "out.ipynb") == ["completed", "completed", "completed", "failed", "pending"]


def test_the_same_call_again_goes_on_at_the_first_unfinished_cell(here: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Earlier outputs are in place, variables are there, and a third call executes nothing."""
    died_at(here, f"{notes('one')}\na = 7; print('one')", KILLED_ONCE, "print('three')", key="daily")
    monkeypatch.setenv("GO", "on")
    for _ in range(2):
        pm.execute_notebook("in.ipynb", "out.ipynb", engine_name="flowbook", run_key="daily", progress_bar=False)
        assert printed(here.folder / "out.ipynb") == ["one\n", "two and a 7\n", "three\n"]
        assert set(statuses(here.folder / "out.ipynb")) == {"completed"}
    assert here.lines() == ["one"], "the finished cell was not executed again"
    with connected(here) as app:
        (row,) = app.runs()
        assert (row.status, row.key) == (Status.COMPLETED, "daily")


def test_what_cannot_be_kept_is_named_and_a_tagged_cell_makes_it_again(
    here: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock is lost and raises on use; a tagged cell makes its generator again, and the checkpoint lies over it."""
    write(
        here.folder / "in.ipynb", "import threading\nlock = threading.Lock()",
        f"{notes('again')}\ngen = (i for i in range(3)); n = 1", "n = 2\na = 7", KILLED_ONCE, "print(n, list(gen))",
        "lock.acquire()", tags={1: ["flow-rerun"]},
    )  # fmt: skip
    with pytest.raises(KernelDied):
        pm.execute_notebook("in.ipynb", "out.ipynb", engine_name="flowbook", run_key="k", progress_bar=False)
    monkeypatch.setenv("GO", "on")
    with pytest.raises(pm.PapermillExecutionError, match=VariableMissing.code):
        pm.execute_notebook("in.ipynb", "out.ipynb", engine_name="flowbook", run_key="k", progress_bar=False)
    assert here.lines() == ["again", "again"]
    assert printed(here.folder / "out.ipynb")[4] == "2 [0, 1, 2]\n"
    assert list(read(here.folder / "out.ipynb").metadata["flowbook"]["lost"]) == ["lock"]


def test_an_edit_keeps_the_cells_before_it(here: Job) -> None:
    """Under one run key: the edited notebook is a new run that takes over what stands before the edit."""
    first, last = f"{notes('first')}\na = 1", f"{notes('last')}\nprint(a + 1)"
    write(here.folder / "in.ipynb", first, "b = 2 / 0", last)
    with pytest.raises(pm.PapermillExecutionError):
        pm.execute_notebook("in.ipynb", "out.ipynb", engine_name="flowbook", run_key="k", progress_bar=False)
    write(here.folder / "in.ipynb", first, "b = 2 / 1; print('mended')", last)
    pm.execute_notebook("in.ipynb", "out.ipynb", engine_name="flowbook", run_key="k", progress_bar=False)
    assert printed(here.folder / "out.ipynb") == ["", "mended\n", "2\n"]
    assert here.lines() == ["first", "last"]
    with connected(here) as app:
        new, old = app.runs()
        assert (new.status, new.key, old.status, old.key) == (Status.COMPLETED, "k~2", Status.FAILED, "k")
        kept = app.find(new.id).steps[0].result["cell_1"]
        assert kept["kept_from"] == short(old.id)


def test_a_cell_that_raises_fails_its_step_and_papermill_says_the_same(here: Job) -> None:
    """The run names the cell, what it raised and where; papermill's own error is unchanged."""
    write(here.folder / "in.ipynb", "x = 1", "def f():\n    return 1 / 0\nf()", "y = 2")
    with pytest.raises(pm.PapermillExecutionError, match="ZeroDivisionError"):
        pm.execute_notebook("in.ipynb", "out.ipynb", engine_name="flowbook", progress_bar=False)
    assert statuses(here.folder / "out.ipynb") == ["completed", "failed", "pending"]
    with connected(here) as app:
        run = app.find(app.runs()[0].id)
        assert run.error is not None
        assert "cell 2 of 3" in run.error.message
        assert "ZeroDivisionError: division by zero" in run.error.message
        assert "return 1 / 0" in run.error.traceback
        assert "\x1b" not in run.error.traceback


def test_a_notebook_whose_kernel_never_started_has_no_completed_cell(here: Job) -> None:
    """papermill's own metadata calls them all completed; ours does not, and the run says why."""
    write(here.folder / "in.ipynb", "#md text", "x = 1")
    with pytest.raises(Exception, match="no_such_kernel"):
        pm.execute_notebook(
            "in.ipynb", "out.ipynb", engine_name="flowbook", kernel_name="no_such_kernel", progress_bar=False
        )
    assert statuses(here.folder / "out.ipynb") == ["pending", "pending"]
    with connected(here) as app:
        failure = app.find(app.runs()[0].id).error
        assert failure is not None
        assert failure.code == KernelNotStarted.code


def test_sys_exit_ends_a_notebook_and_its_run_well(here: Job) -> None:
    """As in papermill: no error; what follows was not executed, and nothing says that it was."""
    write(here.folder / "in.ipynb", "print('a')", "import sys\nsys.exit()", f"{notes('no')}")
    pm.execute_notebook("in.ipynb", "out.ipynb", engine_name="flowbook", progress_bar=False)
    assert here.lines() == []
    assert statuses(here.folder / "out.ipynb")[2] == "pending"
    with connected(here) as app:
        run = app.find(app.runs()[0].id)
        assert run.status is Status.COMPLETED
        assert run.steps[2].result["cell_3"]["shown"] == "not executed"


def test_a_killed_engine_is_resumed_from_the_command_line(job: Job) -> None:
    """SIGKILL of the whole job in the middle of a cell; ``flowbook resume`` goes on in another process."""
    write(
        job.folder / "in.ipynb", f"{notes('one')}\nx = 5\nprint('one')",
        f"{notes('two')}\nimport os, time\nwhile not os.path.exists('go'): time.sleep(.02)\nprint('x is', x)",
    )  # fmt: skip
    process = job.process("papermill", "in.ipynb", "out.ipynb", "--engine", "flowbook", "--no-progress-bar")
    job.until("two")
    process.kill()
    process.communicate()
    assert statuses(job.folder / "out.ipynb") == ["completed", "running"]
    (job.folder / "go").touch()
    code, out, err = job.call("flowbook", "resume", "last")
    assert code == 0, out + err
    assert "cell_2#1 finished" in err
    assert printed(job.folder / "out.ipynb") == ["one\n", "x is 5\n"]
    assert job.lines() == ["one", "two", "two"]
    assert set(statuses(job.folder / "out.ipynb")) == {"completed"}


def test_flowbook_run_has_papermills_parameters_and_says_which_run_it_is(job: Job) -> None:
    """``-p``, ``-r``, ``-y``; the run id on standard error; results as JSON; the same key again does nothing."""
    write(
        job.folder / "in.ipynb", "n = 0; t = ''; y = 0",
        f"{notes('ran')}\nimport flowbook as fb\nfb.glue('sum', n + y)\nprint(repr(t))", tags={0: ["parameters"]},
    )  # fmt: skip
    words = ("run", "in.ipynb", "out.ipynb", "-p", "n", "40", "-r", "t", "7", "-y", "{y: 2}", "--key", "k", "--json")
    for _ in range(2):
        code, out, err = job.call("flowbook", *words)
        assert code == 0, err
        assert json.loads(out)["results"] == {"sum": 42}
    assert job.lines() == ["ran"]
    assert printed(job.folder / "out.ipynb")[-1] == "'7'\n"
    code, out, err = job.call("flowbook", "logs", "last")
    assert (code, "'7'" in out) == (0, True)


def test_a_notebook_is_a_step_of_any_graph(here: Job) -> None:
    """Parameters from the state, results by glue and by variable; two beside each other with folders of their own."""
    write(
        here.folder / "clean.ipynb", "n = 0",
        "import flowbook as fb, os, pandas as pd\nframe = pd.DataFrame({'n': [n, n + 1]})\n"
        "fb.glue('rows', len(frame))\nfb.glue('where', os.getcwd())", tags={0: ["parameters"]},
    )  # fmt: skip
    for name in ("left", "right"):
        (here.folder / name).mkdir()
    left, right = (
        fb.notebook("clean.ipynb", name=name, cwd=here.folder / name, parameters=["n"], outputs=["where", "frame"])
        for name in ("left", "right")
    )

    @fb.step
    def told(state: Any) -> dict[str, Any]:
        return {"total": int(state["frame"]["n"].sum())}

    graph = fb.graph("both", fb.START >> left >> right.with_policy(retries=1) >> told)
    with connected(here) as app:
        run = app.start(graph, {"n": 3})
        assert run.result(timeout=100)["total"] == 7
        assert run.result()["where"] == str(here.folder / "right")
        assert [child.status for child in run.children] == [Status.COMPLETED, Status.COMPLETED]


def test_notebooks_of_one_process_run_beside_each_other(here: Job) -> None:
    """Threads, one process, no port to clash over; each has its own kernel and its own result."""
    write(here.folder / "in.ipynb", "n = 0", "import os\nprint(n, os.getpid())", tags={0: ["parameters"]})
    errors: list[BaseException] = []

    def work(n: int) -> None:
        try:
            pm.execute_notebook(
                str(here.folder / "in.ipynb"), str(here.folder / f"out{n}.ipynb"), {"n": n}, engine_name="flowbook",
                progress_bar=False,
            )  # fmt: skip
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    said = [printed(here.folder / f"out{n}.ipynb")[-1].split() for n in range(4)]
    assert [int(n) for n, _ in said] == [0, 1, 2, 3]
    assert len({pid for _, pid in said}) == 4


def test_a_cancelled_notebook_stops_in_the_middle_of_a_cell(here: Job) -> None:
    """The kernel is interrupted and gone; the run is cancelled."""
    from flowbook.notebooks.documents import prepare
    from flowbook.notebooks.enrolling import enrol

    write(here.folder / "in.ipynb", f"import os, time\n{notes('begun')}\nopen('pid', 'w').write(str(os.getpid()))",
          f"{notes('asleep')}\ntime.sleep(600)")  # fmt: skip
    with connected(here) as app:
        enrolled = app.portal.call(enrol(app.app, prepare("in.ipynb", "out.ipynb")))
        here.until("asleep")
        app.find(enrolled.run.id).cancel()
        with pytest.raises(fb.FlowbookError, match="cancelled"):
            app.find(enrolled.run.id).result(timeout=60)
        gone(int((here.folder / "pid").read_text()))
    assert statuses(here.folder / "out.ipynb") == ["completed", "failed"]


def gone(pid: int) -> None:
    """Wait until a process is no more."""
    import time

    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    raise AssertionError("the kernel lives on")


def test_what_scrapbook_has_glued_is_read_and_ours_is_scrapbooks(here: Job) -> None:
    """The MIME type and metadata of scrapbook's, both ways."""
    write(
        here.folder / "in.ipynb",
        "from IPython.display import display\n"
        "display({'application/scrapbook.scrap.json+json': {'name': 'theirs', 'data': [1], 'encoder': 'json', "
        "'version': 1}}, raw=True)\nimport flowbook as fb\nfb.glue('ours', {'a': 1})",
    )  # fmt: skip
    pm.execute_notebook("in.ipynb", "out.ipynb", engine_name="flowbook", progress_bar=False)
    with connected(here) as app:
        results = app.find(app.runs()[0].id).steps[-1].result["results"]
        assert results == {"theirs": [1], "ours": {"a": 1}}
    ours = read(here.folder / "out.ipynb").cells[0].outputs[-1]
    assert ours.data["application/scrapbook.scrap.json+json"]["data"] == {"a": 1}
    assert ours.metadata["scrapbook"]["name"] == "ours"
