"""A real JupyterLab and a real Chromium for the tests of this directory; see `lab.py` for what they can do.

    lab       a running `Lab`, one server per xdist worker; pages and kernels are closed after each test
    module_lab  the same server for what several tests of a module look at: ``module_lab.open(name, lasting=True)``
    module_database  the URL of an empty database for all tests of a module
    live_lab  the same, and its kernels use an empty database
    new_lab   a function that starts one more server, with variables of its own: ``new_lab(FLOWBOOK_DATABASE_URL=...)``

Kernels find no database of this machine's user: `FLOWBOOK_HOME` is the session's own (`flowbook_home`).
Every test here carries the marker `browser` by itself. Both xdist workers run them, each with a server and a browser of
its own, and a module stays with one of them: opening a page and starting a kernel is most of what a test here takes, so
tests that leave a page as they found it share one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.lab import BROWSER_ARGS, Lab, find_browser
from tests.conftest import new_database

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A headless Chromium; a test that asks for it is skipped where there is none.

    One per module, not per session: while playwright's sync API is open, its event loop counts as running in this
    thread, and `asyncio.run` of any later test on the same worker would be refused.
    """
    path = find_browser()
    if path is None:
        pytest.skip("no Chromium here (scripts/ensure_chromium.sh says why)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(BROWSER_ARGS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def _session_lab(tmp_path_factory: pytest.TempPathFactory, flowbook_home: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("lab"), {"FLOWBOOK_HOME": str(flowbook_home)})
    lab.start()
    yield lab
    lab.stop()


@pytest.fixture(scope="module")
def module_lab(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A running JupyterLab; what is opened there for good lives until the module's last test."""
    lab: Lab = request.getfixturevalue("_session_lab")  # asked for here: no server is started for tests that skip
    lab.browser = chromium
    yield lab
    lab.close_pages(lasting=True)


@pytest.fixture(scope="module")
def module_database(database_url: str) -> Iterator[str]:
    """The URL of a new, empty database for the tests of a module."""
    with new_database(database_url) as url:
        yield url


@pytest.fixture
def lab(module_lab: Lab) -> Iterator[Lab]:
    """A running JupyterLab without open pages or kernels of other tests; the server itself lives for the session."""
    yield module_lab
    module_lab.close_pages()


@pytest.fixture
def live_lab(lab: Lab, fresh_database: str) -> Iterator[Lab]:
    """The session's JupyterLab, whose kernels use an empty database. Its server knows nothing of that one: a test of
    what the server does needs a `new_lab`, which takes seconds to start.
    """
    lab.kernels_get(FLOWBOOK_DATABASE_URL=fresh_database)
    yield lab
    lab.as_it_was()


@pytest.fixture
def new_lab(
    chromium: Browser, tmp_path_factory: pytest.TempPathFactory, flowbook_home: Path
) -> Iterator[Callable[..., Lab]]:
    """Starts one more JupyterLab, with the given variables in its environment; ended after the test."""
    started: list[Lab] = []

    def start(**env: str) -> Lab:
        lab = Lab(tmp_path_factory.mktemp("lab"), {"FLOWBOOK_HOME": str(flowbook_home), **env}, chromium)
        started.append(lab)
        lab.start()
        return lab

    yield start
    for lab in started:
        lab.stop()
