"""A large run on a page: it stays smooth, and no update is more than what has changed.

Machines that run this are small and busy, so what is judged is what page and kernel do (CPU time), and how much is
sent. How long people wait is a target of `make bench ARGS=PAGE`.
"""

from __future__ import annotations

from pathlib import Path

from tests.browser.lab import Lab
from tests.browser.large import UPDATES, measure
from tests.browser.test_live_run import keep


def test_500_nodes_and_20_000_entries_stay_smooth(lab: Lab, tmp_path: Path) -> None:
    """Ten times a second: a few milliseconds of the kernel, and of the page far less than the time between two."""
    found, page = measure(lab)
    keep(page, "large", tmp_path)
    print(found)
    assert found.updates >= UPDATES * 0.9, "each update is shown, and none is put together with another by the page"
    assert found.page_per_update < 50, found
    assert found.kernel_p95 < 50, found
    assert page.output(1).locator(".fb-live [data-node]").count() == 500
