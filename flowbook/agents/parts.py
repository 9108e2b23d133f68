"""Parts: images and files in messages.

Owns: `Image` and `File`, and the content of a message made of texts, images and files. Refuses: fetching anything, and
the ways in which the APIs want it told (`models.py`).
"""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from flowbook.errors import DeclarationError

MOST = 20_000_000
"""Bytes of an image or a file at most: servers take no more, and a journal should not either."""

_SIGNATURES = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"%PDF", "application/pdf"),
)


@dataclass(frozen=True)
class File:
    """A file in a message: ``fb.File("report.pdf")``, or ``fb.File(data, name="report.pdf")``."""

    source: Any
    """Its bytes; a path is read when it is made."""
    mime: str = ""
    """Left out: as the name or the first bytes tell."""
    name: str = ""
    data: bytes = field(init=False, repr=False, default=b"")

    def __post_init__(self) -> None:
        given = self.source
        name = self.name
        if isinstance(given, str | Path):
            path = Path(given)
            try:
                data, name = path.read_bytes(), name or path.name
            except OSError as error:
                raise DeclarationError(f"{type(self).__name__}({given!r}) cannot be read: {error}") from error
        elif isinstance(given, bytes | bytearray):
            data = bytes(given)
        elif callable(getattr(given, "_repr_png_", None)) and (drawn := given._repr_png_()) is not None:
            data = bytes(drawn)
        else:
            raise DeclarationError(
                f"{type(self).__name__}({type(given).__name__}): give it a path, bytes, or what shows itself as PNG"
            )
        if len(data) > MOST:
            raise DeclarationError(f"{type(self).__name__} of {len(data):,} bytes: {MOST:,} are the most")
        told = self.mime or _mime(name, data)
        # Only its bytes are kept: a path means nothing elsewhere.
        for attribute, value in (("source", b""), ("data", data), ("name", name), ("mime", told)):
            object.__setattr__(self, attribute, value)

    def __reduce__(self) -> Any:
        return type(self), (self.data, self.mime, self.name)

    @property
    def url(self) -> str:
        """``data:image/png;base64,...``."""
        return f"data:{self.mime};base64,{base64.b64encode(self.data).decode()}"

    @property
    def part(self) -> dict[str, Any]:
        """As chat completions want it; a text is a text."""
        if self.mime.startswith("image/"):
            return {"type": "image_url", "image_url": {"url": self.url}}
        if self.mime.startswith("text/") or self.mime == "application/json":
            return {"type": "text", "text": f"{self.name or 'file'}:\n{self.data.decode('utf-8', 'replace')}"}
        return {"type": "file", "file": {"filename": self.name or "file", "file_data": self.url}}


class Image(File):
    """An image in a message: ``fb.Image("plot.png")``, of bytes, or of anything that shows itself as PNG."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.mime.startswith("image/"):
            raise DeclarationError(f"Image(mime={self.mime!r}): it is no image; say mime=, or use fb.File")

    @classmethod
    def of(cls, base64_data: str, mime: str) -> Self:
        """The image that a server gave."""
        return cls(base64.b64decode(base64_data), mime)


def content(given: Any) -> Any:
    """The content of a message: a text as it is, a list of texts, images, files, paths and bytes as parts."""
    if isinstance(given, File | Path | bytes | bytearray):
        given = [given]
    if not isinstance(given, list | tuple):
        return given
    return [_part(one) for one in given]


def _part(one: Any) -> Any:
    if isinstance(one, str):
        return {"type": "text", "text": one}
    if isinstance(one, Mapping):
        return one
    return (one if isinstance(one, File) else File(one)).part


def parts_in(result: Any) -> list[Any] | None:
    """What a tool's result has, if images or files are among it (alone or in a list); None: it has none."""
    found = result if isinstance(result, list | tuple) else [result]
    return list(found) if any(isinstance(one, File) for one in found) else None


def _mime(name: str, data: bytes) -> str:
    for signature, mime in _SIGNATURES:
        if data.startswith(signature):
            return mime
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    guessed = mimetypes.guess_type(name)[0]
    if guessed is not None:
        return guessed
    try:
        data.decode()
    except UnicodeDecodeError:
        return "application/octet-stream"
    return "text/plain"
