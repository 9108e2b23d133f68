"""Figures: what a step leaves open in matplotlib's pyplot.

Owns: telling which steps use pyplot, letting one of them run at a time, and displaying and closing their figures at
their end. Refuses: importing matplotlib; a step that never did pays nothing.

pyplot draws into *the* current figure of the process, so two steps at once would draw into each other's. A step uses it
if its code, or a function of its module that it calls, names ``pyplot``, ``plot`` or ``seaborn``, or a module that is
one of these. In a cell an open figure would be shown below whichever cell ends next: the step's own end comes first.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

from flowbook.capture import routing

_MODULES: Final = frozenset({"matplotlib.pyplot", "pylab", "seaborn", "matplotlib.pylab"})
_NAMES: Final = frozenset({"pyplot", "plot", "seaborn", "pylab"})
_DEPTH: Final = 3


def draws(function: Any) -> bool:
    """True if a step's function uses pyplot."""
    function = getattr(function, "__wrapped__", function)
    return type(function) is FunctionType and _draws(function)


def _draws(function: FunctionType, depth: int = _DEPTH) -> bool:
    names = {name for code in _codes(function.__code__) for name in code.co_names}
    if names & _NAMES:
        return True
    for value in (*(function.__globals__.get(name) for name in names), *_enclosed(function)):
        if isinstance(value, ModuleType) and value.__name__ in _MODULES:
            return True
        if depth and type(value) is FunctionType and value is not function and _draws(value, depth - 1):
            return True
    return False


def _enclosed(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # it is not filled yet
            yield cell.cell_contents


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


class Studio:
    """Where steps draw, one at a time."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def drawing(self) -> AsyncIterator[None]:
        """While a step draws; at its end its figures are displayed and closed, also when it fails."""
        async with self._turn:
            before = frozenset(_managers())
            try:
                yield
            finally:
                if set(_managers()) - before:
                    await asyncio.shield(asyncio.to_thread(hang, before))


def hang(before: frozenset[int] = frozenset()) -> None:
    """Display the figures that are open and were not ``before``, and close them."""
    for number, manager in list(_managers().items()):
        if number in before:
            continue
        figure = manager.canvas.figure
        try:
            routing.show(*picture(figure))
        except Exception as error:
            if (keeper := routing.current.get()) is not None:
                keeper.write("error", f"figure {number} could not be drawn: {type(error).__name__}: {error}\n")
        finally:
            _quietly(lambda number=number: sys.modules["matplotlib.pyplot"].close(number))  # type: ignore[misc]


def picture(figure: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A figure as a display, as it would be shown in a notebook."""
    to = io.BytesIO()
    figure.savefig(to, format="png", bbox_inches="tight")
    axes = len(figure.axes)
    plain = f"<Figure size {figure.bbox.width:.0f}x{figure.bbox.height:.0f} with {axes} Axes>"
    return {"image/png": base64.b64encode(to.getvalue()).decode(), "text/plain": plain}, {}


def _managers() -> dict[int, Any]:
    helpers = sys.modules.get("matplotlib._pylab_helpers")
    return {} if helpers is None else dict(helpers.Gcf.figs)


def _quietly(close: Callable[[], Any]) -> None:
    try:
        close()
    except Exception as error:
        if (keeper := routing.current.get()) is not None:
            keeper.write("error", f"a figure could not be closed: {type(error).__name__}: {error}\n")
