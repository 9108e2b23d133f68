"""The manual and the demo: each notebook runs, and each claim of `make demo` holds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from notebooks.demo_page import external

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_each_notebook_runs_from_top_to_bottom(
    path: Path, fresh_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an empty database, headless, without an error in any cell and without touching the folder it lies in."""
    monkeypatch.setenv("FLOWBOOK_DATABASE_URL", fresh_database)
    monkeypatch.setenv("FLOWBOOK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    notebook: Any = nbformat.read(path, as_version=4)
    client: Any = NotebookClient(notebook, timeout=100, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    assert outputs
    assert not [o for o in outputs if o["output_type"] == "error"]
    assert not any("not portable" in str(o.get("data", "")) for o in outputs), "the manual's flows can be resumed"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_are_kept_without_machine_paths(path: Path) -> None:
    """No folder of whoever ran them last is in the repository, and their cells have ids."""
    text = path.read_text(encoding="utf-8")
    assert str(ROOT) not in text
    assert "/home/" not in text
    notebook: Any = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.xdist_group("demo")  # two at once would share one place
def test_the_demo_proves_what_it_says() -> None:
    """`make demo`: killed half-way, carried on, each claim checked; and the page needs nothing but itself."""
    done = subprocess.run(
        [sys.executable, "notebooks/demo.py"], cwd=ROOT, env=os.environ.copy(), capture_output=True, text=True,
        timeout=380, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "kill -9" in done.stdout
    assert "claims hold" in done.stdout
    page = (ROOT / "build" / "demo.html").read_text(encoding="utf-8")
    assert not external(page)
    assert "data:image/svg+xml;base64," in page


def test_what_a_page_would_fetch_is_found() -> None:
    """The check of the page is not blind."""
    for bad in (
        '<script src="https://cdn.example.org/require.js">', '<link rel="stylesheet" href="x.css">',
        '<img src="https://example.org/x.png">', "@import 'x.css'", "background: url(https://example.org/x.png)",
    ):  # fmt: skip
        assert external(bad), bad
    assert not external('<img src="data:image/png;base64,AAAA"><a href="#top">up</a>')
