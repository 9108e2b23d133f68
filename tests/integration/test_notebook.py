"""The notebook's door in a real kernel, on a real database.

talk    a kernel with a page in front of it, as JupyterLab would ask: `talk(cell)` -> what came back
run_all a notebook run headless by nbclient, as papermill and nbconvert do
"""

from __future__ import annotations

import os
import queue
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

LOAD = "%load_ext flowbook"
RESEARCH = """\
%%flow research
import time

@step(retries=1, backoff=[0.01])
async def search(query, ctx):
    return {"docs": [query] * 2}

@step
def judge(docs) -> bool:
    time.sleep(0.2)
    return True

@step
def write(docs):
    return {"report": "+".join(docs)}

START >> search >> judge >> branch(lambda s: s.judge, {True: write, False: search})
write >> END
"""
BOOM = """\
%%flow boom
@step
def fine(): return {"n": 1}
@step
def bad(n):
    wrong = n + 1
    raise LookupError(f"bad {wrong}")
fine >> bad
"""
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Reply:
    """What a cell gave."""

    printed: str = ""
    shown: list[Mapping[str, Any]] = field(default_factory=list)
    """Bundles, in order, updates included."""
    error: str = ""
    """Its traceback as text."""

    @property
    def text(self) -> str:
        return "\n".join([self.printed, *(str(b.get("text/plain", "")) for b in self.shown), self.error])

    @property
    def html(self) -> str:
        return "".join(b.get("text/html", "") for b in self.shown)


class Kernel:
    """A kernel, and a page that asks it."""

    def __init__(self, env: Mapping[str, str]) -> None:
        # Sockets in a folder of its own: by default they are named alike in the working directory, and the kernels
        # of two test workers take each other's (and a socket's path has room for 107 bytes, too few for tmp_path).
        self.sockets = tempfile.TemporaryDirectory(prefix="fb-")
        self.manager = KernelManager(kernel_name="python3", transport="ipc", ip=f"{self.sockets.name}/k")
        self.manager.start_kernel(env=dict(env))
        self.client = self.manager.client()
        self.client.start_channels()
        try:
            self.client.wait_for_ready(timeout=120)
        except BaseException:  # whoever made half of it takes it down, or other tests hear of its sockets
            self.close()
            raise

    def __call__(self, code: str, *, after: float = 0.0, interrupt: float | None = None) -> Reply:
        """Run a cell; ``after``: seconds to go on listening behind its end; ``interrupt``: seconds until Ctrl-C."""
        asked = self.client.execute(code)
        reply, ended, begun = Reply(), 0.0, time.monotonic()
        while not ended or time.monotonic() < ended + after:
            if interrupt is not None and time.monotonic() > begun + interrupt:
                interrupt = None
                self.manager.interrupt_kernel()
            try:
                message = self.client.get_iopub_msg(timeout=0.1)
            except queue.Empty:
                assert time.monotonic() < begun + 60, f"the cell did not end; so far: {reply.text}"
                continue
            self._take(message, reply)
            idle = message["msg_type"] == "status" and message["content"]["execution_state"] == "idle"
            if idle and message["parent_header"].get("msg_id") == asked:
                ended = time.monotonic()
        return reply

    @staticmethod
    def _take(message: Any, reply: Reply) -> None:
        content = message["content"]
        match message["msg_type"]:
            case "stream":
                reply.printed += content["text"]
            case "execute_result" | "display_data" | "update_display_data":
                reply.shown.append(content["data"])
            case "error":
                reply.error += ANSI.sub("", "\n".join(content["traceback"]))
            case _:
                pass

    def complete(self, code: str) -> list[str]:
        """What Tab offers at the end of ``code``."""
        asked = self.client.complete(code, len(code))
        while True:
            message = self.client.get_shell_msg(timeout=20)
            if message["parent_header"].get("msg_id") == asked:
                return list(message["content"]["matches"])

    def kill(self) -> None:
        """SIGKILL, as the out-of-memory killer does it."""
        self.manager.shutdown_kernel(now=True)
        self.close()

    def close(self) -> None:
        self.client.stop_channels()
        if self.manager.has_kernel:
            self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()
        self.sockets.cleanup()


@pytest.fixture
def environment(fresh_database: str, flowbook_home: Path, tmp_path: Path) -> dict[str, str]:
    """A kernel's environment: this test's database, directories of its own."""
    foreign = ("JUPYTER", "JPY_", "PYTEST", "DATABASE_URL", "FLOWBOOK_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
    return env | {
        "FLOWBOOK_DATABASE_URL": fresh_database,
        "FLOWBOOK_HOME": str(flowbook_home),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_PLATFORM_DIRS": "1",
        "PYTHONPATH": str(Path.cwd()),
    }


@pytest.fixture
def new_kernel(environment: dict[str, str]) -> Iterator[Callable[..., Kernel]]:
    """Starts one more kernel, ended after the test."""
    kernels: list[Kernel] = []

    def start(**env: str) -> Kernel:
        kernels.append(Kernel(environment | env))
        return kernels[-1]

    yield start
    for kernel in kernels:
        kernel.close()


@pytest.fixture
def talk(new_kernel: Callable[..., Kernel]) -> Kernel:
    """A kernel with the extension loaded."""
    kernel = new_kernel()
    loaded = kernel(LOAD)
    assert loaded.printed.startswith("flowbook: postgresql://")
    assert loaded.printed.count("\n") == 1
    return kernel


def test_a_flow_cell_shows_its_picture_and_binds_its_name(talk: Kernel) -> None:
    """Declare, run, look: the first minute."""
    declared = talk(RESEARCH)
    assert not declared.error
    assert 'src="data:image/svg+xml;base64,' in declared.html
    assert "judge -> write (True), search (False)" in declared.text
    assert "research v1" in declared.text
    assert "{'query': 'x', 'docs': ['x', 'x'], 'judge': True, 'report': 'x+x'}" in talk('research.run(query="x")').text
    assert "<flow research" in talk("print(repr(research))").text
    left = talk("print([n for n in ('step', 'START', 'END', 'branch', '__flowbook__') if n in globals()])")
    assert left.printed == "[]\n"


def test_a_run_comes_back_at_once_and_is_shown_to_its_end(talk: Kernel) -> None:
    """The widget while it goes on, the still picture without it at the end, also under a busy cell."""
    talk(RESEARCH)
    started = talk('%flow run research query="a b" --key daily')
    kinds = [sorted(b) for b in started.shown]
    assert kinds[0] == ["text/html", "text/plain"]
    assert kinds[1] == ["application/vnd.jupyter.widget-view+json", "text/html", "text/plain"]
    busy = talk("import time; time.sleep(1.5)")
    assert sorted(busy.shown[-1]) == ["text/html", "text/plain"]
    assert "✓ completed" in busy.text
    assert "key daily" in busy.text
    assert "<script" not in busy.html
    again = talk('%flow run research query="a b" --key daily')
    assert "✓ completed" in again.text
    assert "FB304" in talk('%flow run research query="other" --key daily').error
    assert "FB304" not in talk("%flow runs --flow research").text
    assert talk("%flow runs").text.count("completed") == 1


def test_a_signal_is_sent_from_a_cell(talk: Kernel) -> None:
    """Words of a wait need no import; the cell that starts the run comes back, the next one sends what it waits for."""
    talk(
        "%%flow gate\n@step\ndef publish(approved):\n    return {'by': approved['by']}\n\n@step\ndef late(): ...\n\n"
        "START >> wait('approved', timeout='2d', on_timeout=late) >> when(lambda s: s.approved, publish)"
        " >> sleep('10ms')\n"
    )
    started = talk("run = %flow run gate", after=1.0)
    assert not started.error
    assert "⏸ approved#1  for approved, until" in talk("print(run.view().status)\n%flow show last").text
    assert "did you mean 'approved'?" in talk("%flow signal last aproved").error
    assert "takes a run and the signal's name" in talk("%flow signal last").error
    assert "has got 'approved'" in talk("%flow signal last approved by=ana").printed
    assert "'by': 'ana'" in talk("print(run.result())").printed
    assert "completed already" in talk("%flow signal last approved").error


def test_inputs_can_be_evaluated_in_the_notebook(talk: Kernel) -> None:
    """`research(query=q)` means the notebook's q; nothing in braces is expanded behind the user's back."""
    talk(RESEARCH)
    talk("q = 'from here'")
    talk("%flow run research(query=q.upper()) --wait")
    assert "'docs': ['FROM HERE', 'FROM HERE']" in talk("r = %flow show last\nprint(r.state)").text
    talk("%flow run research query='{q}' --wait")
    assert "['{q}', '{q}']" in talk("r = %flow show last\nprint(r.state)").text


def test_waiting_raises_the_steps_own_exception(talk: Kernel) -> None:
    """With the traceback of the cell and none of ours; without waiting the picture says what happened."""
    talk(BOOM)
    failed = talk("%flow run boom --wait")
    assert "LookupError: bad 2" in failed.error
    assert 'raise LookupError(f"bad {wrong}")' in failed.error
    assert "portal.py" not in failed.error
    assert "✕ failed" in failed.text
    shown = talk("%flow show last")
    assert "%flow retry" in shown.html
    assert "LookupError" in shown.html
    assert "LookupError: bad 2" in talk("boom.run()").error


def test_a_cycle_that_went_round_too_often_is_retried_with_a_higher_limit(talk: Kernel) -> None:
    """The cell has the limit and the outputs as options, `race` needs no import, the retry raises the limit."""
    declared = talk(
        "%%flow turning --recursion-limit 3 --outputs n\n"
        "@step\ndef count(n): return {'n': n + 1}\n@step\ndef one(): ...\n@step\ndef two(): ...\n"
        "START >> race(count, sleep('1h')) >> branch(lambda s: s.n < 6, {True: one, False: END})\n"
        "one >> two >> count\n"
    )
    assert "a branch stands behind several steps" in declared.error
    talk(
        "%%flow turning --recursion-limit 3 --outputs n\n"
        "@step\ndef begin(): ...\n@step\ndef count(n): return {'n': n + 1}\n@step\ndef done(): ...\n"
        "begin >> race(count, sleep('1h')) >> done >> branch(lambda s: s.n < 6, {True: begin, False: END})\n"
    )
    assert "recursion limit" in talk("%flow run turning n=0 --wait").error
    assert "takes a number" in talk("%flow retry last --recursion-limit none").error
    assert not talk("run = %flow retry last --recursion-limit 50 --wait").error
    assert "{'n': 6}" in talk("print(run.result())").printed


def test_a_cell_with_a_function_takes_the_options_that_mean_something_to_it(talk: Kernel) -> None:
    """Retries, back-off and the time of a run hold; what belongs to a topology is refused, never dropped."""
    body = "async def order(ctx, n):\n    if ctx.attempt < 3: raise OSError('again')\n    return ctx.attempt\n"
    refused = talk(f"%%flow ordering --state dict --retries 2 --outputs n\n{body}").error
    assert "--outputs, --state: these belong to a topology" in refused
    assert "--backoff, --retries, --run-timeout" in refused
    assert not talk(f"%%flow ordering --retries 2 --backoff 0.01 --run-timeout 1h\n{body}").error
    assert "3 3600.0" in talk("print(ordering.run(n=1), ordering.run_timeout)").printed
    assert "which the notebook does not have" in talk(f"%%flow ordering --freeze nothing\n{body}").error


def test_mistakes_are_short_and_all_at_once(talk: Kernel) -> None:
    """Every mistake of a topology with the names, no traceback of forty lines; the next cell is an ordinary one."""
    reply = talk("%%flow bad\n@step\ndef a(): ...\n@step\ndef b(): ...\na >> 'b'\nb >> nowhere\n")
    assert "'b' is a text" in reply.error
    assert "'nowhere' is not defined" in reply.error
    assert "Traceback" not in reply.error
    assert len(reply.error.splitlines()) < 6
    assert "name 'bad' is not defined" in talk("bad").error
    assert "division by zero" in talk("%%flow worse\nx = 1\n1 / 0\n").error
    assert talk("1 + 1").shown == [{"text/plain": "2"}]
    for line in (
        "%flow frob",
        "%flow run",
        "%flow run nope",
        "%flow show zzz",
        "%flow run research --foo",
        "%flow show",
    ):
        error = talk(line).error
        assert "FB" in error, line
        assert len(error.splitlines()) < 4, error
    syntax = talk("%%flow f\ndef f(:\n  pass\n")
    assert "SyntaxError" in syntax.error
    assert "line 2" in syntax.error


def test_the_cell_is_an_ordinary_cell(talk: Kernel) -> None:
    """Top-level await, getsource, names of the user's, printing: as everywhere else."""
    talk("from time import sleep\nstep = 7")
    talk(
        "%%flow odd\nimport asyncio\nawait asyncio.sleep(0.01)\n@step\ndef a():\n    sleep(0.01)\n"
        "    print('printed by a')\n    return {'n': step}\n@step\nasync def b(n):\n    await asyncio.sleep(0.01)\n"
        "    return {'n': n * 2}\na >> b\n"
    )
    ran = talk("odd.run()")
    assert "{'n': 14}" in ran.text
    assert "printed by a" in ran.printed
    assert talk("print(step)").printed == "7\n"
    assert "sleep(0.01)" in talk("import inspect; print(inspect.getsource(odd.nodes['a'].step.fn))").printed
    assert "{'n': 14}" in talk("run = odd.start()\nawait run").text


def test_both_spellings_declare_a_flow(talk: Kernel) -> None:
    """`%flow NAME` on the first line of a cell is for linters that skip `%%` cells."""
    reply = talk("%flow hello\n@step\ndef hi(): return 1\nhi\n")
    assert "hello v1" in reply.text
    assert "{'hi': 1}" in talk("hello.run()").text


def test_a_changed_cell_makes_a_version_and_says_what_changed(talk: Kernel) -> None:
    """The same body is a no-op."""
    talk(RESEARCH)
    assert "v1: unchanged" in talk(RESEARCH).text
    changed = talk(RESEARCH.replace('"+".join', '"-".join'))
    assert "research v2" in changed.text
    assert "since v1" in changed.text
    assert "write" in changed.text.partition("since v1")[2]


def test_a_cell_says_what_makes_it_unportable(talk: Kernel) -> None:
    """And what to do about it."""
    talk("df = object()")
    reply = talk("%%flow tied\n@step\ndef look(): return repr(df)\nlook\n")
    assert "not portable" in reply.text
    assert "df" in reply.text


def test_a_killed_kernels_run_is_named_by_the_cell_and_resumed(new_kernel: Callable[..., Kernel]) -> None:
    """What was done is not done again: the new kernel's cell offers the run, and the key finds it."""
    slow = (
        "%%flow slow\nimport time, os\n@step\ndef first(): return {'pid': os.getpid()}\n"
        "@step\ndef second(pid):\n    time.sleep(0 if os.environ.get('QUICK') else 60)\n"
        "    return {'by': os.getpid()}\n"
        "first >> second\n"
    )
    one = new_kernel()
    one(LOAD)
    one(slow)
    one("%flow run slow --key k", after=1.0)
    one.kill()
    two = new_kernel(QUICK="1")
    two(LOAD)
    declared = two(slow)
    offer = re.search(r"1 unfinished run.*%flow resume (\w+)", declared.text)
    assert offer, declared.text
    resumed = two(f"%flow resume {offer[1]} --wait")
    assert not resumed.error
    state = two("r = %flow show last\nprint(r.state['pid'] != r.state['by'], r.state['by'] == os.getpid())")
    assert state.printed.endswith("True True\n")
    assert "✓ completed" in two("%flow run slow --key k").text


def test_an_interrupted_wait_leaves_the_run_going_and_says_so(talk: Kernel) -> None:
    """Ctrl-C is for the cell; the run is told otherwise."""
    talk("%%flow long\nimport asyncio\n@step\nasync def nap():\n    await asyncio.sleep(60)\nnap\n")
    reply = talk("long.run()", interrupt=1.5)
    assert "KeyboardInterrupt" in reply.error
    assert re.search(r"goes on: `%flow cancel \w+`", reply.printed)
    assert "is asked to stop" in talk("%flow cancel last", after=2.0).printed
    assert "cancelled" in talk("%flow runs --status cancelled").text


def test_tab_knows_commands_flows_and_runs(talk: Kernel) -> None:
    """At each place what can stand there."""
    talk(RESEARCH)
    talk("%flow run research query=1 --wait")
    assert "%%flow" in talk.complete("%%fl")
    assert talk.complete("%flow re") == ["reject", "resume", "retry"]
    assert talk.complete("%flow run res") == ["research"]
    assert "query=" in talk.complete("%flow run research ")
    assert talk.complete("%flow run research --k") == ["--key"]
    assert {"last"} < set(talk.complete("%flow show "))
    assert talk.complete("%flow runs --status comp") == ["completed"]
    assert "--state" in talk.complete("%%flow research --st")


def test_the_extension_can_be_taken_out_again(talk: Kernel) -> None:
    """Nothing of it stays: no magic, no transformer, no builtin."""
    talk("%unload_ext flowbook")
    assert "not found" in talk("%flow status").text
    assert "not found" in talk("%%flow x\n1\n").text
    gone = talk("import builtins; print(hasattr(builtins, '__flowbook__'))")
    assert gone.printed == "False\n"
    assert "flowbook: " in talk("%load_ext flowbook").printed


def test_without_a_database_flows_are_declared_and_the_way_out_is_told(new_kernel: Callable[..., Kernel]) -> None:
    """A wrong URL costs the runs, not the notebook."""
    kernel = new_kernel(FLOWBOOK_DATABASE_URL="postgresql://nobody@127.0.0.1:9/none")
    told = kernel(LOAD)
    assert "no database" in told.printed
    assert "%flow connect" in told.printed
    assert "not connected" in kernel(RESEARCH).text
    assert "FB501" in kernel("%flow run research query=1").error


def run_all(cells: list[str], env: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A notebook, run headless; its cells hold their outputs afterwards."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    return notebook


def test_headless_waits_and_keeps_the_last_picture(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """nbclient drops what comes late, so nothing does; no widget is in the file."""
    cells = [LOAD, RESEARCH, '%flow run research query="x"', "research.run(query='y')", "%flow runs"]
    notebook = run_all(cells, environment, monkeypatch)
    for cell in notebook.cells[2:4]:
        pictures = [o.data for o in cell.outputs if o.output_type == "display_data"]
        assert [sorted(p) for p in pictures] == [["text/html", "text/plain"]]
        assert "✓ completed" in pictures[0]["text/plain"]
    assert "widgets" not in notebook.metadata
    assert notebook.cells[4].outputs[0].data["text/plain"].count("completed") == 2


def test_headless_a_failed_run_fails_the_notebook(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A report that did not come about must not look like one."""
    with pytest.raises(CellExecutionError, match="bad 2"):
        run_all([LOAD, BOOM, "%flow run boom"], environment, monkeypatch)
