"""Declaring: steps, topologies, graphs and the state they share. Pure: no asyncio, no SQL, no IPython.

The package has the name of the public function `graph`, and importing any of its modules puts the package where the
function should be (``flowbook.graph``). So the package answers calls itself: ``flowbook.graph("etl", a >> b)`` is
`flow.graph`, whatever was imported before.
"""

from __future__ import annotations

import sys
import types
from typing import Any


class _CallablePackage(types.ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from flowbook.graph.flow import graph  # at the first call: importing the package stays free

        return graph(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
