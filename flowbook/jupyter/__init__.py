"""The notebook's door: ``%load_ext flowbook``. Each of its verbs is one call into the app, and a picture."""

from __future__ import annotations

from flowbook.jupyter.extension import load_ipython_extension, unload_ipython_extension

__all__ = ["load_ipython_extension", "unload_ipython_extension"]
