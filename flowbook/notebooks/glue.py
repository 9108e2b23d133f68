"""Glue: named results of a notebook.

Owns: ``fb.glue``, and finding in outputs what was glued. Refuses: any format of its own: a result is displayed under
the MIME type of scrapbook's, so that ``scrapbook.read_notebook`` reads it and what scrapbook glued is read here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from flowbook.errors import UsageError

PREFIX: Final = "application/scrapbook.scrap."
"""Of the MIME types of scrapbook 0.5: ``application/scrapbook.scrap.json+json``."""
_VERSION: Final = 1


def glue(name: str, value: Any) -> None:
    """Name a result of this notebook: ``fb.glue("rows", len(df))``.

    Whoever has run the notebook gets it: ``fb.notebook(...)`` as a step, ``flowbook run --json``, scrapbook. The value
    is anything JSON can carry (numpy's scalars too). The last one under a name counts. Raises `UsageError` for
    anything else, and outside of a kernel.
    """
    if type(name) is not str or not name:
        raise UsageError(f"glue({name!r}, ...): the name of a result is a text")
    scalar = getattr(value, "item", None)
    plain = scalar() if callable(scalar) and getattr(value, "ndim", None) == 0 else value
    try:
        kind, data = ("text", plain) if isinstance(plain, str) else ("json", json.loads(json.dumps(plain)))
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"glue({name!r}, ...): JSON cannot carry {type(value).__name__} ({error}); glue a dict or a list of it, "
            f"or ask for the variable by name: fb.notebook(..., outputs=[...])"
        ) from None
    from IPython import get_ipython
    from IPython.display import display

    if get_ipython() is None:
        raise UsageError(f"glue({name!r}, ...) names a result of a notebook, and this is none")
    scrap = {"name": name, "data": data, "encoder": kind, "version": _VERSION}
    display(
        {f"{PREFIX}{kind}+json": scrap},
        metadata={"scrapbook": {"name": name, "data": True, "display": False}},
        raw=True,
    )


def glued(outputs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Name -> value of what was glued in these outputs."""
    found: dict[str, Any] = {}
    for output in outputs:
        for mime, scrap in output.get("data", {}).items():
            if mime.startswith(PREFIX) and isinstance(scrap, Mapping) and "name" in scrap and "data" in scrap:
                found[str(scrap["name"])] = json.loads(json.dumps(scrap["data"]))  # nbformat's own dicts are not plain
    return found
