"""The proof of the first notebook's own flow: real data, fitted models, a retry."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from flowbook.cli import main
from tests.integration.test_notebook import Kernel, environment, new_kernel, talk

__all__ = ["environment", "new_kernel", "talk"]

ROOT = Path(__file__).parents[2]


@pytest.mark.crash
@pytest.mark.timeout(900)
def test_the_quickstart_is_proven(
    talk: Kernel, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Killed after each of its nine steps it comes to the same scores and the same picture."""
    cells = [c["source"] for c in nbformat.read(ROOT / "notebooks" / "01_quickstart.ipynb", as_version=4)["cells"]]
    declared = talk(next(source for source in cells if source.startswith("%%flow quickstart")))
    assert not declared.error
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["prove", "quickstart", "pace=0.01", "ledger=ledger.txt", "--timeout", "800", "--json"])
    record = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0, record["why"]
    assert record["passed"]
    assert record["kills"] == len(record["steps"]) == 9
    assert all(step["killed"] and step["same"] for step in record["steps"])
