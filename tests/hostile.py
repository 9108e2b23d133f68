"""Texts that try to break out of a page: for every field that is shown, by every helper that shows one.

Owns: the texts, and noticing in a browser that one of them got through (`Guard`). Refuses: knowing what shows them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Dialog, Page

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

ACTIVE = (
    "<script>window.fbEvil = 1</script>",
    "<img src=x onerror='window.fbEvil = 2'>",
    '"><svg onload="window.fbEvil = 3">',
    "</title><script>window.fbEvil = 4</script>",
    "</text></svg><script>window.fbEvil = 5</script>",
    "<iframe srcdoc='<script>parent.fbEvil = 6</script>'></iframe>",
    "' onmouseover='window.fbEvil = 7' x='",
    '" onclick="window.fbEvil = 8" x="',
    "<img src='https://evil.invalid/beacon.png'>",
    "<style>@import 'https://evil.invalid/a.css'; * { background: url(https://evil.invalid/b.png) }</style>",
    "<link rel=stylesheet href=https://evil.invalid/c.css>",
    "url(https://evil.invalid/d.png)",
    "![x](https://evil.invalid/e.png)",
    "<details open ontoggle='window.fbEvil = 9'><summary>x</summary></details>",
    "<a href='javascript:window.fbEvil=10'>click</a>",
    "javascript:window.fbEvil=11",
    "%flow show x</code><script>window.fbEvil = 12</script>",
)
"""The same for a real browser: what runs leaves a number in ``window.fbEvil``, what loads asks evil.invalid."""


@dataclass
class Guard:
    """Notices what a page should never do."""

    page: Page
    base: str
    """The server: the one place that the page may ask."""
    asked: list[str] = field(default_factory=list)
    """Addresses elsewhere that it asked for."""
    dialogs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", lambda request: self._asked(request.url))
        self.page.on("dialog", self._said)

    def _said(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def _asked(self, url: str) -> None:
        own = (self.base, self.base.replace("http", "ws", 1), "data:", "blob:", "about:")
        if not url.startswith(own):
            self.asked.append(url)

    def clean(self) -> None:
        """Raises AssertionError if anything got through so far."""
        assert self.page.evaluate("window.fbEvil ?? 0") == 0
        assert self.asked == []
        assert self.dialogs == []
