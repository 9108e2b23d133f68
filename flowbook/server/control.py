"""Control through the store: a decision, a cancel or a retry that reaches the database while the kernel is busy.

Owns: ``POST flowbook/control``, behind Jupyter's own token and XSRF check, and saying which database this server means.
Refuses: anything that reads a run's values, and every database but the one that the page's kernel has.

An ipykernel before 7 hears no click while a cell runs. Its page then asks here: the same question under the same mark,
which the store takes once, so it does no harm if the kernel hears of it later. The server finds its database as a
kernel does: the environment, then the embedded one. A page names the one that its kernel has by a digest of its address
without user and password (`DatabaseUrl.fingerprint`); another one is refused, and nothing is written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web

from flowbook.connecting import connect
from flowbook.deciding import KINDS, asked, me
from flowbook.errors import FlowbookError, UsageError

USER = "JUPYTERHUB_USER"


class ControlHandler(APIHandler):
    """``{kind, run, database, namespace, args}`` -> ``{value}`` or ``{trouble}``."""

    @web.authenticated
    async def post(self) -> None:
        """Take one question. 400: it is none, 409: another database, 422: the run does not take it."""
        try:
            body = json.loads(self.request.body)
            kind, args = str(body["kind"]), dict(body.get("args") or {})
            run, namespace = str(args.get("run") or body["run"]), str(body["namespace"])
            if kind not in KINDS:
                raise ValueError(kind)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise web.HTTPError(400, "no question of flowbook's") from None
        try:
            connection = connect(namespace=namespace, env=os.environ)
            if connection.url.fingerprint != body.get("database"):
                raise UsageError(
                    f"this Jupyter server's database is {connection.url.shown}, and the kernel has connected to "
                    f"another one: set FLOWBOOK_DATABASE_URL where the server is started, or wait for the cell's end"
                )
        except FlowbookError as error:
            self._say(409, {"trouble": error.message})
            return
        try:
            async with connection as app:
                found = await app.run(run)
                self._say(200, {"value": await asked(app, found.id, kind, args, os.environ.get(USER) or me())})
        except FlowbookError as error:
            self._say(422, {"trouble": error.message})

    def _say(self, status: int, body: Mapping[str, Any]) -> None:
        self.set_status(status)
        self.finish(json.dumps(body))


def handlers(base_url: str) -> list[tuple[str, type[ControlHandler]]]:
    """What the server's application gets."""
    return [(url_path_join(base_url, "flowbook", "control"), ControlHandler)]
