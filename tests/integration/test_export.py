"""A flow that was begun in a notebook goes on in production: as a module, without its kernel and its stored source."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import asyncpg
import pytest

from flowbook.cli import main
from tests.integration.test_cli import Call, call
from tests.integration.test_notebook import Kernel, environment, new_kernel, talk

__all__ = ["call", "environment", "new_kernel", "talk"]

SLOW = """\
%%flow slowly
import time
from pathlib import Path

LIMIT = 30.0

def until(file):
    begun = time.monotonic()
    while not Path(file).exists() and time.monotonic() - begun < LIMIT:
        time.sleep(0.02)

@step(retries=2)
def prepare(flag):
    return {"prepared": [flag]}

@step
def wait_for(prepared):
    until(prepared[0])
    return {"waited": True}

@step
def finish(prepared, waited):
    return {"result": f"{len(prepared)} {waited}"}

START >> prepare >> wait_for >> branch(lambda s: s.waited, {True: finish, False: prepare})
finish >> END
"""


def test_a_run_that_was_begun_in_a_kernel_goes_on_with_the_exported_module(
    talk: Kernel, environment: Mapping[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The kernel is killed half-way, the stored source is thrown away, and the module carries the run to its end."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    module, flag = tmp_path / "slowly.py", tmp_path / "flag"
    assert not talk(SLOW).error
    written = talk(f"%flow export slowly {module}")
    assert "declares the same version" in written.printed, written.error
    assert "there already" in talk(f"%flow export slowly {module}").error
    run = talk(f"run = %flow run slowly flag='{flag}'\nimport os; print('PID', os.getpid(), run.id)")
    _, pid, run_id = next(line for line in run.printed.splitlines() if line.startswith("PID")).split()
    talk("while 'wait_for#1' not in run.current: pass")
    os.kill(int(pid), signal.SIGKILL)
    flag.touch()

    async def forget() -> None:
        database = await asyncpg.connect(environment["FLOWBOOK_DATABASE_URL"])
        await database.execute("update flowbook.definition set sources = '{}', signature = ''")
        await database.close()

    asyncio.run(forget())
    deadline = time.monotonic() + 60
    while True:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["resume", run_id, "--module", str(module), "--json"])
        record = json.loads(capsys.readouterr().out)
        if record["status"] == "completed" or time.monotonic() > deadline:
            break
    assert ended.value.code == 0
    assert record["status"] == "completed"
    assert [s["path"] for s in record["steps"]] == ["prepare#1", "wait_for#1", "finish#1"]
    assert [s["result"] for s in record["steps"]][-1] == {"result": "1 True"}


def test_the_command_line_exports_a_stored_flow_and_says_what_it_cannot(call: Call, tmp_path: Path) -> None:
    """A usage error for a file that is no module; the flow is proven to be the same before anything is written."""
    file = tmp_path / "shop_export.py"
    file.write_text("import flowbook as fb\n@fb.step\ndef a(x): return x\nshop = fb.graph('shop', a)\n")
    code, out, _ = call("export", f"{file}:shop", str(tmp_path / "other.py"), "--json")
    assert code == 0
    assert len(json.loads(out)["fingerprint"]) == 32
    assert "shop = fb.graph(" in (tmp_path / "other.py").read_text()
    code, _, err = call("export", f"{file}:shop", str(tmp_path / "other.txt"))
    assert code == 2
    assert "name a file such as shop.py" in err
