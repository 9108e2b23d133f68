"""Canonical forms: what is the same code whoever typed it, wherever, whenever.

Owns: trees without positions and docstrings, code objects and options as JSON, the digest over such JSON. Refuses:
deciding what belongs to a definition (`source.py`).

`ast.dump` would do, but writes empty fields in one release of Python and leaves them out in the next; a kernel on
3.11 and a worker on 3.13 shall agree.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
import types
from typing import Any

from flowbook.errors import NotPortable
from flowbook.graph.locate import Definition
from flowbook.graph.step import Backoff, Policy

_EXACT = 1e15
"""Floats from here on, and infinity, are kept as texts: jsonb gives 1e16 back as an integer, and refuses infinity."""


def storable(text: str) -> str:
    """A text as jsonb takes it: it refuses NUL and halves of surrogate pairs, which are shown escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")


def digest(thing: Any) -> str:
    """32 hex digits over the canonical JSON of a thing."""
    return hashlib.blake2b(canonical_json(thing), digest_size=16).hexdigest()


def canonical_json(thing: Any) -> bytes:
    """JSON with sorted keys and without blanks; the same bytes for what is equal."""
    return json.dumps(thing, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def tree(node: Definition, decorators: int) -> Any:
    """A definition's tree as JSON: no positions, no docstrings, its last ``decorators`` decorators only."""
    found = _tree(node)
    if not isinstance(node, ast.Lambda):
        kept = node.decorator_list[len(node.decorator_list) - decorators :]
        found.pop("decorator_list", None)
        if kept:
            found["decorator_list"] = [_tree(d) for d in kept]
    return found


def _tree(node: Any) -> Any:
    if isinstance(node, list):
        return [_tree(n) for n in node]
    if not isinstance(node, ast.AST):
        return node if isinstance(node, str | int) and not isinstance(node, bool) else repr(node)
    if isinstance(node, ast.Constant):
        return {"_": "Constant", "value": repr(node.value)}
    found: dict[str, Any] = {"_": type(node).__name__}
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            value = _without_docstring(value)
        if isinstance(node, ast.JoinedStr):  # Python 3.12 puts an empty text behind f"{x:>{n}}"
            value = [v for v in value if not (isinstance(v, ast.Constant) and v.value == "")]
        if name not in ("ctx", "type_comment", "kind") and value is not None and value != []:
            found[name] = _tree(value)
    return found


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    match body:
        case [ast.Expr(ast.Constant(value=str())), *rest]:
            return rest
        case _:
            return body


def bytecode(code: types.CodeType) -> Any:
    """A code object as JSON, without names of files and lines: the last resort, valid for one release of Python."""
    constants = [bytecode(c) if isinstance(c, types.CodeType) else _constant(c) for c in code.co_consts]
    names = [list(n) for n in (code.co_names, code.co_varnames, code.co_freevars)]
    return [code.co_name, code.co_code.hex(), constants, *names]


def _constant(value: Any) -> str:
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)


def policy_json(policy: Policy) -> dict[str, Any]:
    """A step's options as JSON. Defaults are left out, so that an option of a later release changes no fingerprint."""
    return _options(policy)


def _options(record: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for f in dataclasses.fields(record):
        value = getattr(record, f.name)
        default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
        if value != default:
            found[f.name] = _option(value)
    return found


def _option(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _options(value)
    if isinstance(value, tuple | list):
        return [_option(v) for v in value]
    if isinstance(value, float) and not abs(value) < _EXACT:
        return repr(value)
    return value if isinstance(value, str | int | float) or value is None else repr(value)


def _number(stored: Any) -> Any:
    if isinstance(stored, list):
        return tuple(_number(s) for s in stored)
    return float(stored) if isinstance(stored, str) else stored


def policy_from(stored: dict[str, Any], flow: str) -> Policy:
    """The options that `policy_json` wrote. Raises `NotPortable` for one that this release does not have."""
    options = dict(stored)
    try:
        if options.get("timeout") is not None:
            options["timeout"] = _number(options["timeout"])
        if "backoff" in options:
            backoff = {name: v if name == "jitter" else _number(v) for name, v in options["backoff"].items()}
            options["backoff"] = Backoff(**backoff)
        if options.get("rate_limit") is not None:
            number, period = options["rate_limit"]
            options["rate_limit"] = number, _number(period)
        for names in ("retry_on", "no_retry_on", "key"):
            if names in options:
                options[names] = tuple(options[names])
        return Policy(**options)
    except (TypeError, ValueError) as error:
        raise NotPortable(flow, (f"a step has an option that this release of flowbook lacks: {error}",)) from None


def shape(cls: Any) -> str:
    """What can be told of a class without its source."""
    methods = ((n, f) for n, f in sorted(vars(cls).items()) if isinstance(f, types.FunctionType))
    notes = {k: shown_type(v) for k, v in getattr(cls, "__annotations__", {}).items()}
    return digest([cls.__qualname__, notes, [[n, bytecode(f.__code__)] for n, f in methods]])


def shown_type(hint: Any) -> str:
    """An annotation as text."""
    return hint.__name__ if isinstance(hint, type) and not hasattr(hint, "__args__") else repr(hint)
