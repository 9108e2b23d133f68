"""Kernels whose variables are kept: what an engine does, in its plainest form.

Owns: a real kernel that is told before and after each cell, and can be killed at any moment. Refuses: a journal.
"""

from __future__ import annotations

import ast
import json
import os
import queue
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from jupyter_client.manager import KernelManager

LIMIT = 120.0
"""Seconds after which a cell hangs."""
ROOT = Path(__file__).resolve().parents[2]
DOOR = "__import__('flowbook.jupyter.keeping', fromlist=['x'])"


class KernelDied(Exception):
    """The kernel's process has ended."""


class KeptKernel:
    """One kernel with a keeper in it."""

    def __init__(self, url: str, home: Path, cwd: Path) -> None:
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        env = {**os.environ, "FLOWBOOK_HOME": str(home), "MPLBACKEND": "agg", "PYTHONPATH": path}
        # Sockets in a folder of its own: on a busy machine two kernels are given one port now and then, and with it
        # each other's messages.
        self.sockets = tempfile.TemporaryDirectory(prefix="fb-")
        self.manager = KernelManager(kernel_name="python3", transport="ipc", ip=f"{self.sockets.name}/k")
        self.manager.start_kernel(env=env, cwd=str(cwd))
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=LIMIT)
        self.ask(f"{DOOR}.begin({url!r}) is not None")

    def ask(self, expression: str) -> Any:
        """The value of an expression, evaluated silently in the kernel."""
        sent = self.client.execute("", silent=True, user_expressions={"it": expression}, allow_stdin=False)
        found = self._reply(sent)["user_expressions"]["it"]
        if found["status"] != "ok":
            raise AssertionError("\n".join(found["traceback"]))
        return ast.literal_eval(found["data"]["text/plain"])

    def run(self, source: str, cell: str) -> dict[str, Any]:
        """A cell with its checkpoint, which is durable; the answer is what `keeping.after` says."""
        self.begin(source, cell)
        return self.end()

    def plain(self, source: str) -> None:
        """A cell without a checkpoint."""
        reply = self._reply(self.client.execute(source, allow_stdin=False))
        assert reply["status"] == "ok", "\n".join(reply.get("traceback", []))

    def begin(self, source: str, cell: str) -> None:
        """A cell begins; `end` waits for it."""
        self.ask(f"{DOOR}.before({source!r}, {cell!r})")
        self._sent = self.client.execute(source, allow_stdin=False)

    def end(self) -> dict[str, Any]:
        """The cell has ended and is kept."""
        reply = self._reply(self._sent)
        assert reply["status"] == "ok", "\n".join(reply.get("traceback", []))
        said = self._said()
        answer: dict[str, Any] = json.loads(self.ask(f"{DOOR}.after(wait=True)"))
        return {**answer, "said": said}

    def dies(self, source: str, cell: str) -> None:
        """A cell in the middle of which the kernel is killed, by itself: exactly there, and by a real SIGKILL."""
        body = ast.parse(source).body
        half = len(body) // 2
        kill = ast.parse("import os as _os; _os.kill(_os.getpid(), 9)").body
        self.begin(ast.unparse(ast.Module([*body[:half], *kill, *body[half:]], [])), cell)
        process = self.manager.provisioner.process  # type: ignore[union-attr]
        end = time.monotonic() + LIMIT
        while process.poll() is None:
            try:
                reply = self.client.get_shell_msg(timeout=0.1)["content"]
            except queue.Empty:
                assert time.monotonic() < end, "the kernel was not killed"
                continue
            raise AssertionError("\n".join(reply.get("traceback", ["the cell ended and was not killed"])))
        self.close()

    def restore(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Put a checkpoint back; the report."""
        report: dict[str, Any] = json.loads(self.ask(f"{DOOR}.restore({json.dumps(manifest)!r})"))
        return report

    def kill(self) -> None:
        """SIGKILL, and wait until the process is gone."""
        self.manager.provisioner.process.send_signal(signal.SIGKILL)  # type: ignore[union-attr]
        self.manager.provisioner.process.wait()  # type: ignore[union-attr]
        self.close()

    def close(self) -> None:
        """End the kernel."""
        self.client.stop_channels()
        if self.manager.has_kernel:
            self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()
        self.sockets.cleanup()

    def _said(self) -> str:
        """What the cell has printed and shown, as text."""
        said = ""
        while True:
            message = self.client.get_iopub_msg(timeout=LIMIT)
            if message["parent_header"].get("msg_id") != self._sent:
                continue
            content = message["content"]
            if message["msg_type"] == "stream":
                said += content["text"]
            elif message["msg_type"] in ("execute_result", "display_data"):
                said += content["data"].get("text/plain", "") + "\n"
            elif message["msg_type"] == "status" and content["execution_state"] == "idle":
                return said

    def _reply(self, sent: str) -> dict[str, Any]:
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            try:
                message = self.client.get_shell_msg(timeout=0.5)
            except queue.Empty:
                if not self.manager.is_alive():
                    raise KernelDied from None
                continue
            if message["parent_header"].get("msg_id") == sent:
                content: dict[str, Any] = message["content"]
                return content
        raise TimeoutError("the kernel does not answer")
