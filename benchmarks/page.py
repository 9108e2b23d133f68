"""A large run in a real JupyterLab: how long a person waits for its picture, and for each change of it.

Owns: starting server and browser. Refuses: the run and its numbers, which the tests have (tests/browser/large.py).
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import common as c

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def page(ctx: c.Ctx) -> dict[str, float]:
    """Milliseconds; wall time, so of a machine that does nothing else."""
    from playwright.sync_api import sync_playwright

    from tests.browser.lab import BROWSER_ARGS, Lab, find_browser
    from tests.browser.large import measure

    path = find_browser()
    if path is None:
        raise SystemExit("no Chromium here (scripts/ensure_chromium.sh says why)")
    with tempfile.TemporaryDirectory(prefix="fbpage-") as folder, sync_playwright() as playwright:
        lab = Lab(
            Path(folder),
            {"FLOWBOOK_HOME": folder},
            playwright.chromium.launch(executable_path=path, args=list(BROWSER_ARGS)),
        )
        lab.start()
        try:
            found, _ = measure(lab)
        finally:
            lab.stop()
    return {name: round(value, 2) for name, value in asdict(found).items()}


if __name__ == "__main__":
    c.main("page", ["flowbook-jupyter", "jupyterlab"], {"PAGE": page})
