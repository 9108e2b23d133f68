"""Trust: a checkpoint has pickles in it, so nothing of it is loaded that this user has not signed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flowbook.errors import CheckpointDamaged, CheckpointRefused
from flowbook.namespace.manifest import digests
from flowbook.namespace.saving import find, identity
from flowbook.namespace.vault import MemoryVault, digest
from tests.unit.namespace.notebooks import Notebook

LOADED: list[str] = []


def note() -> None:
    """Something was loaded."""
    LOADED.append("loaded")


class Trap:
    """Says so when it is loaded."""

    def __reduce__(self) -> Any:
        return note, ()


@pytest.fixture
def notebook() -> Notebook:
    """A notebook whose checkpoint says so when it is loaded."""
    LOADED.clear()
    made = Notebook()
    made.namespace["trap"] = Trap()
    made.namespace["text"] = "x" * 100_000
    return made.run("pass")


def refused(notebook: Notebook, manifest: dict[str, Any], match: str, key: bytes = b"k" * 32) -> None:
    """This manifest is refused and nothing is loaded."""
    other = Notebook(notebook.vault, key)
    with pytest.raises(CheckpointRefused, match=match):
        other.keeper.restore(manifest)
    assert LOADED == []
    assert set(other.namespace) == {"__name__"}


def test_an_unsigned_checkpoint_is_refused(notebook: Notebook) -> None:
    """Whoever can write into the database cannot make anybody run code."""
    unsigned = {k: v for k, v in notebook.manifest.items() if k != "signature"}
    refused(notebook, unsigned, "not signed, so nothing of it was loaded")


def test_a_foreign_checkpoint_is_refused(notebook: Notebook) -> None:
    """Another user's key is another key."""
    refused(notebook, notebook.manifest, "not signed with your key", key=b"other" * 7)


@pytest.mark.parametrize("part", ["groups", "modules", "ambient", "sources", "lost", "format", "python"])
def test_a_changed_checkpoint_is_refused(notebook: Notebook, part: str) -> None:
    """Every part of it is signed."""
    changed = {**notebook.manifest, part: [1, 2]}
    refused(notebook, changed, "was changed since")


def test_a_changed_piece_is_refused(notebook: Notebook) -> None:
    """The signature covers the digests, the digests cover the pieces; both before a byte is loaded."""
    notebook.run("text = text + 'y'")
    LOADED.clear()
    for key in digests(notebook.manifest):
        notebook.vault.pieces[key] = b"evil"
    other = Notebook(notebook.vault)
    with pytest.raises(CheckpointDamaged, match="was changed since"):
        other.keeper.restore(notebook.manifest)
    assert LOADED == []


def test_a_piece_that_is_gone_is_told_before_anything_is_bound(notebook: Notebook) -> None:
    """Half a namespace is worse than none."""
    notebook.vault.pieces.pop(next(iter(digests(notebook.manifest))))
    other = Notebook(notebook.vault)
    with pytest.raises(CheckpointDamaged, match="are not in the vault"):
        other.keeper.restore(notebook.manifest)
    assert set(other.namespace) == {"__name__"}


def test_another_python_refuses(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code objects of one release mean nothing to another."""
    monkeypatch.setattr("flowbook.namespace.manifest.sys.version_info", (3, 9, 1))
    other = Notebook(notebook.vault)
    with pytest.raises(CheckpointRefused, match=r"cannot be loaded by 3\.9; choose a kernel with Python 3"):
        other.keeper.restore(notebook.manifest)


def test_an_own_checkpoint_is_loaded_and_found_by_its_identity(notebook: Notebook) -> None:
    """The tests above can fail."""
    found = find(notebook.vault, identity(notebook.manifest))
    assert found == notebook.manifest
    assert notebook.keeper.durable(notebook.manifest)
    Notebook(notebook.vault).keeper.restore(found)
    assert LOADED == ["loaded"]


def test_a_checkpoint_is_durable_only_with_all_its_pieces() -> None:
    """Its manifest is put last, so a kernel that dies while it writes has no half checkpoint."""
    order: list[set[bytes]] = []

    class Watching(MemoryVault):
        def put(self, pieces: Any) -> None:
            order.append(set(pieces))
            super().put(pieces)

    notebook = Notebook(Watching()).run("text = 'a' * 200_000")
    assert order[-1] == {identity(notebook.manifest)}
    assert digests(notebook.manifest) <= set().union(*order[:-1])


def test_a_vault_that_fails_is_told_at_the_next_checkpoint() -> None:
    """A kernel goes on; what is said about its checkpoints is true."""

    class Failing(MemoryVault):
        def put(self, pieces: Any) -> None:
            raise OSError("disk full")

    notebook = Notebook(Failing())
    notebook.keeper.before("x = 1")
    manifest = notebook.keeper.after()
    with pytest.raises(OSError, match="disk full"):
        notebook.keeper.wait(30)
    assert not notebook.keeper.durable(manifest)
    with pytest.raises(OSError, match="disk full"):
        notebook.keeper.after()


def test_the_digest_is_blake3() -> None:
    """Known by its test vector."""
    assert digest(b"").hex() == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert json.dumps(Notebook().run("x = 1").manifest)
