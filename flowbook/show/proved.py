"""Proofs as people look at them: a painted topology and a table, a table for terminals, plain lines.

Owns: the three forms of a `Proof`. Refuses: script, links and unescaped text, as `html.py` does; proving.
"""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from flowbook.observe.proofs import Proof, ProvenStep
from flowbook.observe.views import State
from flowbook.plan.paths import node_of
from flowbook.show.layout import arrange
from flowbook.show.looks import LOOKS
from flowbook.show.safe import clean, duration, escape
from flowbook.show.svg import LEAST, Mark, data_uri, draw
from flowbook.show.topology import topology_of

HEADS = ("step", "killed after it", "resumed", "same result", "effects")
_CELL = "text-align:left;vertical-align:top;padding:3px 14px 3px 0"
_GOOD, _BAD = LOOKS[State.FINISHED], LOOKS[State.FAILED]


def proof_html(proof: Proof) -> str:
    """A proof: verdict, what is wrong, the topology, a row per step."""
    look = (_GOOD if proof.passed else _BAD).light
    word = "✓ proven" if proof.passed else "✕ not proven"
    badge = (
        f'<span style="display:inline-block;padding:0 8px;border:1px solid {look.stroke};border-radius:9px;'
        f'background:{look.fill};color:{look.text}">{word}</span>'
    )
    title = f"<b>{escape(proof.flow, 80)}</b> v{proof.version}&ensp;{badge}"
    about = f'<span style="opacity:.7">{escape(headline(proof), 300)}</span>'
    parts = [f'<div style="margin:2px 0 6px">{title}&ensp;{about}</div>']
    if proof.why:
        items = "".join(f"<li>{escape(text, 1000)}</li>" for text in proof.why)
        parts.append(
            f'<ul style="margin:4px 0;border-left:3px solid {_BAD.light.stroke};padding-left:26px">{items}</ul>'
        )
    if proof.steps:
        layout = arrange(topology_of(proof.spec))
        style = f"max-width:100%;min-width:{LEAST * layout.w:.0f}px;height:auto"
        about = f"proof of {proof.flow}: {headline(proof)}"
        image = f'<img src="{data_uri(draw(layout, _marks(proof)))}" alt="{escape(about, 300)}" style="{style}">'
        parts += [f'<div style="overflow:auto">{image}</div>', _table(proof)]
    parts += [f'<div style="margin:2px 0;opacity:.8">{escape(text, 600)}</div>' for text in proof.remarks]
    return f'<div class="fb-proof">{"".join(parts)}</div>'


def proof_table(proof: Proof) -> RenderableType:
    """A proof for a terminal."""
    look, word = (_GOOD, "proven") if proof.passed else (_BAD, "not proven")
    parts: list[RenderableType] = [
        Text.assemble(
            (clean(proof.flow, 60), "bold"), f" v{proof.version}  ", (f"{look.sign} {word}", look.terminal), "  ",
            (headline(proof), "dim"),
        )
    ]  # fmt: skip
    parts += [Text(clean(text, 1000), "red") for text in proof.why]
    if proof.steps:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for name in HEADS:
            table.add_column(name, overflow="fold")
        for step in proof.steps:
            table.add_row(*(Text(text) for text in cells(step)))
        parts.append(table)
    return Group(*parts, *(Text(clean(text, 600), "dim") for text in proof.remarks))


def proof_plain(proof: Proof) -> str:
    """A proof in plain lines."""
    lines = [
        f"{clean(proof.flow, 80)} v{proof.version}: {'proven' if proof.passed else 'not proven'} · {headline(proof)}"
    ]
    lines += [f"  {_BAD.sign} {clean(text, 1000)}" for text in proof.why]
    for step in proof.steps:
        path, *rest = cells(step)
        lines.append(f"  {path}  {', '.join(f'{h}: {c}' for h, c in zip(HEADS[1:], rest, strict=True) if c)}")
    return "\n".join([*lines, *(f"  {clean(text, 600)}" for text in proof.remarks)])


def headline(proof: Proof) -> str:
    """What it was, in one line."""
    kills = f"killed {proof.kills} time{'' if proof.kills == 1 else 's'}"
    repeated = f", {len(proof.repeated)} began again" if proof.repeated else ", no effect repeated"
    return f"{kills}{repeated if proof.kills else ''}, {duration(proof.seconds)}"


def cells(step: ProvenStep) -> tuple[str, str, str, str, str]:
    """The row of a step."""
    return (
        clean(step.path, 100),
        "SIGKILL" if step.killed else "",
        "" if step.resumed is None else f"after {duration(step.resumed)}",
        "" if step.same is None else "yes" if step.same else "no",
        "once" if step.begun == 1 else f"begun {step.begun} times",
    )


def _marks(proof: Proof) -> Mapping[str, Mark]:
    found: dict[str, Mark] = {}
    for step in proof.steps:
        if "/" in step.path or step.path.endswith("]"):
            continue
        _, killed, _, same, effects = cells(step)
        state = State.FAILED if same == "no" else State.RETRYING if step.begun > 1 else State.FINISHED
        text = " · ".join(t for t in ("differs" if same == "no" else "", "killed" if killed else "", effects) if t)
        found[node_of(step.path)] = Mark(state, text, word="differs" if same == "no" else "holds")
    return found


def _table(proof: Proof) -> str:
    rows = []
    for step in proof.steps:
        path, *rest = cells(step)
        first = f'<td style="{_CELL};font-family:monospace">{escape(path)}</td>'
        rows.append(f"<tr>{first}{''.join(f'<td style={chr(34)}{_CELL}{chr(34)}>{escape(c)}</td>' for c in rest)}</tr>")
    heads = "".join(f'<th scope="col" style="{_CELL}">{h}</th>' for h in HEADS)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
