"""Sparklines: how long the last runs took, as a picture that stands in a line of text.

Owns: the bars, inline for a page and as an address for an ``<img>``. Refuses: choosing the runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from flowbook.plan.records import Status
from flowbook.show.looks import STATUS
from flowbook.show.safe import duration, escape

HIGH, BAR, GAP = 22.0, 4.0, 1.0
MOST = 40
"""Bars at most: more are not told apart."""


def spark(took: Sequence[tuple[float, Status]], *, most: int = MOST) -> str:
    """An SVG with one bar per run, (seconds, status), the oldest on the left; empty where there is none.

    The highest bar is the longest run; the shortest is still to be seen. A failed run has a bar of another colour and a
    foot, so that colour alone says nothing.
    """
    shown = list(took)[-most:]
    if not shown:
        return ""
    longest = max(seconds for seconds, _ in shown) or 1.0
    wide = len(shown) * (BAR + GAP)
    title = f"{len(shown)} runs, the longest {duration(longest)}, the last {duration(shown[-1][0])}"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="fb-spark" width="{wide:g}" height="{HIGH:g}" '
        f'viewBox="0 0 {wide:g} {HIGH:g}" role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>'
    )
    parts = [head]
    for n, (seconds, status) in enumerate(shown):
        look, word = STATUS[status]
        high = max(1.5, (HIGH - 3.0) * seconds / longest)
        x = n * (BAR + GAP)
        foot = 0.0 if status is Status.COMPLETED else 2.0
        parts.append(
            f"<g><title>{escape(f'{word}, {duration(seconds)}')}</title>"
            f'<rect x="{x:g}" y="{HIGH - 3.0 - high:.1f}" width="{BAR:g}" height="{high:.1f}" '
            f'fill="{look.light.stroke}"/>'
            f'<rect x="{x:g}" y="{HIGH - 2.0:g}" width="{BAR:g}" height="{foot:g}" fill="{look.light.stroke}"/></g>'
        )
    return "".join([*parts, "</svg>"])
