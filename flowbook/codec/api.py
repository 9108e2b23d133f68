"""``encode``, ``decode`` and ``digest``.

Owns: the way through the layers, with the short cut for plain JSON. Refuses: knowing any type.
"""

from __future__ import annotations

from hashlib import blake2b

from flowbook import secret
from flowbook.codec import classes, containers, on_secret, scalars  # noqa: F401  # they declare their types on import
from flowbook.codec.build import build
from flowbook.codec.walk import walk
from flowbook.codec.wire import PICKLED, PLAIN, RICH, VERSION, dump, is_plain, pack, scan, unpack
from flowbook.errors import Undecodable, Unencodable


def encode(value: object, *, at: str = "") -> bytes:
    """The stored form of a value; the same value gives the same bytes (sets are ordered by content).

    ``at`` begins the key path of the error, e.g. ``"result"``. Raises `Unencodable`, naming the key path and the
    type, for what would not come back exactly.
    """
    data = _encode(value, at)
    return secret.redact_bytes(data) if secret.known else data


def _encode(value: object, at: str) -> bytes:
    try:
        if is_plain(value):
            return PLAIN + dump(value)
    except (ValueError, RecursionError, RuntimeError):
        pass  # a lone surrogate, a huge int, hardly any stack left, or a change by another thread: walk it
    try:
        try:
            return _encode_walked(value, at, strict=False)
        except ValueError:
            return _encode_walked(value, at, strict=True)
    except RecursionError:
        raise Unencodable(at, "it nests deeper than this thread's stack allows") from None
    except ValueError as error:
        raise Unencodable(at, f"it holds text that cannot be stored ({error})") from None


def _encode_walked(value: object, at: str, strict: bool) -> bytes:
    entry, nodes, segments = walk(value, at, strict)
    if nodes:
        return pack(nodes, segments)
    return PLAIN + dump(entry[""] if type(entry) is dict else entry)


def decode(data: bytes) -> object:
    """The value of its stored form. Arrays may be read-only views of ``data``.

    A type that is not loaded here comes back as `Inert`. Raises `Undecodable` for damaged bytes, a newer format,
    and a signed pickle (which only `load_pickle` reads).
    """
    head = data[:2]
    if head == PLAIN:
        try:
            text = str(data, "utf-8")
        except UnicodeDecodeError as error:
            raise Undecodable(f"stored value is damaged: {error}") from None
        return scan(text, 2)
    if head == RICH:
        try:
            return build(*unpack(data))
        except RecursionError:
            raise Undecodable("stored value nests deeper than this thread's stack allows") from None
    if head == PICKLED:
        raise Undecodable("stored value is a signed pickle; it is read with load_pickle and the user's key")
    if len(data) and data[0] > VERSION:
        raise Undecodable(f"stored value has format {data[0]}, this flowbook reads up to {VERSION}; upgrade flowbook")
    raise Undecodable(f"stored value does not begin with a known format: {bytes(head)!r}")


def digest(data: bytes) -> bytes:
    """16 bytes of blake2b: the content's name in the journal and the blob store."""
    return blake2b(data, digest_size=16).digest()
