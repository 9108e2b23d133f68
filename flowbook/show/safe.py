"""Text that may stand in HTML and in SVG.

Owns: the functions through which every text of a user goes before it is shown, and how wide and how long things are.
Refuses: markup of any kind; what a step returned, how a branch is labelled and what an exception says is always text.
"""

from __future__ import annotations

import html
import re
import unicodedata

_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 admits in no form, not even as a character reference: one of these and the whole picture is gone."""

_DIRECTION = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""Overrides of the writing direction: they could make a shown name read as another one."""


def clean(text: object, limit: int | None = None) -> str:
    """``text`` without characters that no document may hold; cut to ``limit`` with an ellipsis."""
    plain = _DIRECTION.sub("", _ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", str(text)))
    if limit is not None and len(plain) > limit:
        return plain[: limit - 1].rstrip() + "…"
    return plain


def escape(text: object, limit: int | None = None) -> str:
    """``text`` for the content of an element or a quoted attribute."""
    return html.escape(clean(text, limit), quote=True)


def duration(seconds: float) -> str:
    """A time span as people say it: ``12 ms``, ``3.4 s``, ``2m 05s``, ``1h 02m``, ``3d 4h``."""
    if seconds < 0.9995:
        return f"{max(0, round(seconds * 1000))} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"


def width(text: str, size: float = 13.0) -> float:
    """About how wide ``text`` is in Helvetica of ``size`` pixels; rather too wide than too narrow."""
    return sum(map(_wide, text)) * size


def fitting(text: str, room: float, size: float = 13.0) -> str:
    """As much of ``text`` as fits in ``room`` pixels, with an ellipsis if that is not all (dom.js does the same)."""
    if width(text, size) <= room:
        return text
    left = room - size
    for i, c in enumerate(text):
        left -= _wide(c) * size
        if left < 0:
            return text[:i].rstrip() + "…"
    return text


def _wide(c: str) -> float:
    if c in "iljtfI.,:;|!'()[] ":
        return 0.34
    if c in "mwMW@%":
        return 0.9
    if c.isascii():
        return 0.66 if c.isupper() else 0.57
    return 1.05 if unicodedata.east_asian_width(c) in "WF" else 0.66 if c.isupper() else 0.57
