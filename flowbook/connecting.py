"""Connecting: from a database URL to an app.

Owns: `connect`, the one way to an app for scripts, servers and doors; the embedded server's life; this user's key.
Refuses: reading the environment; doors pass what they find there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from flowbook.graph import launch
from flowbook.run.portal import Portal
from flowbook.secret import from_environment
from flowbook.store.url import DatabaseUrl, resolve

if TYPE_CHECKING:
    from flowbook.app import App
    from flowbook.store.embedded import Cluster
from flowbook.sync import SyncApp, SyncRun


class Connection:
    """A connection that is not open yet: ``with`` gives a `SyncApp`, ``async with`` an `App`."""

    def __init__(
        self, url: DatabaseUrl, home: Path, *, namespace: str, lease: float, always_suspend: bool, plugins: bool = True
    ) -> None:
        self.url, self.home = url, home
        self._plugins = plugins
        self._namespace, self._lease, self._always_suspend = namespace, lease, always_suspend
        self.address: str | None = None
        """The URL of the database itself, once it is connected to: the embedded server has it when it runs."""
        self._cluster: Cluster | None = None
        self._sync: SyncApp | None = None
        self._app: App | None = None

    async def __aenter__(self) -> App:
        """Start the embedded server if it is meant, bring the schema up to date, begin to listen."""
        self._app = await self._make().__aenter__()
        if self._plugins:
            from flowbook.hooks import load_plugins

            load_plugins(self._app)
        return self._app

    async def __aexit__(self, *exc: object) -> None:
        try:
            if self._app is not None:
                await self._app.__aexit__(*exc)
        finally:
            self._detach()

    def __enter__(self) -> SyncApp:
        return self.open()

    def __exit__(self, *exc: object) -> None:
        self.close()

    def open(self) -> SyncApp:
        """The sync app, which is then the current one: ``graph.run(...)`` finds it."""
        from flowbook.sync import SyncApp  # with the engine behind it: a light `import flowbook` stays light

        portal = Portal()
        portal.start()
        try:
            app = portal.call(self.__aenter__())
        except BaseException:
            portal.stop()
            self._detach()
            raise
        self._sync = SyncApp(app, portal, self.url.shown)
        self._sync.inspect = _print  # until a notebook brings something better
        launch.push(self._sync)
        return self._sync

    def close(self) -> None:
        """Hand unfinished runs back, disconnect, let go of the embedded server."""
        try:
            if self._sync is not None:
                self._sync.close()
        finally:
            self._detach()

    def _make(self) -> App:
        from flowbook.app import App, Options
        from flowbook.graph.sign import load_key
        from flowbook.store.postgres import PostgresStore

        url = self.url.url
        if url is None:  # the embedded server, which has its address once it runs
            from flowbook.store.embedded import Cluster

            self._cluster = Cluster(self.url.home or self.home)
            url = self._cluster.attach().url
        self.address = url
        options = Options(self._namespace, load_key(self.home), self._always_suspend)
        return App(PostgresStore(url, lease=self._lease), options)

    def _detach(self) -> None:
        if self._cluster is not None:
            self._cluster.detach()
            self._cluster = None


def _print(run: SyncRun) -> None:
    from flowbook.show.text import run_plain  # only who looks at a run pays for it

    print(run_plain(run.view()))  # noqa: T201 - it was asked for


def connect(
    url: str | None = None,
    *,
    home: Path | None = None,
    namespace: str = "default",
    lease: float = 60.0,
    always_suspend: bool = False,
    plugins: bool = True,
    env: Mapping[str, str] | None = None,
) -> Connection:
    """A connection to a Postgres, for ``with`` in scripts and ``async with`` in servers.

    Without a URL: an embedded Postgres under ``home`` (default: the user's data directory). ``lease`` is the seconds
    after which a process that gives no sign of life loses its runs. ``plugins``: those that are installed (entry points
    of the group ``flowbook.plugins``) are called with the app. ``env`` is what doors pass (``os.environ``), for
    ``FLOWBOOK_DATABASE_URL``, ``DATABASE_URL`` and ``FLOWBOOK_HOME``. Raises `BadDatabaseUrl`, `EmbeddedUnavailable`,
    `StoreUnavailable`, `SchemaMismatch`.
    """
    from flowbook.store.embedded import default_home

    env = env or {}
    from_environment(env)
    if home is None:
        home = Path(env["FLOWBOOK_HOME"]) if env.get("FLOWBOOK_HOME") else default_home()
    found = resolve(url, env, home)
    return Connection(found, home, namespace=namespace, lease=lease, always_suspend=always_suspend, plugins=plugins)
