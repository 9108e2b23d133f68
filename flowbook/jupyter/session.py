"""The session: what one kernel knows of flowbook.

Owns: the connection, the flows of this notebook, the last run, and publishing. Refuses: parsing (`parse.py`), pictures
(`show/`) and every decision about a run, which are the app's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.display import publish_display_data, update_display

from flowbook.connecting import Connection, connect
from flowbook.errors import NotConnected, RunNotFound, UsageError
from flowbook.graph.flow import Graph
from flowbook.jupyter.keeping import home_of
from flowbook.jupyter.mistakes import brief, usage
from flowbook.jupyter.parse import known

if TYPE_CHECKING:
    from flowbook.jupyter.displays import OnInterrupt
    from flowbook.rows import Registered
    from flowbook.sync import SyncApp, SyncRun


ON_INTERRUPT = "FLOWBOOK_ON_INTERRUPT"
"""``keep`` (the default) or ``cancel``."""


class Session:
    """One kernel's door. Made when the extension is loaded."""

    def __init__(self, ip: Any, env: Mapping[str, str]) -> None:
        from flowbook.jupyter.displays import Displays  # they need the session, which needs them

        self.ip = ip
        self.env = env
        self.flows: dict[str, Graph] = {}
        self.last: SyncRun | None = None
        chosen = env.get(ON_INTERRUPT)
        self.on_interrupt: OnInterrupt = "cancel" if chosen == "cancel" else "keep"
        """What becomes of a run when the cell that shows it is interrupted, where its start does not say."""
        self.displays = Displays(self)
        self._connection: Connection | None = None
        self._app: SyncApp | None = None

    @property
    def namespace(self) -> dict[str, Any]:
        """The user's variables."""
        found: dict[str, Any] = self.ip.user_ns
        return found

    # -- the database --------------------------------------------------------------------------------------------------

    @property
    def app(self) -> SyncApp:
        """The app. Raises `NotConnected`."""
        if self._app is None:
            raise brief(
                NotConnected(
                    "no database: `%flow connect postgresql://...` connects to one; `%reload_ext flowbook` tries again "
                    "to start the embedded one"
                )
            )
        return self._app

    @property
    def connected(self) -> bool:
        """Is there a database?"""
        return self._app is not None

    def connect(self, url: str | None = None) -> str:
        """Connect, in place of an earlier connection, and return which database it is. Raises what `connect` raises."""
        new = connect(url, env=self.env)
        app = new.open()
        self.close()
        self._connection, self._app = new, app
        app.display = self.displays.show
        app.inspect = self.displays.inspect
        app.started = self._started
        for name in self.flow_names():
            app.register(self.flow(name))  # else a run of theirs could not be resumed here
        return app.shown

    @property
    def database(self) -> str:
        """Which database, as a digest without any secret; empty: none."""
        return "" if self._connection is None else self._connection.url.fingerprint

    @property
    def address(self) -> str | None:
        """The database's own URL; None: there is none."""
        return None if self._connection is None else self._connection.address

    @property
    def home(self) -> Path:
        """Where this user's key is."""
        return home_of(self.env)

    def close(self) -> None:
        """Disconnect."""
        connection, self._connection, self._app = self._connection, None, None
        if connection is not None:
            connection.close()

    # -- flows ---------------------------------------------------------------------------------------------------------

    def declare(self, graph: Graph) -> Registered | None:
        """Store a flow's code; None without a database."""
        return self.app.register(graph) if self.connected else None

    def repeated(self, graph: Graph) -> bool:
        """Is this the very code that the notebook had under the name?"""
        before = self.flows.get(graph.name)
        return before is not None and before.fingerprint == graph.fingerprint

    def bind(self, graph: Graph) -> None:
        """Make it a variable of the notebook."""
        self.flows[graph.name] = graph
        self.ip.push({graph.name: graph})

    def flow(self, name: str) -> Graph:
        """A flow of this notebook: a variable that is a graph, or a flow cell's. Raises a usage error."""
        own = self.namespace.get(name)
        if isinstance(own, Graph):
            return own
        if name in self.flows:
            return self.flows[name]
        names = self.flow_names()
        have = (
            f"this notebook has {', '.join(names)}" if names else "this notebook has none yet: `%%flow NAME` makes one"
        )
        raise usage(f"there is no flow {name!r}; {have}{known(name, names)}")

    def flow_names(self) -> list[str]:
        """Names under which flows can be had."""
        return sorted({*self.flows, *(n for n, v in self.namespace.items() if isinstance(v, Graph) and n[:1] != "_")})

    # -- runs ----------------------------------------------------------------------------------------------------------

    def _started(self, run: SyncRun) -> None:
        self.last = run

    def run(self, text: str) -> SyncRun:
        """A run by id, unique prefix, short id or ``last``. Raises a usage error."""
        if text == "last":
            if self.last is not None:
                return self.last
            raise usage("there is no last run: this kernel has not started or shown one; `%flow runs` lists all")
        try:
            return self.app.find(text)
        except (RunNotFound, UsageError) as error:
            raise brief(error) from None

    # -- output --------------------------------------------------------------------------------------------------------

    def publish(self, bundle: Mapping[str, str], display_id: str | None = None, *, update: bool = False) -> None:
        """Show a bundle of forms of one thing below the cell; with ``update``, in place of what has that id."""
        if update:
            update_display(dict(bundle), raw=True, display_id=display_id)
        else:
            transient = {"display_id": display_id} if display_id else {}
            publish_display_data(dict(bundle), transient=transient)
