"""Names of nodes and flows.

Owns: what a name may be, and the two names that are not steps. Refuses: paths (`plan/paths.py` builds on this).
"""

from __future__ import annotations

import re
from typing import Any

from flowbook.errors import DeclarationError

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
"""Also valid as an id in SVG without escapes (graphviz writes ``-`` as ``&#45;``)."""

START = "START"
END = "END"


def checked(name: Any, what: str = "node") -> str:
    """A name as it is. Raises `DeclarationError` for one that ``what`` cannot have."""
    if not isinstance(name, str) or not NAME.match(name):
        raise DeclarationError(
            f"{name!r} cannot be a {what}'s name: letters, digits and _ only, not starting with a digit"
        )
    return name
