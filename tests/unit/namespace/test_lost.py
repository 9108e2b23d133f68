"""What a checkpoint does not keep: each by name, with type, reason and cell; never something else in its place."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from flowbook.errors import VariableMissing
from flowbook.namespace.missing import Missing
from tests.unit.namespace.notebooks import Notebook

SOURCE = """
import asyncio, contextvars, io, mmap, socket, sqlite3, sys, tempfile, threading, weakref
import numpy as np
class Thing: pass
thing = Thing()
lock = threading.Lock()
reading = open(__import__("os").__file__)
temporary = tempfile.TemporaryFile()
folder = tempfile.TemporaryDirectory()
connection = sqlite3.connect(":memory:")
generator = (i for i in range(3))
next(generator)
view = memoryview(b"abc")
weak = weakref.ref(thing)
variable = contextvars.ContextVar("v")
box = {"lock": lock}
plug = socket.socket()
raw = bytearray(8)
over = np.frombuffer(raw, dtype="u1")
finalizer = weakref.finalize(thing, print)
class Holder:
    guard = threading.Lock()
held = Holder()
"""
GONE = {
    "lock", "reading", "temporary", "folder", "connection", "generator", "view", "weak", "variable", "box", "plug",
    "over", "finalizer", "Holder", "held",
}  # fmt: skip


@pytest.fixture
def notebook() -> Notebook:
    """A notebook that is full of things that belong to its process."""
    made = Notebook().run(SOURCE, "3")
    made.run("reading.close(); temporary.close(); folder.cleanup(); connection.close(); plug.close()", "4")
    return made


def test_what_cannot_be_kept_is_named(notebook: Notebook) -> None:
    """All of it and nothing else, with the cell that made it."""
    assert set(notebook.lost) == GONE
    assert notebook.lost["view"] == {
        "name": "view", "type": "memoryview", "reason": "a memoryview would come back as bytes of its own", "cell": "3",
    }  # fmt: skip
    assert "Holder" in notebook.lost["held"]["reason"]


def test_using_what_is_missing_says_what_and_why(notebook: Notebook) -> None:
    """Any use raises; looking at it does not."""
    other = notebook.resumed()
    assert {x.name for x in other.report.lost} == GONE
    assert isinstance(other["thing"], other["Thing"])
    lock = other["lock"]
    assert "lock" in repr(lock)
    uses: list[Callable[[], object]] = [
        lambda: lock.acquire, lambda: lock + 1, lambda: 1 + lock, lambda: lock[0], lambda: lock == 1,
        lambda: setattr(lock, "x", 1), *(partial(use, lock) for use in (bool, len, list, str, next, float)),
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(VariableMissing, match=r"'lock' \(_thread.lock\), which cell 3 defines"):
            use()


def test_what_is_missing_stays_named_until_it_is_made_again(notebook: Notebook) -> None:
    """Also in the checkpoints of the kernel that was resumed."""
    other = notebook.resumed()
    other.run("x = 1", "5")
    assert set(other.lost) == GONE
    assert other.lost["lock"]["cell"] == "3"
    other.run("lock = 4", "6")
    assert set(other.lost) == GONE - {"lock"}
    assert other.resumed()["lock"] == 4


def test_what_a_cell_has_made_again_is_left_alone(notebook: Notebook) -> None:
    """Cells tagged flow-rerun run first, and the checkpoint is laid over them."""
    other = Notebook(notebook.vault)
    other.namespace["lock"], other.namespace["thing"] = "made again", "stale"
    report = other.keeper.restore(notebook.manifest)
    assert report.remade == ("lock",)
    assert other["lock"] == "made again"
    assert not isinstance(other["thing"], str)
    assert isinstance(other["box"], Missing)


def test_a_thread_that_goes_on_and_a_patched_module_are_named() -> None:
    """They are no variables, and would be missed all the same."""
    notebook = Notebook()
    source = (
        "import threading, json\nstop = None\nloop = threading.Event()\n"
        "threading.Thread(target=loop.wait, name='ticker').start()\njson.answer = 42\n"
    )
    try:
        notebook.run(source)
        assert "thread 'ticker'" in notebook.lost
        assert "json.answer" in notebook.lost
    finally:
        notebook.run("loop.set()\ndel json.answer")


def test_a_value_that_cannot_be_loaded_is_lost_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest comes back."""
    notebook = Notebook()
    notebook.run("class Bad:\n    def __reduce__(self): return (int, ('no number',))\nbad = Bad()\ngood = [1]\n")
    other = notebook.resumed()
    assert [x.name for x in other.report.lost] == ["bad"]
    assert other["good"] == [1]
    with pytest.raises(VariableMissing, match="cannot be loaded here"):
        bool(other["bad"])
