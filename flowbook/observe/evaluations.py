"""Evaluations: what a data set's samples came to, and two of them beside each other.

Owns: `Row`, `Evaluation` with its means, and `Comparison`. Refuses: running (`flowbook/evaluating.py`), drawing
(`show/evaluated.py`).

A mean is always told with the number of samples that it is of: a sample that failed, or of which a scorer had nothing
to say, is in none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flowbook.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean, and of how many."""

    mean: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.3g} (n={self.n})"


@dataclass(frozen=True, slots=True)
class Row:
    """One sample."""

    mark: str
    """Which sample it is: the same in every evaluation of the same input."""
    sample: Mapping[str, Any]
    output: Any = None
    error: str | None = None
    """Why there is no output; None: there is one."""
    scores: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    """Texts that scorers gave."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Scorer -> why it has no score."""
    run: UUID | None = None
    """The run of the flow on this sample."""
    seconds: float | None = None
    """How long that run took, its waits included."""
    turns: Sequence[Mapping[str, Any]] = ()
    """Answers of models: model, in, out, usd."""
    judges: Sequence[Mapping[str, Any]] = ()
    """The same of the judges."""

    @property
    def tokens(self) -> tuple[int, int]:
        """(in, out) of the sample's own run."""
        return sum(t.get("in") or 0 for t in self.turns), sum(t.get("out") or 0 for t in self.turns)

    @property
    def usd(self) -> float | None:
        """What the run's answers cost; None: there were none, or of some it is not known."""
        return _usd(self.turns)


def _usd(turns: Sequence[Mapping[str, Any]]) -> float | None:
    costs = [t.get("usd") for t in turns]
    return None if not costs or None in costs else math.fsum(c for c in costs if c is not None)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What `fb.evaluate` gives: a row for each sample, in the order of the data set."""

    name: str
    flow: str
    fingerprint: str
    run: UUID
    """The run that all samples are children of."""
    rows: tuple[Row, ...]

    @property
    def means(self) -> dict[str, Mean]:
        """Score -> its mean."""
        found: dict[str, list[float]] = {}
        for row in self.rows:
            for name, value in row.scores.items():
                if not math.isnan(value):
                    found.setdefault(name, []).append(value)
        return {name: Mean(math.fsum(values) / len(values), len(values)) for name, values in found.items()}

    @property
    def errors(self) -> tuple[Row, ...]:
        """Samples that failed, or that a scorer failed on."""
        return tuple(row for row in self.rows if row.error is not None or row.failed)

    @property
    def tokens(self) -> tuple[int, int]:
        """(in, out) of all samples, without the judges."""
        return sum(r.tokens[0] for r in self.rows), sum(r.tokens[1] for r in self.rows)

    @property
    def usd(self) -> float | None:
        """What all answers about the samples cost; None: of some it is not known, or there were none."""
        return _usd([t for row in self.rows for t in row.turns])

    @property
    def judges_usd(self) -> float | None:
        """What the judges cost; None: of some it is not known, or there were none."""
        return _usd([t for row in self.rows for t in row.judges])

    @property
    def seconds(self) -> Mean | None:
        """How long a sample's run takes."""
        times = [row.seconds for row in self.rows if row.seconds is not None]
        return Mean(math.fsum(times) / len(times), len(times)) if times else None

    def df(self) -> pd.DataFrame:
        """A table: the sample's columns, output, error, scores, tokens, usd, seconds and run."""
        import pandas as pd

        return pd.DataFrame([_record(row) for row in self.rows])

    def compare(self, other: Evaluation) -> Comparison:
        """What has changed from this evaluation to the ``other`` one, sample by sample."""
        if not isinstance(other, Evaluation):
            raise UsageError(f"compare({other!r}): it takes another evaluation")
        return Comparison(self, other)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __getitem__(self, place: int) -> Row:
        return self.rows[place]

    def __repr__(self) -> str:
        means = ", ".join(f"{name}={mean}" for name, mean in self.means.items())
        return (
            f"<evaluation {self.name}: {len(self.rows)} samples, {len(self.errors)} with errors{means and ', '}{means}>"
        )


def _record(row: Row) -> dict[str, Any]:
    given, made = row.tokens
    failed = "; ".join(f"{name}: {why}" for name, why in row.failed.items())
    return {
        **row.sample,
        "output": row.output,
        "error": row.error or failed or None,
        **row.scores,
        **row.notes,
        "tokens_in": given,
        "tokens_out": made,
        "usd": row.usd,
        "seconds": row.seconds,
        "run": None if row.run is None else str(row.run),
    }


@dataclass(frozen=True, slots=True)
class Change:
    """One sample in both evaluations."""

    mark: str
    a: Row
    b: Row

    @property
    def scores(self) -> dict[str, float]:
        """Score -> by how much it has grown, where both have it."""
        return {name: self.b.scores[name] - value for name, value in self.a.scores.items() if name in self.b.scores}

    @property
    def differs(self) -> bool:
        """Is there another output, error or score?"""
        return (
            self.a.output != self.b.output
            or (self.a.error is None) != (self.b.error is None)
            or any(self.scores.values())
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two evaluations of the same samples."""

    a: Evaluation
    b: Evaluation

    @property
    def changes(self) -> tuple[Change, ...]:
        """The samples that are in both, in the order of the first one."""
        theirs = {row.mark: row for row in self.b.rows}
        return tuple(Change(row.mark, row, theirs[row.mark]) for row in self.a.rows if row.mark in theirs)

    @property
    def only_a(self) -> tuple[Row, ...]:
        """Samples that only the first one has."""
        theirs = {row.mark for row in self.b.rows}
        return tuple(row for row in self.a.rows if row.mark not in theirs)

    @property
    def only_b(self) -> tuple[Row, ...]:
        """Samples that only the second one has."""
        ours = {row.mark for row in self.a.rows}
        return tuple(row for row in self.b.rows if row.mark not in ours)

    @property
    def means(self) -> dict[str, Mean]:
        """Score -> the mean of its differences, over the samples for which both have it."""
        found: dict[str, list[float]] = {}
        for change in self.changes:
            for name, value in change.scores.items():
                if not math.isnan(value):
                    found.setdefault(name, []).append(value)
        return {name: Mean(math.fsum(values) / len(values), len(values)) for name, values in found.items()}

    def counts(self, score: str) -> tuple[int, int, int]:
        """(better, worse, the same) samples in one score."""
        found = [c.scores[score] for c in self.changes if score in c.scores]
        return sum(d > 0 for d in found), sum(d < 0 for d in found), sum(d == 0 for d in found)

    def df(self) -> pd.DataFrame:
        """A table: the sample's columns, both outputs, and of each score both values and the difference."""
        import pandas as pd

        rows = []
        for change in self.changes:
            a, b = change.a, change.b
            row = {**a.sample, "output_a": a.output, "output_b": b.output, "error_a": a.error, "error_b": b.error}
            for name in dict.fromkeys([*a.scores, *b.scores]):
                row |= {f"{name}_a": a.scores.get(name), f"{name}_b": b.scores.get(name)}
                row[f"{name}_diff"] = change.scores.get(name)
            rows.append(row)
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        means = ", ".join(f"{name} {m.mean:+.3g} (n={m.n})" for name, m in self.means.items())
        both = f"{len(self.changes)} samples in both"
        return f"<comparison of {self.a.name} and {self.b.name}: {', '.join(filter(None, [both, means]))}>"
