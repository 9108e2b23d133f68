"""Sources: the text of cells that functions were defined in, so that `inspect.getsource` and tracebacks have it.

Owns: finding the cells of the notebook's functions in `linecache`, and putting them back there. Refuses: files.
"""

from __future__ import annotations

import linecache
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


def sources_of(values: Iterable[Any], namespace: Mapping[str, Any]) -> dict[str, str]:
    """File name -> source, for functions and methods of the notebook; what lies in a file is left out."""
    found: dict[str, str] = {}
    for value in values:
        for function in _functions(value):
            name = function.__code__.co_filename
            if function.__globals__ is not namespace or name in found:
                continue
            entry = linecache.cache.get(name)
            if entry is not None and len(entry) == 4 and not Path(name).exists():
                found[name] = "".join(entry[2])
    return found


def put_back(sources: Mapping[str, str]) -> None:
    """Let `linecache` know them; None as the time of change keeps them there."""
    for name, text in sources.items():
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)


def _functions(value: Any) -> Iterator[types.FunctionType]:
    if isinstance(value, types.FunctionType):
        yield value
    elif isinstance(value, type) and value.__module__ == "__main__":
        for held in vars(value).values():
            function = getattr(held, "__func__", getattr(held, "fget", held))
            if isinstance(function, types.FunctionType):
                yield function
