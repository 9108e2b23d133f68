"""The codec loads a heavy library only for a value of it, and works where one is missing."""

from __future__ import annotations

import os
import subprocess
import sys

HEAVY = ("numpy", "pandas", "polars", "pyarrow", "pydantic", "cloudpickle")


def _python(program: str) -> str:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_and_using_the_codec_loads_no_heavy_library() -> None:
    """Nor does encoding, decoding or copying values of the standard library."""
    program = f"""
import sys, dataclasses, enum
from flowbook.codec import encode, decode, fresh
@dataclasses.dataclass
class A:
    x: object
class E(enum.Enum):
    B = 1
v = {{"a": [A({{1, b"x"}}), E.B], 2: 1.5}}
assert decode(encode(v)) == v == fresh(v)
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    assert _python(program) == "[]"


def test_classes_of_main_come_back() -> None:
    """A notebook's classes live in `__main__`."""
    program = """
import dataclasses, enum
from flowbook.codec import encode, decode
@dataclasses.dataclass
class A:
    x: object
v = A(1)
assert type(decode(encode(v))) is A
print("ok")
"""
    assert _python(program) == "ok"


def test_pandas_is_carried_without_pyarrow() -> None:
    """Its columns have a form of their own."""
    program = """
import sys
sys.modules["pyarrow"] = None
import pandas as pd
from flowbook.codec import encode, decode
df = pd.DataFrame({"a": [1, 2], "s": ["x", None], "t": pd.date_range("2020", periods=2, tz="UTC")}, index=["p", "q"])
pd.testing.assert_frame_equal(decode(encode(df)), df)
print("ok")
"""
    assert _python(program) == "ok"


def test_a_table_is_inert_where_its_library_is_missing() -> None:
    """And is passed on as the same bytes."""
    program = """
import sys
import polars as pl
from flowbook.codec import encode
sys.stdout.write(encode({"t": pl.DataFrame({"a": [1]})}).hex())
"""
    data = _python(program)
    program = f"""
import sys
sys.modules["polars"] = None
from flowbook.codec import encode, decode
data = bytes.fromhex({data!r})
value = decode(data)
assert encode(value) == data
print(value["t"].type_name, "polars" in value["t"].reason)
"""
    assert _python(program) == "pl.frame True"
