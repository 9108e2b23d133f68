"""``store="pickle"``: what the registry does not know, carried by pickle and trusted only with this user's signature.

Owns: signing, verifying, loading. Refuses: loading a byte before the signature over all of them is verified, and
being anybody's fallback: only a step that asks for it is stored so.

    01 'p' HMAC-SHA256:32 pickle
"""

from __future__ import annotations

import hmac
import importlib
import pickle
from typing import Any, Final

from flowbook.codec.refusals import type_name
from flowbook.codec.wire import PICKLED
from flowbook.errors import SignatureRefused, Undecodable, Unencodable
from flowbook.secret import redact_bytes

_SIGNATURE: Final = 32  # bytes
_CONTEXT: Final = b"flowbook pickle\0"  # so a signature made for something else with the same key never fits


def _pickler() -> Any:
    try:
        return importlib.import_module("cloudpickle")  # carries lambdas and classes of a notebook
    except ImportError:
        return pickle


def _sign(body: bytes | memoryview, key: bytes) -> bytes:
    if not key:
        raise SignatureRefused("the signing key is empty; `flowbook doctor` says where it should be")
    mac = hmac.new(key, _CONTEXT, "sha256")
    mac.update(body)
    return mac.digest()


def sign_pickle(value: object, key: bytes, *, at: str = "") -> bytes:
    """A value pickled and signed with the user's key; by cloudpickle where it is installed.

    Raises `Unencodable` naming ``at`` for what cannot be pickled, `SignatureRefused` for an empty key.
    """
    try:
        body: bytes = _pickler().dumps(value, protocol=5)
    except Exception as error:
        raise Unencodable(
            at,
            f"a {type_name(type(value))} cannot be pickled ({type(error).__name__}: {error});"
            ' do not keep it: @step(store="recompute")',
        ) from error
    body = redact_bytes(body)
    return b"".join((PICKLED, _sign(body, key), body))


def load_pickle(data: bytes, key: bytes) -> object:
    """The value of a signed pickle.

    Raises `SignatureRefused`, with nothing loaded, unless all bytes are signed with ``key``; `Undecodable` when a
    genuine pickle cannot be loaded here (its module is gone).
    """
    if data[:2] != PICKLED:
        raise SignatureRefused("this is not a signed pickle, so it is not loaded")
    view = memoryview(data)
    signature, body = view[2 : 2 + _SIGNATURE], view[2 + _SIGNATURE :]
    if not hmac.compare_digest(signature, _sign(body, key)):
        raise SignatureRefused("this pickle is not signed with your key, or was changed since; it was not loaded")
    try:
        return pickle.loads(body)  # noqa: S301  # verified above: it is the user's own
    except Exception as error:
        raise Undecodable(f"your pickle cannot be loaded here ({type(error).__name__}: {error})") from error
