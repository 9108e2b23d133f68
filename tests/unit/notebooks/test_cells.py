"""Which cells are steps, and what identifies them."""

from __future__ import annotations

from typing import Any

import pytest

from flowbook.notebooks.cells import flow_name, last_chain, steps_of
from flowbook.notebooks.glue import glued
from flowbook.notebooks.records import CellRecord, from_stored, records_in


def book(*sources: str, **tags: list[str]) -> dict[str, Any]:
    """A notebook; a source that begins with ``#md`` is text; ``c1=[...]``: tags of the cell at index 1."""
    return {
        "cells": [
            {
                "cell_type": "markdown" if source.startswith("#md") else "code", "source": source,
                "metadata": {"tags": tags.get(f"c{index}", [])},
            }
            for index, source in enumerate(sources)
        ]
    }  # fmt: skip


def test_text_empty_cells_and_skipped_cells_are_no_steps() -> None:
    """What nbclient does not execute has no step; the others are counted from 1."""
    cells = steps_of(book("#md a", "x = 1", "  \n", "y = 2", "z = 3", c3=["skip-execution"]))
    assert [(cell.number, cell.index, cell.source) for cell in cells] == [(1, 1, "x = 1"), (2, 4, "z = 3")]


def test_an_edit_changes_the_chain_of_its_cell_and_of_all_behind_it() -> None:
    """And of none before it."""
    before = [c.chain for c in steps_of(book("a = 1", "b = 2", "c = 3"))]
    after = [c.chain for c in steps_of(book("a = 1", "b = 22", "c = 3"))]
    assert [x == y for x, y in zip(before, after, strict=True)] == [True, False, False]


def test_text_may_be_edited_freely() -> None:
    """Between cells, and by inserting some."""
    assert last_chain(steps_of(book("a", "b"))) == last_chain(steps_of(book("#md x", "a", "", "#md y", "b")))


def test_where_a_cell_ends_counts() -> None:
    """The same text cut elsewhere is another notebook."""
    assert last_chain(steps_of(book("ab", "c"))) != last_chain(steps_of(book("a", "bc")))


def test_a_tag_that_changes_what_executing_means_counts() -> None:
    """A cell that may raise is another cell; a tag for people is not."""
    plain = last_chain(steps_of(book("a")))
    assert last_chain(steps_of(book("a", c0=["raises-exception"]))) != plain
    assert last_chain(steps_of(book("a", c0=["parameters"]))) == plain


@pytest.mark.parametrize(
    "path,name",
    [
        ("in.ipynb", "in"), ("/a/b/My report (2).ipynb", "My_report_2"), ("s3://bucket/x-y.ipynb", "x_y"),
        ("05_durable.ipynb", "nb_05_durable"), ("-", "notebook"), ("C:\\jobs\\a.ipynb", "a"),
    ],
)  # fmt: skip
def test_a_flow_is_called_as_its_notebook(path: str, name: str) -> None:
    """As far as names of flows allow."""
    assert flow_name(path) == name


def test_a_cell_is_told_by_its_first_telling_line() -> None:
    """Comments, magics and imports are not what it does."""
    assert steps_of(book("# load\n\nimport a\nfrom b import c\ndf = load()"))[0].shown == "df = load()"
    assert steps_of(book("# nothing else"))[0].shown == "# nothing else"
    assert len(steps_of(book("x = " + "1" * 100))[0].shown) == 60


def test_a_record_comes_back_as_it_was() -> None:
    """Outputs whole, lone surrogates too."""
    record = CellRecord(
        "abc", 3, [{"output_type": "stream", "name": "stdout", "text": "\ud800é"}], 1.5, ("t0", "t1"), {"k": b"1"},
        "r1", exited=True,
    )  # fmt: skip
    assert from_stored(record.stored()) == record


def test_records_are_found_in_a_state_among_settings() -> None:
    """Keys that only look alike, and cells that were not executed, are left out."""
    stored, skipped = CellRecord("c").stored(), CellRecord("", skipped=True).stored()
    found = records_in({"cell_10": stored, "cell_2": stored, "cell_timeout": 5, "cell_11": skipped, "n": 1})
    assert list(found) == [2, 10]


def test_the_last_value_glued_under_a_name_counts() -> None:
    """And what is no scrap is no result."""
    outputs: list[dict[str, Any]] = [
        {"data": {"application/scrapbook.scrap.json+json": {"name": "a", "data": n}}} for n in (1, 2)
    ]
    assert glued([*outputs, {"data": {"text/plain": "x"}}, {"text": "y"}]) == {"a": 2}
