"""Plans as people look at them: a painted topology with its legend, a table for terminals, plain lines.

Owns: the three forms of a `Plan`. Refuses: script, links and unescaped text, as `html.py` does; working out a plan
(`observe/planned.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from flowbook.ids import short
from flowbook.observe.planned import Fate, Plan, PlannedNode
from flowbook.observe.views import State
from flowbook.show.layout import arrange
from flowbook.show.looks import LOOKS
from flowbook.show.safe import clean, duration, escape
from flowbook.show.svg import LEAST, Mark, data_uri, draw
from flowbook.show.topology import topology_of

STATES: Mapping[Fate, State] = {
    Fate.REUSED: State.FINISHED,
    Fate.AGAIN: State.RETRYING,
    Fate.NEW: State.RUNNING,
}
"""A fate -> the state of a run whose look it has: sign, colours."""
_CELL = "text-align:left;vertical-align:top;padding:3px 14px 3px 0"


def plan_html(plan: Plan) -> str:
    """A plan: one line, the painted topology, the legend, the reasons."""
    layout = arrange(topology_of(plan.spec))
    svg = draw(layout, {n.node: _mark(n) for n in plan.nodes})
    about = f"plan of {plan.flow}: {counts(plan)}"
    style = f"max-width:100%;min-width:{LEAST * layout.w:.0f}px;height:auto"
    image = f'<img src="{data_uri(svg)}" alt="{escape(about, 300)}" style="{style}">'
    parts = [
        f'<div style="margin:2px 0 6px"><b>{escape(plan.flow, 80)}</b>&ensp;{escape(headline(plan), 400)}</div>',
        f'<div style="overflow:auto">{image}</div>',
        _legend(plan),
        _table(plan),
        *(f'<div style="margin:2px 0;opacity:.8">{escape(line, 600)}</div>' for line in remarks(plan)),
    ]
    return f'<div class="fb-plan">{"".join(parts)}</div>'


def planned_flow_html(plan: Plan, notes: Sequence[str], warnings: Sequence[str]) -> str:
    """A plan in the place of a flow's picture, with what there is to say about the flow below it."""
    below = [f'<div style="margin:2px 0;opacity:.8">{escape(n, 600)}</div>' for n in notes]
    below += [f'<div style="margin:2px 0;color:#b54708">⚠ {escape(w, 600)}</div>' for w in warnings]
    return f'<div class="fb-flow">{plan_html(plan)}{"".join(below)}</div>'


def plan_table(plan: Plan) -> RenderableType:
    """A plan for a terminal."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("step", "plan", "why", "time", "cost"):
        table.add_column(name, overflow="fold")
    rows: list[RenderableType] = [table, *(Text(clean(line, 600), "dim") for line in remarks(plan))]
    for node in plan.nodes:
        look = LOOKS[STATES[node.fate]]
        table.add_row(
            Text(clean(node.node, 60)), Text(f"{look.sign} {node.fate}", look.terminal), Text(clean(node.why, 300)),
            took(node.seconds), cost(node.usd),
        )  # fmt: skip
    return Group(Text.assemble((clean(plan.flow, 60), "bold"), "  ", clean(headline(plan), 300)), *rows)


def plan_plain(plan: Plan) -> str:
    """A plan in plain lines."""
    lines = [f"plan of {clean(plan.flow, 80)}: {clean(headline(plan), 300)}"]
    for node in plan.nodes:
        expected = ", ".join(t for t in (took(node.seconds), cost(node.usd)) if t)
        why = f": {clean(node.why, 300)}" if node.why else ""
        lines.append(f"  {LOOKS[STATES[node.fate]].sign} {clean(node.node, 80)}  {node.fate}{why}"
                     f"{f'  ({expected})' if expected else ''}")  # fmt: skip
    return "\n".join([*lines, *(f"  {clean(line, 600)}" for line in remarks(plan))])


def counts(plan: Plan) -> str:
    """``2 reused, 1 will run again``."""
    return ", ".join(f"{n} {fate}" for fate in Fate if (n := len(plan.of(fate)))) or "no steps"


def headline(plan: Plan) -> str:
    """What it comes to, in one line."""
    parts = [counts(plan)]
    if plan.seconds is not None:
        parts.append(f"about {duration(plan.seconds)} of work")
    if plan.usd is not None:
        parts.append(f"about {cost(plan.usd)}")
    if plan.against is not None:
        parts.append(f"beside run {short(plan.against)} (v{plan.against_version}, {plan.against_status})")
    return " · ".join(parts)


def remarks(plan: Plan) -> Sequence[str]:
    """What stands below: what changed, what to type, where the figures are from, what is not known."""
    found = []
    if plan.changes:
        found.append(f"changed since then: {'; '.join(plan.changes)}")
    if plan.input_changed:
        names = ", ".join(plan.input_changed)
        found.append(f"no run had this input; that run differs in {names}, so nothing of it is reused")
    elif plan.against is not None and not plan.standing and plan.of(Fate.REUSED):
        found.append("nothing is left to do: that run has the result")
    elif plan.of(Fate.REUSED):
        found.append(
            f"to run it like this: %flow run {plan.flow} --reuse {short(plan.against) if plan.against else 'last'}; "
            f"a plain run does everything again"
        )
    if plan.history:
        runs = "the last finished run" if plan.history == 1 else f"the last {plan.history} finished runs"
        found.append(f"times are medians over {runs}, one step after the other")
    return [*found, *plan.notes]


def took(seconds: float | None) -> str:
    """An expected time; empty where none is known."""
    return "" if seconds is None else duration(seconds)


def cost(usd: float | None) -> str:
    """An expected price; empty where none is known."""
    return "" if usd is None else f"${usd:.4f}" if usd < 0.1 else f"${usd:.2f}"


def _mark(node: PlannedNode) -> Mark:
    expected = took(node.seconds) if node.fate is not Fate.REUSED else ""
    price = cost(node.usd) if node.fate is not Fate.REUSED else ""
    word = {Fate.REUSED: "reused", Fate.AGAIN: "runs again", Fate.NEW: "new"}[node.fate]
    text = " · ".join([word, *(t for t in (expected, price) if t)])
    return Mark(STATES[node.fate], text, clean(node.why, 300), word=str(node.fate))


def _legend(plan: Plan) -> str:
    marks = []
    for fate in Fate:
        look, n = LOOKS[STATES[fate]], len(plan.of(fate))
        marks.append(
            f'<span style="display:inline-block;padding:0 8px;margin-right:8px;border:1px solid {look.light.stroke};'
            f'border-radius:9px;background:{look.light.fill};color:{look.light.text}">{look.sign} {fate} {n}</span>'
        )
    return f'<div style="margin:4px 0">{"".join(marks)}</div>'


def _table(plan: Plan) -> str:
    rows = [
        f'<tr><td style="{_CELL};font-family:monospace">{escape(n.node, 80)}</td>'
        f'<td style="{_CELL}">{LOOKS[STATES[n.fate]].sign} {n.fate}</td><td style="{_CELL}">{escape(n.why, 300)}</td>'
        f'<td style="{_CELL}">{took(n.seconds)}</td><td style="{_CELL}">{cost(n.usd)}</td></tr>'
        for n in plan.nodes
    ]
    heads = "".join(f'<th scope="col" style="{_CELL}">{h}</th>' for h in ("step", "plan", "why", "time", "cost"))
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
