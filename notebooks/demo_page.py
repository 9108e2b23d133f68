"""The demo's page: the executed notebook as one file that needs nothing else.

Owns: `page`, and `external`, which finds whatever a browser would fetch or run. nbconvert's own templates load
require.js and MathJax from a CDN; its ``basic`` one gives the cells alone, and the frame around them is here. Refuses:
telling the story (`demo.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import nbformat
from nbconvert import HTMLExporter
from traitlets.config import Config

from flowbook.observe.views import RunView
from flowbook.plan.journal import Entry
from flowbook.show.html import run_html

_FETCHES = re.compile(
    r"""<script|<link\b|<iframe|@import|url\(\s*['"]?(?!data:)[a-z/]|\b(?:src|srcset|poster|data)\s*=\s*['"](?!data:)"""
    r"""|javascript:""",
    re.IGNORECASE,
)

_STYLE = """
:root { --ink: #1c2430; --soft: #5d6878; --line: #e1e6ee; --paper: #ffffff; --code: #f6f8fb; --mark: #2f6feb;
        --old: #2f9e5f; --new: #2f6feb; color-scheme: light; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #dfe5ee; --soft: #98a2b3; --line: #303844; --paper: #14181f; --code: #1c222b; --mark: #7aa7ff;
          --old: #55c98a; --new: #7aa7ff; color-scheme: dark; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
       font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2.5rem 1.5rem 5rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 2.2rem 0 .6rem; }
h2 { font-size: 1.3rem; margin: 2.4rem 0 .5rem; }
p, ul, ol { margin: .5rem 0; max-width: 46rem; }
a { color: var(--mark); }
code { font: .88em/1.4 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
p code, li code { background: var(--code); padding: .1em .3em; border-radius: 4px; }
.anchor-link { display: none; }
.prompt { display: none; }
.input_area { background: var(--code); border: 1px solid var(--line); border-radius: 8px; margin: .7rem 0 .4rem; }
.input_area pre { margin: 0; padding: .7rem 1rem; overflow-x: auto; font: 13.5px/1.5 ui-monospace, SFMono-Regular,
                  Menlo, Consolas, monospace; }
.output_area { margin: .3rem 0 .3rem; padding-left: 1rem; border-left: 3px solid var(--line); overflow-x: auto; }
.output_area pre { margin: .3rem 0; font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.output_area img { max-width: 100%; height: auto; border-radius: 6px; }
.output_png img { background: #fff; }
table { border-collapse: collapse; margin: .5rem 0; font-size: .9rem; }
th { text-align: left; font-weight: 600; color: var(--soft); }
th, td { padding: .2rem 1rem .2rem 0; border-bottom: 1px solid var(--line); }
summary { cursor: pointer; color: var(--soft); }
header { border: 1px solid var(--line); border-radius: 12px; padding: 1.2rem 1.6rem 1.4rem; background: var(--code); }
header h1 { margin-top: .2rem; }
header li::marker { content: "✓  "; color: var(--old); }
header ul { padding-left: 1.4rem; }
.journal td { font: 13px/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.journal .old td:first-child { border-left: 4px solid var(--old); padding-left: .6rem; }
.journal .new td:first-child { border-left: 4px solid var(--new); padding-left: .6rem; }
.journal .cut td { border: 0; padding: .6rem 0; font-weight: 600; color: #d63b3b; }
.hl-ipython3 .k, .hl-ipython3 .kn, .hl-ipython3 .ow { color: #9a3fbf; } .hl-ipython3 .kc { color: #9a3fbf; }
.hl-ipython3 .s1, .hl-ipython3 .s2, .hl-ipython3 .sd, .hl-ipython3 .sa, .hl-ipython3 .si { color: #2b7d4f; }
.hl-ipython3 .c1 { color: var(--soft); font-style: italic; } .hl-ipython3 .nd { color: #b3590b; }
.hl-ipython3 .mi, .hl-ipython3 .mf { color: #b3590b; } .hl-ipython3 .nf { color: #2459c4; }
@media (prefers-color-scheme: dark) {
  .hl-ipython3 .k, .hl-ipython3 .kn, .hl-ipython3 .ow, .hl-ipython3 .kc { color: #d39df0; }
  .hl-ipython3 .s1, .hl-ipython3 .s2, .hl-ipython3 .sd, .hl-ipython3 .sa, .hl-ipython3 .si { color: #84d9a8; }
  .hl-ipython3 .nd, .hl-ipython3 .mi, .hl-ipython3 .mf { color: #f0b46a; } .hl-ipython3 .nf { color: #9dc0ff; }
}
"""


def page(
    notebook: Path, view: RunView, before: Sequence[Entry], after: Sequence[Entry], killed: int, proofs: Sequence[str]
) -> str:
    """The executed notebook below an account of what was done to it.

    ``view``: the run at its end; ``before``: its journal when the kernel was killed; ``after``: the whole of it;
    ``killed``: the kernel's process.
    """
    # Flow cells are Python; nbconvert cannot know it and would leave them black.
    config = Config({"HighlightMagicsPreprocessor": {"enabled": True, "languages": {"%%flow": "python"}}})
    exporter: Any = HTMLExporter(config=config, template_name="basic")  # type: ignore[no-untyped-call]
    cells, _ = exporter.from_notebook_node(nbformat.read(notebook, as_version=4))  # type: ignore[no-untyped-call]
    claims = "".join(f"<li>{escape(p)}</li>" for p in proofs)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>flowbook: killed half-way, and finished</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<header>
<h1>Killed half-way, and finished</h1>
<p>This is <code>notebooks/01_quickstart.ipynb</code> as <code>make demo</code> executed it: its kernel, process
{killed}, was killed with SIGKILL while models were being fitted, and the notebook was executed again from the top in a
new process. What had finished was not done again.</p>
{run_html(view)}
<ul>{claims}</ul>
<details><summary>The journal of the run, row by row</summary>
{_journal(before, after, killed)}
</details>
</header>
{cells}
</main>
</body>
</html>
"""


def external(html: str) -> list[str]:
    """Whatever a browser would fetch from elsewhere, or run."""
    return [html[max(0, m.start() - 40) : m.end() + 60] for m in _FETCHES.finditer(html)]


def _journal(before: Sequence[Entry], after: Sequence[Entry], killed: int) -> str:
    rows = []
    for entry in after:
        if entry.seq == len(before) + 1:
            rows.append(f'<tr class="cut"><td colspan="5">kill -9 {killed}</td></tr>')
        age = "old" if entry.seq <= len(before) else "new"
        at = f"{entry.at:%H:%M:%S.%f}"[:-3] if entry.at else ""
        cells = (entry.seq, at, entry.kind, entry.path, entry.attempt or "")
        rows.append(f'<tr class="{age}">' + "".join(f"<td>{escape(str(c))}</td>" for c in cells) + "</tr>")
    head = "".join(f"<th>{h}</th>" for h in ("row", "at (UTC)", "kind", "path", "attempt"))
    return f'<table class="journal"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
