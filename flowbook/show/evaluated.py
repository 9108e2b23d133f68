"""Evaluations as still pages and as text: means, and the samples below them.

Owns: the HTML and the plain text of an evaluation and of a comparison. Refuses: script; whatever samples, models and
scorers say is text. Working out means (`observe/evaluations.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flowbook.agents.datasets import EXPECTED
from flowbook.ids import short
from flowbook.observe.evaluations import Change, Comparison, Evaluation, Row
from flowbook.show.safe import clean, duration, escape

MOST = 200
"""Samples that are shown; the others are in ``.df()``."""
CLIP = 160
LONG = 4_000

_TABLE = "border-collapse:collapse;margin:8px 0"
_LEFT = "text-align:left;vertical-align:top;padding:4px 14px 4px 0;border-top:1px solid rgba(128,128,128,.25)"
_RIGHT = _LEFT.replace("text-align:left", "text-align:right") + ";white-space:nowrap"
_HEAD = "text-align:{0};padding:4px 14px 4px 0;opacity:.7;font-weight:600"
_BAD, _GOOD = "#d9534a", "#2f9e5f"


def evaluation_html(it: Evaluation) -> str:
    """Its means as a line of figures, and a table of its samples."""
    scores = list(it.means)
    shown = sorted(range(len(it.rows)), key=lambda i: (it.rows[i].error is None and not it.rows[i].failed, i))[:MOST]
    inner = list(it.means)
    for row in it.rows:
        inner += [name for name in row.failed if name not in inner]
    rows = [_row(i, it.rows[i], inner) for i in sorted(shown)]
    heads = [("#", False), ("sample", True), ("output", True), *((s, False) for s in inner)]
    heads += [("tokens", False), ("cost", False), ("time", False)]
    left = "" if len(it.rows) <= MOST else f"<div>{len(it.rows) - MOST:,} more samples are in <code>.df()</code></div>"
    figures = "".join(_figure(name, f"{it.means[name].mean:.3g}", f"n = {it.means[name].n}") for name in scores)
    return (
        f'<div class="fb-evaluation">{_title(it)}<div style="display:flex;flex-wrap:wrap;gap:6px 28px;margin:8px 0">'
        f"{figures}{_totals(it)}</div>{_table(heads, rows)}{left}</div>"
    )


def evaluation_plain(it: Evaluation) -> str:
    """The same for terminals."""
    lines = [f"evaluation {clean(it.name)}: {len(it.rows)} samples of {clean(it.flow)}, run {short(it.run)}"]
    lines += [f"  {clean(name)}: {mean}" for name, mean in it.means.items()]
    given, made = it.tokens
    if given or made:
        lines.append(f"  {given:,} tokens in, {made:,} out{_dollars(it.usd, ', ')}")
    for number, row in enumerate(it.rows):
        lines += [f"  sample {number}: {clean(why, 300)}" for why in _whys(row)]
    return "\n".join(lines)


def comparison_html(it: Comparison) -> str:
    """Means of the differences with counts, and the samples that differ."""
    a, b = it.a.means, it.b.means
    rows = []
    for name in dict.fromkeys([*a, *b]):
        mean, (better, worse, same) = it.means.get(name), it.counts(name)
        cells = [_cell(escape(name, 60)), _cell(_mean(a.get(name)), True), _cell(_mean(b.get(name)), True)]
        cells.append(
            _cell("" if mean is None else f"{_signed(mean.mean)} <span style='opacity:.65'>n = {mean.n}</span>", True)
        )
        cells += [_cell(str(n), True) for n in (better, worse, same)]
        rows.append(cells)
    means = [("score", True), ("a", False), ("b", False), ("difference", False), ("higher", False), ("lower", False)]
    differing = [c for c in it.changes if c.differs]
    names = list(dict.fromkeys([*a, *b]))
    heads = [("sample", True), ("output of a", True), ("output of b", True), *((n, False) for n in names)]
    table = _table(heads, [_change(c, names) for c in differing[:MOST]]) if differing else ""
    only = [f"{len(rows)} only in {who}" for who, rows in (("a", it.only_a), ("b", it.only_b)) if rows]
    line = " · ".join([f"{len(it.changes)} samples in both, {len(differing)} differ", *only])
    titles = "".join(f"<div><b>{letter}</b> {_title(one)}</div>" for letter, one in (("a", it.a), ("b", it.b)))
    summed = _table([*means, ("same", False)], rows)
    return f'<div class="fb-comparison">{titles}{summed}<div>{escape(line)}</div>{table}</div>'


def comparison_plain(it: Comparison) -> str:
    """The same for terminals."""
    sides = " -> ".join(f"{clean(one.name)} {short(one.run)}" for one in (it.a, it.b))
    lines = [f"{sides}: {len(it.changes)} samples in both"]
    for name, mean in it.means.items():
        better, worse, same = it.counts(name)
        lines.append(f"  {clean(name)}: {mean.mean:+.3g} (n={mean.n}; {better} higher, {worse} lower, {same} the same)")
    return "\n".join(lines)


# -- pieces ------------------------------------------------------------------------------------------------------------


def _title(it: Evaluation) -> str:
    about = f"{len(it.rows):,} samples of {it.flow}, {it.fingerprint[:8]}, run {short(it.run)}"
    return f'<span><b>{escape(it.name, 80)}</b> <span style="opacity:.65">{escape(about)}</span></span>'


def _totals(it: Evaluation) -> str:
    given, made = it.tokens
    found = [_figure("errors", str(len(it.errors)), "samples", _BAD)] if it.errors else []
    if given or made:
        found.append(_figure("tokens", f"{given + made:,}", f"{given:,} in, {made:,} out"))
    if it.usd is not None:
        judges = "" if it.judges_usd is None else f"and {_money(it.judges_usd)} for judges"
        found.append(_figure("cost", _money(it.usd), judges))
    if it.seconds is not None:
        found.append(_figure("time", duration(it.seconds.mean), "per sample"))
    return "".join(found)


def _figure(name: str, value: str, below: str, colour: str = "inherit") -> str:
    return (
        f'<div><div style="opacity:.7;font-size:.85em">{escape(name, 60)}</div><div style="font-size:1.4em;'
        f'color:{colour}">{escape(value)}</div><div style="opacity:.6;font-size:.8em">{escape(below)}</div></div>'
    )


def _row(number: int, row: Row, scores: Sequence[str]) -> list[str]:
    given, made = row.tokens
    output = _text(row.output) if row.error is None else f'<span style="color:{_BAD}">{_text(row.error)}</span>'
    output += "".join(
        f'<div style="opacity:.7;font-size:.9em">{escape(n, 40)}: {_text(t)}</div>' for n, t in row.notes.items()
    )
    cells = [_cell(str(number), True), _cell(_sample(row.sample)), _cell(output)]
    for name in scores:
        if name in row.failed:
            cells.append(
                _cell(f'<span style="color:{_BAD}" title="{escape(row.failed[name], LONG)}">error</span>', True)
            )
        else:
            cells.append(_cell("" if name not in row.scores else f"{row.scores[name]:.3g}", True))
    time = "" if row.seconds is None else duration(row.seconds)
    return [
        *cells,
        _cell(f"{given + made:,}" if row.turns else "", True),
        _cell(_money(row.usd), True),
        _cell(time, True),
    ]


def _change(change: Change, names: Sequence[str]) -> list[str]:
    sides = [_text(row.output if row.error is None else row.error) for row in (change.a, change.b)]
    cells = [_cell(_sample(change.a.sample)), *(_cell(side) for side in sides)]
    for name in names:
        a, b = (row.scores.get(name) for row in (change.a, change.b))
        values = " → ".join("none" if v is None else f"{v:.3g}" for v in (a, b))
        colour = "inherit" if a is None or b is None or a == b else _GOOD if b > a else _BAD
        cells.append(_cell(f'<span style="color:{colour}">{values}</span>', True))
    return cells


def _sample(sample: Mapping[str, Any]) -> str:
    parts: list[str] = []
    for name, value in sample.items():
        label = "" if not parts else f"{name}: "
        style = "opacity:.7" if name == EXPECTED else ""
        parts.append(f'<div style="min-width:160px;{style}">{escape(label, 40)}{_text(value)}</div>')
    return "".join(parts)


def _text(value: Any) -> str:
    """A value; one that is long opens."""
    text = value if isinstance(value, str) else _json(value)
    if len(text) <= CLIP and "\n" not in text:
        return escape(text)
    whole = f'<pre style="white-space:pre-wrap;margin:4px 0;max-width:640px">{escape(text, LONG)}</pre>'
    return f"<details><summary>{escape(' '.join(text.split()), CLIP)}</summary>{whole}</details>"


def _json(value: Any) -> str:
    if hasattr(value, "model_dump"):
        value = value.model_dump(mode="json")
    try:
        return json.dumps(value, ensure_ascii=False, default=repr)
    except (TypeError, ValueError, RecursionError):
        return repr(value)


def _cell(inner: str, right: bool = False) -> str:
    return f'<td style="{_RIGHT if right else _LEFT}">{inner}</td>'


def _table(heads: Iterable[tuple[str, bool]], rows: Sequence[Sequence[str]]) -> str:
    names = "".join(
        f'<th style="{_HEAD.format("left" if left else "right")}">{escape(h, 60)}</th>' for h, left in heads
    )
    body = "".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    return f'<table style="{_TABLE}"><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>'


def _whys(row: Row) -> list[str]:
    return [row.error] if row.error is not None else [f"{name}: {why}" for name, why in row.failed.items()]


def _mean(mean: Any) -> str:
    return "" if mean is None else f"{mean.mean:.3g} <span style='opacity:.65'>n = {mean.n}</span>"


def _signed(value: float) -> str:
    colour = _GOOD if value > 0 else _BAD if value < 0 else "inherit"
    return f'<span style="color:{colour}">{value:+.3g}</span>'


def _money(usd: float | None) -> str:
    return (
        ""
        if usd is None
        else f"${usd:.4f}"
        if usd >= 0.01 or usd == 0
        else f"${usd:.2g}"
        if usd >= 1e-4
        else "<$0.0001"
    )


def _dollars(usd: float | None, before: str) -> str:
    return "" if usd is None else f"{before}{_money(usd)}"
