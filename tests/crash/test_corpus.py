"""Every notebook of the corpus, killed by SIGKILL at the end and in the middle of each of its cells.

What the variables are at the end, and what each cell prints, is what it is unbroken; or the variable is named as lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowbook.store.migrate import upgrade
from tests.corpus.driver import NOTEBOOKS, Start, broken, cells_of, differences, fresh, resumed, unbroken
from tests.corpus.kernels import KeptKernel

SHORT = ("08_sympy", "09_classes_and_closures")
"""Those that `make test` runs too."""
LOST = {"10_arrow_and_files": {"opened"}, "11_text_and_iterators": {"numbers"}}
"""All that is lost of them: an open file, and a generator that has begun."""


@pytest.fixture
def start(fresh_database: str, tmp_path: Path) -> Iterator[Start]:
    """Starts kernels on one database."""
    asyncio.run(upgrade(fresh_database))
    kernels: list[KeptKernel] = []

    def make(folder: Path) -> KeptKernel:
        kernels.append(KeptKernel(fresh_database, tmp_path / "home", folder))
        return kernels[-1]

    yield make
    for kernel in kernels:
        kernel.close()


def marked(notebook: Path) -> object:
    """All but the short ones belong to `make crash`."""
    return pytest.param(notebook, id=notebook.stem, marks=[] if notebook.stem in SHORT else [pytest.mark.crash])


@pytest.mark.timeout(900)
@pytest.mark.parametrize("notebook", [marked(n) for n in NOTEBOOKS])
def test_a_notebook_that_is_killed_everywhere_ends_as_if_it_had_not(
    notebook: Path, start: Start, tmp_path: Path
) -> None:
    """A kernel per cell, each killed in the middle of the next cell and at the end of its own."""
    whole = unbroken(notebook, start, fresh(tmp_path / "work"))
    again = broken(notebook, start, fresh(tmp_path / "work"), middle=True)
    assert differences(whole, again) == []
    assert again.lost == LOST.get(notebook.stem, set())


@pytest.mark.crash
@pytest.mark.parametrize("notebook", [pytest.param(n, id=n.stem) for n in NOTEBOOKS])
def test_a_notebook_goes_on_from_any_checkpoint(notebook: Path, start: Start, tmp_path: Path) -> None:
    """One kernel to some cell, another one from there to the end: for every cell."""
    work = tmp_path / "work"
    whole = unbroken(notebook, start, fresh(work))
    for at in range(1, len(cells_of(notebook))):
        assert differences(whole, resumed(notebook, start, work, whole, at)) == [], f"resumed after cell {at}"


def test_the_corpus_is_what_it_says() -> None:
    """At least twelve notebooks, and a difference would be seen."""
    assert len(NOTEBOOKS) >= 12
    from tests.corpus.driver import Played

    one, other = Played(["x"], variables={"a": 1, "b": 2}), Played(["y"], variables={"a": 1, "b": 3})
    assert len(differences(one, other)) == 2
