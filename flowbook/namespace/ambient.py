"""Ambient state: what a notebook changes besides its variables.

Owns: the working directory, the environment, the search path, random states, and settings of libraries that are
loaded. Refuses: importing a library in order to look at its settings (only to put them back), and whatever else a
module keeps to itself.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

State = dict[str, Any]


class Ambient:
    """The state around the variables, relative to what it was when the kernel began."""

    def __init__(self) -> None:
        self._environ = dict(os.environ)
        self._path = list(sys.path)

    def capture(self) -> State:
        """What is to be put back, as something that can be pickled."""
        state: State = {}
        with suppress(OSError):  # it was deleted
            state["cwd"] = str(Path.cwd())
        now = dict(os.environ)
        state["set"] = {k: v for k, v in sorted(now.items()) if self._environ.get(k) != v}
        state["unset"] = sorted(self._environ.keys() - now.keys())
        if sys.path != self._path:
            state["path"] = [p for p in sys.path if p not in self._path]
        for name, (module, get, _) in _SETTINGS.items():
            if module in sys.modules:
                with suppress(Exception):  # another release of the library: its settings are not ours to know
                    state[name] = get()
        return state


def prepare(state: Mapping[str, Any]) -> list[str]:
    """Put back what imports depend on; the answer is what could not be."""
    wrong = []
    os.environ.update(state.get("set", {}))
    for name in state.get("unset", ()):
        os.environ.pop(name, None)
    for place in state.get("path", ()):
        if place not in sys.path:
            sys.path.insert(0, place)
    if "cwd" in state:
        try:
            os.chdir(state["cwd"])
        except OSError as error:
            wrong.append(f"the working directory {state['cwd']!r} is not here ({error.strerror})")
    return wrong


def settle(state: Mapping[str, Any]) -> list[str]:
    """Put back states and settings, once the modules are there; the answer is what could not be."""
    wrong = []
    for name, (module, _, put) in _SETTINGS.items():
        if name in state:
            try:
                importlib.import_module(module)  # numpy, say, loads numpy.random when somebody asks for it
                put(state[name])
            except Exception as error:
                wrong.append(f"the settings of {name} could not be put back ({type(error).__name__}: {error})")
    return wrong


def _of(module: str) -> Any:
    return sys.modules[module]


def _warnings_put(filters: Any) -> None:
    _of("warnings").filters[:] = filters
    _of("warnings")._filters_mutated()


def _pandas_get() -> dict[str, Any]:
    config = _of("pandas._config.config")
    return {key: config.get_option(key) for key in config._registered_options if _differs(config, key)}


def _differs(config: Any, key: str) -> bool:
    if key in config._deprecated_options:
        return False
    return bool(config.get_option(key) != config._registered_options[key].defval)


def _pandas_put(options: dict[str, Any]) -> None:
    for key, value in options.items():
        _of("pandas._config.config").set_option(key, value)


def _rc_get() -> dict[str, Any]:
    return {k: v for k, v in dict.items(_of("matplotlib").rcParams) if not k.startswith("backend")}


def _rc_put(params: dict[str, Any]) -> None:
    dict.update(_of("matplotlib").rcParams, params)


def _levels_get() -> dict[str, int]:
    logging = _of("logging")
    named = {n: x.level for n, x in logging.root.manager.loggerDict.items() if getattr(x, "level", 0)}
    return {"": logging.root.level, **named}


def _levels_put(levels: dict[str, int]) -> None:
    for name, level in levels.items():
        _of("logging").getLogger(name).setLevel(level)


def _extensions_get() -> list[str]:
    shell = _of("IPython").get_ipython()
    return [] if shell is None else sorted(shell.extension_manager.loaded)


def _extensions_put(names: list[str]) -> None:
    shell = _of("IPython").get_ipython()
    for name in names:
        if shell is not None and name not in shell.extension_manager.loaded:
            shell.extension_manager.load_extension(name)


def _polars_get() -> Any:
    return _of("polars").Config.save()


def _polars_put(text: Any) -> None:
    _of("polars").Config.load(text)


_SETTINGS: Final[dict[str, tuple[str, Callable[[], Any], Callable[[Any], Any]]]] = {
    "ipython extensions": ("IPython", _extensions_get, _extensions_put),
    "warnings": ("warnings", lambda: list(_of("warnings").filters), _warnings_put),
    "recursion limit": ("sys", sys.getrecursionlimit, sys.setrecursionlimit),
    "decimal": ("decimal", lambda: _of("decimal").getcontext().copy(), lambda c: _of("decimal").setcontext(c)),
    "logging": ("logging", _levels_get, _levels_put),
    "numpy printing": (
        "numpy", lambda: _of("numpy").get_printoptions(), lambda o: _of("numpy").set_printoptions(**o),
    ),
    "numpy errors": ("numpy", lambda: _of("numpy").geterr(), lambda o: _of("numpy").seterr(**o)),
    "pandas": ("pandas._config.config", _pandas_get, _pandas_put),
    "matplotlib": ("matplotlib", _rc_get, _rc_put),
    "polars": ("polars", _polars_get, _polars_put),
    "random": ("random", lambda: _of("random").getstate(), lambda s: _of("random").setstate(s)),
    "numpy.random": (
        "numpy.random", lambda: _of("numpy.random").get_state(), lambda s: _of("numpy.random").set_state(s),
    ),
}  # fmt: skip
"""Name -> the module it is of, how it is read, how it is put back. Random states come last: imports may draw."""
