"""`%%step` in real kernels on a real database: run once, restored ever after, and the reason when not."""

from __future__ import annotations

from collections.abc import Callable

from tests.integration.test_notebook import LOAD, Kernel, environment, new_kernel, talk

__all__ = ["environment", "new_kernel", "talk"]

BEFORE = """
import pandas as pd
rate = 3
def times(x): return x * rate
names = {"a", "b", "c"}
"""
STEP = """\
%%step load
import asyncio
await asyncio.sleep(0.01)
print("computing")
df = pd.DataFrame({"n": range(4)})
df["m"] = times(df["n"])
class Total:
    def __init__(self, of): self.value = int(of.sum())
total = Total(df["m"])
len(names)
"""


def test_a_step_is_restored_in_the_next_kernel(talk: Kernel, new_kernel: Callable[..., Kernel]) -> None:
    """Its variables, not its work; with other inputs it says which and runs."""
    talk(BEFORE)
    ran = talk(STEP)
    assert ran.printed == "computing\n"
    assert "3" in ran.text  # the value of its last line
    assert "kept" in ran.html
    assert "restored from" in talk(STEP).html
    talk("rate = 4")
    assert "input `rate` changed" in talk(STEP).html
    talk.kill()

    other = new_kernel()
    other(LOAD)
    other(BEFORE)
    again = other(STEP)
    assert not again.error
    assert "computing" not in again.printed
    assert "restored from" in again.html
    assert "saved" in again.html
    assert "load: restored from " in again.text
    assert other("print(total.value, list(df['m']), isinstance(total, Total))").printed == "18 [0, 3, 6, 9] True\n"


def test_mistakes_help_and_completion(talk: Kernel) -> None:
    """A step that fails keeps nothing; wrong words are told; Tab knows options and variables."""
    failed = talk("%%step bad\nvalue = 1\nraise KeyError('x')")
    assert "KeyError" in failed.error
    assert "kept" not in failed.html
    assert "value = 1" in failed.error or "raise KeyError" in failed.error
    assert "--always" in talk("%%step --help").printed
    assert "has no option '--outt'" in talk("%%step a --outt x\ny = 1").error
    assert "needs code below" in talk("%%step a").error
    assert "is none" in talk("%%step a --out x-y\ny = 1").error
    assert "first line" in talk("x = 1\n%step a").error
    assert "--out names `z`" in talk("%%step a --out z\ny = 1").text
    escaped = talk("%%step a<b\ny = 1")
    assert "cannot be a step's name" in escaped.error
    assert {"--in", "--out", "--always"} <= set(talk.complete("%%step load --"))
    talk("frame_one = 1")
    assert "frame_one" in talk.complete("%%step load --in frame_")
    assert talk("%unload_ext flowbook").error == ""
    assert talk("y = 2\nprint(y)").printed == "2\n"
