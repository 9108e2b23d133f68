"""The server's door: what a page asks when its kernel does not hear it.

Owns: telling Jupyter Server that there is an extension. Refuses: everything else (`control.py`). It is enabled by a
file that the package installs, `etc/jupyter/jupyter_server_config.d/flowbook.json`.
"""

from __future__ import annotations

from typing import Any


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "flowbook.server"}]


def _load_jupyter_server_extension(serverapp: Any) -> None:
    from flowbook.server.control import handlers  # a server without pages of flowbook's loads nothing of it

    serverapp.web_app.add_handlers(".*$", handlers(serverapp.web_app.settings["base_url"]))
