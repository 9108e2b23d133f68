"""Data sets: what a flow is evaluated on, as plain records.

Owns: reading a list, a table or a file as samples, which part of a sample a flow is given, and which one sample is.
Refuses: running (`scoring.py`).

A sample is a dict. ``input`` is what the flow begins with: a dict of its inputs, or the one that it asks for first (of
an agent: the question). Without ``input`` the columns that are inputs of the flow are. ``expected`` is never given to
it; whatever else there is, scorers may ask for by its name.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flowbook.codec import digest, encode
from flowbook.errors import EvaluationRefused, FlowbookError
from flowbook.graph.flow import Graph
from flowbook.graph.imperative import Imperative
from flowbook.graph.mapping import first_input

Sample = Mapping[str, Any]
INPUT, EXPECTED = "input", "expected"
AGENT = frozenset({"question", "messages", "turns", "answer"})
"""State keys by which an agent is known."""
_AGENT_TAKES = ("question", "messages", "budget")


def is_agent(flow: Graph) -> bool:
    """Is it an agent?"""
    return flow.schema is not None and flow.schema.annotations.keys() >= AGENT


def samples_of(dataset: Any) -> list[dict[str, Any]]:
    """The samples of a list of dicts (or of plain inputs), a table with ``to_dict`` or ``to_dicts`` (pandas, polars),
    or the path of a ``.jsonl``, ``.json`` or ``.csv`` file. Raises `EvaluationRefused`.
    """
    if isinstance(dataset, str | Path):
        found = _of_file(Path(dataset))
    elif hasattr(dataset, "to_dicts"):
        found = dataset.to_dicts()
    elif hasattr(dataset, "to_dict") and hasattr(dataset, "columns"):
        found = dataset.to_dict("records")
    elif isinstance(dataset, Iterable) and not isinstance(dataset, Mapping | bytes):
        found = list(dataset)
    else:
        raise EvaluationRefused(
            f"a data set is a list of dicts, a table, or the path of a .jsonl, .json or .csv file, and not a "
            f"{type(dataset).__name__}"
        )
    if not found:
        raise EvaluationRefused("the data set is empty: there is nothing to evaluate")
    return [_plain(one) for one in found]


def given(flow: Graph, sample: Sample) -> dict[str, Any]:
    """What a flow begins with for a sample. Raises `EvaluationRefused` where the sample does not tell it."""
    takes = inputs(flow)
    if INPUT in sample and (takes is None or INPUT not in takes):
        value = sample[INPUT]
        if isinstance(value, Mapping):
            return dict(value)
        name = "question" if is_agent(flow) else first_input(flow)
        if name is None:
            raise EvaluationRefused(
                f"input={value!r:.80}: how flow {flow.name!r} begins does not tell which of its inputs that is: "
                f'write {{"input": {{name: value}}}}, or columns that are called as its inputs'
            )
        return {name: value}
    found = {k: v for k, v in sample.items() if k in takes} if takes is not None else dict(sample)
    if takes is None:
        found.pop(EXPECTED, None)
    if not found:
        raise EvaluationRefused(
            f"a sample has {', '.join(map(repr, sample)) or 'nothing'}, and flow {flow.name!r} takes "
            f"{', '.join(map(repr, takes or ()))}: call a column so, or `input`"
        )
    return found


def inputs(flow: Graph) -> tuple[str, ...] | None:
    """Names of a flow's inputs; None: it declares none."""
    if is_agent(flow):
        return _AGENT_TAKES
    if isinstance(flow, Imperative):
        return tuple(name for name in flow.body.signature.parameters if name != "ctx")
    return None if flow.schema is None else tuple(flow.schema.annotations)


def marks(flow: Graph, samples: Sequence[Sample]) -> list[str]:
    """Which sample each of them is: a digest of what the flow is given. One that comes twice is two samples.

    Raises `EvaluationRefused` for a sample that cannot be stored, or does not fit the flow.
    """
    seen: dict[str, int] = {}
    found = []
    for number, sample in enumerate(samples):
        try:
            mark = digest(encode(sorted(given(flow, sample).items()), at=f"sample {number}")).hex()[:20]
            encode(dict(sample), at=f"sample {number}")
        except FlowbookError as error:
            raise EvaluationRefused(f"sample {number}: {error.message}") from error
        seen[mark] = count = seen.get(mark, 0) + 1
        found.append(mark if count == 1 else f"{mark}.{count}")
    return found


def _of_file(path: Path) -> list[Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationRefused(f"the data set {str(path)!r} cannot be read: {error}") from error
    match path.suffix.lower():
        case ".jsonl" | ".ndjson":
            return [_json(line, f"{path}, line {n}") for n, line in enumerate(text.splitlines(), 1) if line.strip()]
        case ".json":
            found = _json(text, str(path))
            if not isinstance(found, list):
                raise EvaluationRefused(f"{path}: a data set in JSON is a list of samples")
            return found
        case ".csv":
            return list(csv.DictReader(text.splitlines()))
        case other:
            raise EvaluationRefused(
                f"{path}: a data set is .jsonl, .json or .csv, and not {other or 'without a suffix'!r}"
            )


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise EvaluationRefused(f"{where}: no JSON: {error}") from error


def _plain(sample: Any) -> dict[str, Any]:
    if not isinstance(sample, Mapping):
        return {INPUT: sample}
    return {str(name): _value(value) for name, value in sample.items()}


def _value(value: Any) -> Any:
    """A cell of a table: numbers of numpy's are numbers, and what is missing is None."""
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value
