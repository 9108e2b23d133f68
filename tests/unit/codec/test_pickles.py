"""A pickle is loaded only after its signature has been verified."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from flowbook.codec import decode, load_pickle, sign_pickle
from flowbook.errors import SignatureRefused, Undecodable, Unencodable

KEY = b"k" * 32
loaded: list[str] = []


def _boom() -> None:
    loaded.append("boom")


class Bomb:
    """Says when it is unpickled."""

    def __reduce__(self) -> Any:
        return _boom, ()


def test_a_signed_pickle_comes_back() -> None:
    """Also a lambda, which cloudpickle carries."""
    assert load_pickle(sign_pickle({"a": [1, object]}, KEY), KEY) == {"a": [1, object]}
    pytest.importorskip("cloudpickle")
    double: Any = load_pickle(sign_pickle(lambda x: x * 2, KEY), KEY)
    assert double(4) == 8


def test_nothing_is_loaded_under_a_wrong_key_or_after_a_change() -> None:
    """The bomb does not go off."""
    data = sign_pickle(Bomb(), KEY)
    attempts = [(data, b"other"), (data[:-1], KEY), (data + b"x", KEY), (data[:10], KEY), (b"", KEY), (data[:2], KEY)]
    attempts += [(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], KEY) for at in range(len(data))]
    attempts.append((pickle.dumps(Bomb()), KEY))
    for bytes_, key in attempts:
        with pytest.raises(SignatureRefused):
            load_pickle(bytes_, key)
    assert loaded == []
    load_pickle(data, KEY)
    assert loaded == ["boom"]


def test_an_empty_key_signs_and_verifies_nothing() -> None:
    """Everybody has it."""
    with pytest.raises(SignatureRefused):
        sign_pickle(1, b"")
    with pytest.raises(SignatureRefused):
        load_pickle(sign_pickle(1, KEY), b"")


def test_what_cannot_be_pickled_is_refused_by_name() -> None:
    """With the other way out."""
    with pytest.raises(Unencodable, match=r"result: .*generator.*recompute") as caught:
        sign_pickle(iter(x for x in "ab"), KEY, at="result")
    assert caught.value.key_path == "result"


def test_decode_never_loads_a_pickle() -> None:
    """It has no key."""
    with pytest.raises(Undecodable, match="load_pickle"):
        decode(sign_pickle(Bomb(), KEY))


def test_a_genuine_pickle_whose_module_is_gone_is_undecodable() -> None:
    """Not an ImportError."""
    from flowbook.codec.pickles import _sign
    from flowbook.codec.wire import PICKLED

    body = b"cflowbook_test_nowhere\nThing\n."
    with pytest.raises(Undecodable, match="flowbook_test_nowhere"):
        load_pickle(PICKLED + _sign(body, KEY) + body, KEY)
