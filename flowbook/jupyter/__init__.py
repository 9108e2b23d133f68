"""The notebook's door: ``%load_ext flowbook``. Each of its verbs is one call into the app, and a picture.

Its modules are loaded when they are asked for: a kernel that is only to be checkpointed (`keeping.py`) has no use for
the engine and the pictures.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowbook.jupyter.extension import load_ipython_extension, unload_ipython_extension

__all__ = ["load_ipython_extension", "unload_ipython_extension"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("flowbook.jupyter.extension"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
