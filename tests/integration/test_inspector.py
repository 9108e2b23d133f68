"""The inspector where there is no page to see it on: a script, a headless notebook, a kernel that was restarted."""

from __future__ import annotations

import pytest

import flowbook as fb
from tests.integration.test_notebook import LOAD, RESEARCH, environment, new_kernel, run_all, talk

__all__ = ["environment", "new_kernel", "talk"]


@fb.step
def double(n):
    return {"n": 2 * n}


def test_a_script_gets_text(fresh_database: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`run.show()` prints the run; nothing of a notebook is needed."""
    with fb.connect(fresh_database) as app:
        run = app.start(fb.graph("doubling", double >> fb.END), {"n": 4})
        run.result()
        run.show()
    printed = capsys.readouterr().out
    assert "doubling" in printed
    assert "✓ completed" in printed
    assert "✓ double#1" in printed


def test_a_headless_notebook_gets_the_still_form_alone(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Picture, timeline and state as plain HTML; no widget is in the file."""
    cells = [LOAD, RESEARCH, "run = research.start(query='x'); run.result()", "run.show()", "%flow show last"]
    notebook = run_all(cells, environment, monkeypatch)
    for cell in notebook.cells[3:]:
        (shown,) = [o.data for o in cell.outputs if o.output_type == "display_data"]
        assert sorted(shown) == ["text/html", "text/plain"]
        html = shown["text/html"]
        assert "<script" not in html
        assert html.count("data:image/svg+xml;base64,") == 2, "topology and timeline"
        assert "state at the end" in html
        assert "x+x" in html
    assert "widgets" not in notebook.metadata
