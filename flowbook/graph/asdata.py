"""Flows as data: the two verbs of a flow that read and write specs.

Owns: `AsData`, which every flow is. Refuses: the form (`written.py`), reading (`reading.py`) and writing
(`writing.py`), which are loaded by who uses them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from flowbook.graph.flow import Graph


class AsData:
    """What can be written as data and read from it."""

    __slots__ = ()

    def to_spec(self) -> dict[str, Any]:
        """The flow as JSON: steps, routers and classes by their names, and how they follow each other.

        ``docs/flow.schema.json`` is its JSON Schema. What is read back with the same steps has the same topology.
        """
        from flowbook.graph.writing import to_spec

        return to_spec(cast("Graph", self))

    @classmethod
    def from_spec(
        cls, spec: Mapping[str, Any] | str | Path, steps: Mapping[str, Any] | Iterable[Any] | None = None
    ) -> Graph:
        """The flow that a spec describes: a dict, a text of YAML or JSON, or a file.

        ``steps``: what it may name, as a mapping or a list of steps, flows, routers and state classes. Left out: what
        was registered (``fb.steps.add``), else what the names mean where this is called, as in a notebook's cell. Who
        reads a spec that somebody else wrote says ``steps``, or registers and calls ``app.define``.

        Raises `SpecRefused` with every mistake and its JSON pointer.
        """
        from flowbook.graph.reading import from_spec
        from flowbook.graph.templates import Templates
        from flowbook.graph.templates import steps as registered

        if steps is None:
            caller = sys._getframe(1)
            known: Mapping[str, Any] = Templates(beside={**caller.f_globals, **caller.f_locals, **registered})
        else:
            known = steps if isinstance(steps, Mapping) else Templates(*steps)
        return from_spec(spec, known)
