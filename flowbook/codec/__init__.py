"""Values <-> bytes: what a step returns, a run is given and a state holds, as the journal keeps them.

Owns: the public names of the codec. Refuses: any work of its own, and loading numpy, pandas, polars, pyarrow
or pydantic (a value can only be of theirs if the user has imported them).

The promise: a value survives the round trip exactly, or ``encode`` fails before the effect with an
`Unencodable` that names the key path. Reading bytes never imports or calls code outside the closed registry.
Identity is not part of a value: an object that stands in two places comes back as two equal ones.

    wire         bytes <-> plain JSON, or bytes <-> (nodes, segments)     knows no types
    walk, build  a value <-> nodes, without recursion                    knows no types
    registry     which type is taken apart and put together by whom      knows only names
    scalars, containers, classes, on_numpy, on_pandas, on_polars, on_arrow, on_pydantic     the types
    inert        what stands for a type that cannot be found
    copies       ``fresh``: a copy that a step may change
    pickles      ``store="pickle"``: signed, verified before loading
"""

from flowbook.codec.api import decode, digest, encode
from flowbook.codec.copies import fresh
from flowbook.codec.inert import Inert
from flowbook.codec.pickles import load_pickle, sign_pickle
from flowbook.codec.registry import register
from flowbook.codec.wire import VERSION

__all__ = [
    "VERSION",
    "Inert",
    "decode",
    "digest",
    "encode",
    "fresh",
    "load_pickle",
    "register",
    "sign_pickle",
]
