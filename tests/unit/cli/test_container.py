"""The container file of a worker names what is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_container_file_copies_what_the_package_is_built_from_and_starts_a_command_that_exists() -> None:
    """Each COPY names something of the repository, all that the build reads is copied, and no registry is named."""
    text = (ROOT / "extensions" / "worker" / "Dockerfile").read_text(encoding="utf-8")
    copied = {word for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE) for word in line.split()[:-1]}
    assert all((ROOT / name).exists() for name in copied)
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    needed = {"pyproject.toml", "flowbook", "migrations", *re.findall(r'^readme = "(.*)"$', project, re.MULTILINE)}
    assert needed <= copied
    assert re.search(r'^ENTRYPOINT \["flowbook", "worker"\]$', text, re.MULTILINE)
    assert re.findall(r"^FROM (.*)$", text, re.MULTILINE) == ["python:3.13-slim"]
