"""A flow's spec, a moment, and texts that try to break out of a page."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)

SPEC: dict[str, Any] = {
    "name": "research",
    "nodes": [
        {"name": "search", "ways": [["judge"]]},
        {"name": "judge", "ways": [["write"], ["search"]], "labels": ["True", "False"]},
        {"name": "write", "ways": [["left", "right"]]},
        {"name": "left", "ways": [["report"]]},
        {"name": "right", "ways": [["report"]]},
        {"name": "report", "ways": [[]]},
    ],
    "entry": ["search"],
}

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "'><iframe src=javascript:alert(1)>",
    "</text></svg><script>alert(1)</script>",
    '<a href="javascript:alert(1)">x</a>',
    "]]><script>alert(1)</script>",
    "<!--<script>-->alert(1)//",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "</title><script>alert(1)</script>",
    "<style>@import 'http://evil'</style>",
    "{{constructor.constructor('alert(1)')()}}",
    '\\"; graph [URL="javascript:alert(1)"] //',
    "<TABLE><TR><TD HREF='javascript:alert(1)'>x</TD></TR></TABLE>",
    "\x00\x01\x0b<script>\ud800</script>",
    "\u202egpj.exe",
    "a\nb\r\n\tc",
    "x" * 5000,
)
