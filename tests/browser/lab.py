"""Driving a real JupyterLab the way a person does: open a notebook, run a cell, look at what it shows.

Owns: starting and stopping the server with private directories, and the few selectors of JupyterLab's page that tests
need. Refuses: knowing about flowbook; assertions.

    lab.write_notebook("a.ipynb", ["1 + 1"])
    page = lab.open("a.ipynb")          # waits for an idle kernel
    page.run_cell(0)                    # Ctrl+Enter in cell 0; returns once it runs or is queued
    page.wait_cell(0)                   # until its prompt is a number
    page.output_text(0)                 # "2"

Cells are counted from 0, markdown cells included. `NotebookPage.page` is playwright's own page for all the rest.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from playwright.sync_api import Browser, BrowserContext, Locator, Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER_ARGS = (
    "--no-sandbox",  # Chromium refuses its sandbox to root, and CI is root
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
)
TOKEN = "lab-under-test"
KERNEL = {
    "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
    "language_info": {"name": "python"},
}
RUNNING = "[*]:"
TRIES = 4
STARTUP = 90.0
"""Seconds that the server, a page and a kernel may take on a machine that is busy with other tests."""


def find_browser() -> str | None:
    """The path of a Chromium or Chrome, or None; looks where `scripts/ensure_chromium.sh` looks, in its order."""
    mac = "/Applications/{0}.app/Contents/MacOS/{0}"
    for name in (os.environ.get("FLOWBOOK_CHROMIUM"), *BROWSERS, mac.format("Google Chrome"), mac.format("Chromium")):
        found = shutil.which(name) if name else None
        if found:
            return found
    return None


@dataclass
class NotebookPage:
    """One open notebook in one browser page."""

    page: Page
    base: str
    """The server, ``http://127.0.0.1:PORT``."""
    console: list[str] = field(default_factory=list)
    """What the page wrote to its console as errors, and the exceptions it did not catch."""

    def cell(self, i: int) -> Locator:
        """Cell ``i``. JupyterLab draws cells lazily, hence the attribute and not the position among drawn ones."""
        return self.page.locator(f'.jp-Notebook .jp-Cell[data-windowed-list-index="{i}"]')

    def output(self, i: int) -> Locator:
        """The area below cell ``i``, for selectors of its own."""
        return self.cell(i).locator(".jp-Cell-outputArea")

    def run_cell(self, i: int) -> None:
        """Run cell ``i`` and stay on it; returns as soon as its prompt says that it was taken."""
        self.cell(i).locator(".jp-InputArea-prompt", has_text="[").wait_for()  # until it is drawn the prompt is empty
        before = self.prompt(i)
        editor = self.cell(i).locator(".cm-content").first
        for _ in range(TRIES):
            editor.click()
            editor.press("Control+Enter")
            if before == RUNNING:  # nothing to see: it is queued once more
                return
            deadline = time.monotonic() + 3.0
            while time.monotonic() < deadline:
                if self.prompt(i) != before:
                    return
                time.sleep(0.02)
            # JupyterLab drew the cell anew between the click and the key, and the key went nowhere.
        raise TimeoutError(f"cell {i} would not run; its prompt stays {before!r}")

    def prompt(self, i: int) -> str:
        """The cell's prompt: ``[ ]:`` before, ``[*]:`` while it runs, ``[3]:`` after."""
        return self.cell(i).locator(".jp-InputArea-prompt").inner_text().strip()

    def wait_cell(self, i: int, timeout: float = 60.0) -> None:
        """Until cell ``i`` has run. Raises TimeoutError with its prompt and what it has shown so far."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.prompt(i).strip("[]: ").isdigit():
                return
            time.sleep(0.05)
        raise TimeoutError(f"cell {i} is {self.prompt(i)!r} after {timeout} s and shows {self.output_text(i)!r}")

    def run(self, i: int, timeout: float = 60.0) -> str:
        """Run cell ``i`` to its end and return what it shows."""
        self.run_cell(i)
        self.wait_cell(i, timeout)
        return self.output_text(i)

    def output_text(self, i: int) -> str:
        """What cell ``i`` shows as text, without the prompts of its results; empty without an output."""
        return "\n".join(self.output(i).locator(".jp-OutputArea-output").all_inner_texts()).strip()

    def save(self) -> None:
        """Write the notebook to its file and wait until it is there."""
        path = self.page.evaluate("new URL(location.href).pathname.split('/tree/')[1]")
        with self.page.expect_response(
            lambda r: r.request.method == "PUT" and r.url.split("?")[0].endswith(f"/api/contents/{path}")
        ) as saved:
            self.page.keyboard.press("Escape")
            self.page.keyboard.press("Control+s")
        if not saved.value.ok:
            raise RuntimeError(f"saving {path!r} failed: HTTP {saved.value.status}")

    def reload(self) -> None:
        """Load the page again; the kernel goes on."""
        self.page.reload(wait_until="domcontentloaded")
        self.wait_ready()

    def wait_ready(self, *, kernel: bool = True) -> None:
        """Until cells are drawn and, with ``kernel``, the kernel is idle."""
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=STARTUP * 1000)
        if kernel:
            # The notebook's own indicator says "idle" even before there is a connection, and a cell that is run then is
            # forgotten: its prompt goes [*] and back to [ ]. The status bar tells the two apart.
            bar = self.page.locator("#jp-main-statusbar")
            bar.get_by_text(re.compile(r"\|\s*Idle")).first.wait_for(timeout=STARTUP * 1000)

    def screenshot(self, path: Path) -> None:
        """A picture of the page, for people."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path)

    def kill_kernel(self) -> int:
        """SIGKILL the kernel's process, as the kernel's own pid tells it; returns that pid. JupyterLab restarts it."""
        import psutil

        sessions = get_json(f"{self.base}/api/sessions")
        path = self.page.evaluate("decodeURIComponent(new URL(location.href).pathname.split('/tree/')[1])")
        kernel = next(s["kernel"]["id"] for s in sessions if s["path"] == path)
        for process in psutil.process_iter(["cmdline"]):
            if any(f"kernel-{kernel}.json" in part for part in process.info["cmdline"] or ()):
                process.kill()
                return int(process.pid)
        raise LookupError(f"no process runs kernel {kernel!r}")


@dataclass
class Lab:
    """A JupyterLab server with directories of its own, and a browser to look at it."""

    folder: Path
    """Holds the server's config, runtime and data, and ``notebooks``."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables for the server and its kernels, over this process's own."""
    browser: Browser | None = None
    """What `open` opens pages in."""
    base: str = ""
    """``http://127.0.0.1:PORT`` once started."""
    _process: subprocess.Popen[bytes] | None = None
    _contexts: list[BrowserContext] = field(default_factory=list)
    _lasting: dict[str, BrowserContext] = field(default_factory=dict)
    """Notebook -> its page, of those that are there for several tests."""

    @property
    def notebooks(self) -> Path:
        """Where notebooks are."""
        return self.folder / "notebooks"

    @property
    def log(self) -> Path:
        """What the server and its kernels wrote."""
        return self.folder / "lab.log"

    def start(self) -> None:
        """Start the server and wait until it answers. Raises RuntimeError with the end of its log."""
        self.notebooks.mkdir(parents=True, exist_ok=True)
        port = _free_port()
        self.base = f"http://127.0.0.1:{port}"
        foreign = ("JUPYTER", "JPY_", "PYTEST", "FLOWBOOK_", "DATABASE_URL", "OPENAI_")
        env = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        env |= {
            "HOME": str(self.folder),
            "IPYTHONDIR": str(self.folder / "ipython"),
            "JUPYTER_CONFIG_DIR": str(self.folder / "config"),
            "JUPYTER_DATA_DIR": str(self.folder / "data"),
            "JUPYTER_RUNTIME_DIR": str(self.folder / "runtime"),
            "JUPYTERLAB_SETTINGS_DIR": str(self.folder / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(self.folder / "workspaces"),
            "JUPYTER_PLATFORM_DIRS": "1",
            "JUPYTER_PREFER_ENV_PATH": "0",  # else the kernels of a venv hide those of `kernels_get`
            "PYTHONPATH": os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH")])),
            **self.env,
        }
        command = [
            *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
            *(f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--ServerApp.ip=127.0.0.1"),
            *(f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={self.notebooks}"),
            *("--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"),
        ]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=env, cwd=self.notebooks, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + STARTUP
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError):
                get_json(f"{self.base}/api/status")
                return
            time.sleep(0.1)
        self.stop()
        raise RuntimeError(f"JupyterLab did not start:\n{self.log.read_text(errors='replace')[-3000:]}")

    def stop(self) -> None:
        """Close the pages and end the server with its kernels."""
        self.close_pages(lasting=True)
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(
                self._process.pid, signal.SIGTERM
            )  # the server shuts its kernels down; asks nothing, unlike SIGINT
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(5)
        self._process = None

    def add_kernel(self, name: str, side: Path) -> None:
        """Make a kernel whose ipykernel is the one in the folder ``side``; all else is this Python's."""
        spec = self.folder / "data" / "kernels" / name / "kernel.json"
        spec.parent.mkdir(parents=True, exist_ok=True)
        path = os.pathsep.join([str(side), str(Path.cwd())])
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        env = {"PYTHONPATH": path}
        spec.write_text(json.dumps({"argv": argv, "display_name": name, "language": "python", "env": env}))

    def kernels_get(self, **env: str) -> None:
        """Give the kernels that are started from now on these variables; the server itself does not have them."""
        spec = self.folder / "data" / "kernels" / "python3" / "kernel.json"
        spec.parent.mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        about = {"argv": argv, "display_name": "Python 3 (ipykernel)", "language": "python", "env": env}
        spec.write_text(json.dumps(about))

    def as_it_was(self) -> None:
        """Take back `kernels_get` and `set`."""
        for folder in (self.folder / "data" / "kernels" / "python3", self.folder / "settings"):
            shutil.rmtree(folder, ignore_errors=True)

    def set(self, plugin: str, **settings: Any) -> None:
        """Change JupyterLab's settings for the pages that are opened from now on, e.g.
        ``lab.set("@jupyterlab/apputils-extension:themes", theme="JupyterLab Dark")``.
        """
        extension, _, name = plugin.partition(":")
        path = self.folder / "settings" / extension / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings), encoding="utf-8")

    def write_notebook(self, name: str, cells: Iterable[str | Any], *, kernel: str = "python3") -> Path:
        """Write ``name`` under `notebooks`; a text is a code cell, anything else a ready nbformat cell."""
        about = {**KERNEL, "kernelspec": {"name": kernel, "display_name": kernel, "language": "python"}}
        notebook = nbformat.v4.new_notebook(metadata=KERNEL if kernel == "python3" else about)
        notebook.cells = [nbformat.v4.new_code_cell(cell) if isinstance(cell, str) else cell for cell in cells]
        path = self.notebooks / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, path)
        return path

    def read_notebook(self, name: str) -> Any:
        """The notebook as it is in its file now."""
        return nbformat.read(self.notebooks / name, as_version=4)

    def open(self, name: str, *, kernel: bool = True, lasting: bool = False) -> NotebookPage:
        """Open ``name`` in a page of its own; with ``kernel``, wait until its kernel is idle; ``lasting``: for several
        tests, until `close_pages` is told to close it too.
        """
        if self.browser is None:
            raise RuntimeError("this Lab has no browser to open pages in")
        context = self.browser.new_context(viewport={"width": 1400, "height": 1000})
        if lasting:
            self._lasting[name] = context
        else:
            self._contexts.append(context)
        page = context.new_page()
        notebook = NotebookPage(page, self.base)
        page.on("console", lambda m: notebook.console.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: notebook.console.append(str(error)))
        page.goto(f"{self.base}/lab/tree/{name}?token={TOKEN}&reset", wait_until="domcontentloaded")
        notebook.wait_ready(kernel=kernel)
        return notebook

    def close_pages(self, *, lasting: bool = False) -> None:
        """Close every page, and end every kernel, so that the next test meets an empty server; without ``lasting``
        those stay that were opened for several tests.
        """
        while self._contexts:
            self._contexts.pop().close()
        while lasting and self._lasting:
            self._lasting.popitem()[1].close()
        if self._process is None or self._process.poll() is not None:
            return
        with contextlib.suppress(OSError):
            for session in get_json(f"{self.base}/api/sessions"):
                if session["path"] in self._lasting:
                    continue
                get_json(f"{self.base}/api/sessions/{session['id']}", method="DELETE")


def get_json(url: str, method: str = "GET") -> Any:
    """One request to the server with the token; None for an empty answer. Raises OSError when it does not answer."""
    request = urllib.request.Request(url, method=method, headers={"Authorization": f"token {TOKEN}"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        body = answer.read()
    return json.loads(body) if body else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
