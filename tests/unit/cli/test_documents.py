"""Documents that are made from code, and links between them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowbook.errors import FlowbookError
from flowbook.plan.transitions import ROW_TRANSITIONS, diagram

ROOT = Path(__file__).parents[3]
PAPERS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def _tree(kind: type[FlowbookError]) -> Iterator[type[FlowbookError]]:
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == "flowbook.errors":
            yield from _tree(below)


def test_every_error_is_documented() -> None:
    """docs/errors.md has each code with its class and the words of its docstring."""
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    rows = {m[1]: (m[2], m[3]) for m in re.finditer(r"^\| (FB\d+) \| \**`(\w+)`\** \| (.*) \|$", text, re.MULTILINE)}
    kinds = {k.code: k for k in _tree(FlowbookError)}
    assert set(rows) == set(kinds)
    for code, (name, words) in rows.items():
        kind = kinds[code]
        assert name == kind.__name__
        assert words == " ".join((inspect.getdoc(kind) or "").split()).replace("``", "`")


def test_the_state_diagram_is_the_table() -> None:
    """docs/states.md has the Graphviz source, and the picture above it has the same edges."""
    text = (ROOT / "docs" / "states.md").read_text(encoding="utf-8")
    assert diagram() in text
    edges = {(m[1], m[2], m[3]) for m in re.finditer(r"^    (\w+) --> (\w+): (.+)$", text, re.MULTILINE)}
    table = {
        (str(source), str(target), label)
        for source, row in ROW_TRANSITIONS.items()
        for label, target in row.items()
        if source is not target
    }
    assert edges == table


@pytest.mark.parametrize("paper", PAPERS, ids=lambda p: p.name)
def test_links_lead_somewhere(paper: Path) -> None:
    """Each relative link is a file of the project, each anchor a heading."""
    text = paper.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        file = (paper.parent / name).resolve() if name else paper
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w-]", "", h.lower().replace(" ", "-")) for h in headings}, target


def test_no_text_proposes_the_other_package() -> None:
    """The name ``flowbook`` on the index belongs to another project."""
    for paper in [*PAPERS, *(ROOT / "notebooks").glob("*.ipynb")]:
        assert not re.search(r"pip install [\"']?flowbook(?!-jupyter)", paper.read_text(encoding="utf-8")), paper
