"""Every scenario of the runner runs twice: keeping its record, and folding it anew after each step."""

from __future__ import annotations

import pytest

from tests.unit.run.apps import Apps


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "suspending" in metafunc.fixturenames:
        asked = metafunc.config.getoption("--always-suspend")
        metafunc.parametrize("suspending", [True] if asked else [False, True], ids=lambda s: "suspending" if s else "")


@pytest.fixture
def apps(suspending: bool) -> Apps:
    """Apps on an empty database, in memory."""
    return Apps(always_suspend=suspending)
