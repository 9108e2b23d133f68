"""Names of nodes and flows.

Owns: what a name may be, and the two names that are not steps. Refuses: paths (`plan/paths.py` builds on this).
"""

from __future__ import annotations

import re

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
"""Also valid as an id in SVG without escapes (graphviz writes ``-`` as ``&#45;``)."""

START = "START"
END = "END"
