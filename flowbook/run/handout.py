"""Hand-outs: the token with which somebody else completes a step.

Owns: `HandOut`, which a context makes tokens with, and `Token`, what a token says. Refuses: delivering and taking
answers (`answers.py`).

A token names its run, path and attempt, and carries a secret of 128 random bits. The journal keeps the secret's digest
alone: who can read a run, or a notebook with its journal in it, cannot complete its steps.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass
from typing import Self
from uuid import UUID

from flowbook.errors import TokenRefused

_SECRET = 16
"""Bytes."""
_MARK = "fb_"


@dataclass(frozen=True, slots=True)
class Token:
    """Who may complete what."""

    run_id: UUID
    path: str
    attempt: int
    secret: bytes

    @property
    def proof(self) -> str:
        """What the journal keeps of the secret: 32 hex digits."""
        return hashlib.blake2b(self.secret, digest_size=16).hexdigest()

    @property
    def text(self) -> str:
        """As it is given away: letters, digits, ``-`` and ``_``."""
        data = self.run_id.bytes + self.secret + self.attempt.to_bytes(2, "big") + self.path.encode()
        return _MARK + base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    @classmethod
    def read(cls, text: str) -> Self:
        """The token of a text. Raises `TokenRefused`."""
        body = text.strip().removeprefix(_MARK)
        try:
            data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
            path = data[34:].decode()
            if not text.strip().startswith(_MARK) or "#" not in path:
                raise ValueError
            return cls(UUID(bytes=data[:16]), path, int.from_bytes(data[32:34], "big"), data[16:32])
        except ValueError:
            raise TokenRefused(
                f"{text!r} is no token of flowbook's: it begins with {_MARK!r}, and every character of it counts"
            ) from None


class HandOut:
    """What one attempt has handed out."""

    __slots__ = ("_at", "token")

    def __init__(self, run_id: UUID, path: str, attempt: int) -> None:
        self._at = (run_id, path, attempt)
        self.token: Token | None = None
        """None: nothing yet."""

    def make(self) -> str:
        """The token of this attempt, the same each time."""
        if self.token is None:
            self.token = Token(*self._at, secrets.token_bytes(_SECRET))
        return self.token.text
