"""What the tests that kill things have in common: under --always-suspend their workers suspend always as well."""

from __future__ import annotations

import pytest

from tests.crash.fleet import Fleet


@pytest.fixture(autouse=True)
def _suspending(always_suspend: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fleet, "always_suspend", always_suspend)
