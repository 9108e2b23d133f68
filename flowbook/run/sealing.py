"""Sealing: values that the codec refuses, on their way into the journal and back.

Owns: what a step says with ``store=``: a signed pickle (`Sealed`), or nothing, to be computed again (`Absent`); and
opening such a pickle. Refuses: signatures (`codec/pickles.py`) and computing again (`recompute.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowbook.codec import encode, load_pickle, sign_pickle
from flowbook.errors import SignatureRefused, Unencodable
from flowbook.graph.step import Step
from flowbook.plan.sealed import Absent, Sealed


def unsealed(value: Sealed, key: bytes | None) -> Any:
    """The value of a signed pickle. Raises `SignatureRefused` if it is not signed with this user's key."""
    if key is None:
        raise SignatureRefused(f"a {value.type} is stored as a pickle, and there is no key here to verify it with")
    return load_pickle(value.data, key)


def carried(
    step: Step,
    path: str,
    result: Any,
    update: Mapping[str, Any],
    key: bytes | None,
    kept: dict[tuple[str, str | None], Any],
) -> tuple[Any, Mapping[str, Any]]:
    """(result, update) with placeholders for what the codec refuses, if the step says ``store=``.

    Values that are computed again on resume are put into ``kept``, for as long as this process lives. Raises
    `Unencodable`, naming the key, for what cannot be carried.
    """
    policy = step.policy.store
    if policy == "codec":
        return result, update

    def carry(value: Any, name: str | None) -> Any:
        try:
            encode(value)
            return value
        except Unencodable:
            kind = type(value).__qualname__
            if policy == "recompute":
                kept[path, name] = value
                return Absent(path, name, kind)
            if key is None:
                raise
            return Sealed(sign_pickle(value, key, at=name or step.name), kind)

    if update is result:
        whole = {name: carry(value, name) for name, value in update.items()}
        return whole, whole
    value = carry(result, None)
    return value, dict.fromkeys(update, value)
