"""Signing definitions: stored source runs again only if this user wrote it.

Owns: the user's key, the signature over a definition. Refuses: keeping the key anywhere but in its file; it is never
in the database, so whoever can write there cannot make others run code.
"""

from __future__ import annotations

import hmac
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowbook.errors import SignatureRefused
from flowbook.graph.canonical import canonical_json

_SIZE = 32
_CONTEXT = b"flowbook definition\0"
"""Apart from what the codec signs with the same key (`codec/pickles.py`): one never passes for the other."""


def load_key(home: Path) -> bytes:
    """The key in ``home / "key"``, made when there is none; readable by its owner only.

    Any number of processes may ask at once: the file appears complete, and the first one wins. Raises
    `SignatureRefused` if the file is not a key, OSError if it cannot be read or made.
    """
    path = home / "key"
    try:
        return _read(path)
    except FileNotFoundError:
        pass
    home.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".key-", dir=home)  # 0600 from its first moment
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(os.urandom(_SIZE))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)  # fails if it is there, where a rename would replace another's key
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            _create(path, temporary.read_bytes())
    finally:
        temporary.unlink(missing_ok=True)
    return _read(path)


def _create(path: Path, key: bytes) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(handle, "wb") as file:
        file.write(key)


def _read(path: Path) -> bytes:
    key = path.read_bytes()
    if len(key) != _SIZE:
        raise SignatureRefused(
            f"{str(path)!r} is not a key: it has {len(key)} bytes instead of {_SIZE}. Remove it to get a new one; what "
            "was signed with the old one then needs --allow-source"
        )
    return key


def sign(
    key: bytes, namespace: str, flow: str, fingerprint: str, spec: Mapping[str, Any], sources: Mapping[str, Any]
) -> str:
    """HMAC-SHA256, hex, over all of a definition. Raises `SignatureRefused` for an empty key."""
    if not key:
        raise SignatureRefused("the signing key is empty; `flowbook doctor` says where it should be")
    body = canonical_json([namespace, flow, fingerprint, spec, sources])
    return hmac.new(key, _CONTEXT + body, "sha256").hexdigest()


def verify(
    key: bytes,
    namespace: str,
    flow: str,
    fingerprint: str,
    spec: Mapping[str, Any],
    sources: Mapping[str, Any],
    signature: str,
) -> bool:
    """Is this the signature of just this definition, made with this key? An empty one never is."""
    expected = sign(key, namespace, flow, fingerprint, spec, sources)
    return hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace"))
