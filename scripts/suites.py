"""Suites nobody here wrote: papermill's and nbclient's own tests, from their source distributions.

Papermill's run twice on this machine, with its own engine and with flowbook as the default engine, and each test that
ends differently is listed. What the suites need beyond flowbook is installed into an environment under build/.

    make suites             all of it (some ten minutes)
    make suites ARGS="papermill"
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ET
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACE = ROOT / "build" / "suites"
PYTHON = PLACE / "venv" / "bin" / "python"
PINNED = re.compile(
    r"(papermill|nbclient|nbformat|nbconvert|jupyter[-_].*|ipykernel|ipython|ipywidgets|pyzmq|tornado)=="
)
"""What the two suites are about keeps our versions; what only their tests need (moto, boto3) finds its own."""
NEEDED = (
    "papermill[all]", "boto3", "moto>=5,<5.2", "pytest", "pytest-mock", "pytest-env", "requests", "attrs", "ipykernel",
    "ipywidgets", "notebook", "flaky", "nbconvert", "pytest-asyncio>=1.3", "pytest-cov", "testpath", "xmltodict",
)  # fmt: skip
PLUGIN = """\
import papermill.engines as engines
from flowbook.papermill.engine import FlowbookEngine

for name in (None, "nbclient"):
    engines.papermill_engines.register(name, FlowbookEngine)
"""


def main(wanted: list[str]) -> int:
    """Run the suites; 0 unless one could not be run at all."""
    PLACE.mkdir(parents=True, exist_ok=True)
    install()
    chosen = wanted or ["papermill", "nbclient"]
    if "papermill" in chosen:
        folder = unpacked("papermill")
        differs = "  differs: {}: {} with its own, {} with flowbook"
        own = ran(folder, "papermill/tests", "own")
        ours = ran(folder, "papermill/tests", "flowbook", plugin=True)
        report("papermill, its own engine", own)
        report("papermill, engine flowbook", ours)
        for name in sorted(own.keys() | ours.keys()):
            if own.get(name) != ours.get(name):
                print(differs.format(name, own.get(name, "absent"), ours.get(name, "absent")))
    if "nbclient" in chosen:
        report("nbclient", ran(unpacked("nbclient"), "tests", "nbclient"))
    return 0


def install() -> None:
    """The environment of the suites; quick when it is there."""
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", str(PLACE / "venv")], check=True)
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = PLACE / "constraints.txt"
    pins.write_text("\n".join(line for line in lines if PINNED.match(line)) + "\n", encoding="utf-8")
    print("installing what the suites need into build/suites (once; some minutes) ...", flush=True)
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "-c", str(pins), "-e", f"{ROOT}[embedded]", *NEEDED]
    subprocess.run(command, check=True, env=environment())


def environment(**more: str) -> dict[str, str]:
    """Ours without the constraints of `make`, which the suites' own needs contradict."""
    import os

    return {k: v for k, v in os.environ.items() if k != "PIP_CONSTRAINT"} | more


def unpacked(name: str) -> Path:
    """The source distribution of the version that is installed here."""
    wanted = f"{name}-{version(name)}"
    folder = PLACE / wanted
    if not folder.is_dir():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        subprocess.run(
            [*command, "-d", str(PLACE), wanted.replace(f"{name}-", f"{name}==")], check=True, env=environment()
        )
        with tarfile.open(PLACE / f"{wanted}.tar.gz") as archive:
            archive.extractall(PLACE, filter="data")
    return folder


def ran(folder: Path, tests: str, label: str, *, plugin: bool = False) -> dict[str, str]:
    """Test -> how it ended."""
    result = PLACE / f"{label}.xml"
    result.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="fbs-") as home:  # short and open to all: an embedded server lives in it
        Path(home).chmod(0o711)
        # Said, because pytest-asyncio warns where it is not, and nbclient's suite takes warnings for errors.
        extra = ["-o", "asyncio_default_fixture_loop_scope=function"]
        extra += ["-p", "flowbook_default"] if plugin else []
        (PLACE / "flowbook_default.py").write_text(PLUGIN, encoding="utf-8")
        path = f"{PYTHON.parent}:{environment().get('PATH', '')}"
        subprocess.run(
            [str(PYTHON), "-m", "pytest", "-q", *extra, f"--junitxml={result}", tests], cwd=folder, check=False,
            env=environment(PYTHONPATH=str(PLACE), FLOWBOOK_HOME=home, PATH=path),
            stdout=(PLACE / f"{label}.log").open("w"), stderr=subprocess.STDOUT,
        )  # fmt: skip
    if not result.exists():  # pytest itself failed, which is no result of the suite
        print((PLACE / f"{label}.log").read_text(encoding="utf-8")[-2000:])
        sys.exit(1)
    return {
        f"{case.get('classname')}::{case.get('name')}": next(
            (kind for kind in ("failure", "error", "skipped") if case.find(kind) is not None), "passed"
        )
        for case in ET.parse(result).iter("testcase")
    }


def report(title: str, ended: dict[str, str]) -> None:
    """Counts, and what did not pass."""
    counts = {kind: list(ended.values()).count(kind) for kind in sorted(set(ended.values()))}
    print(f"{title}: {len(ended)} tests: " + ", ".join(f"{n} {kind}" for kind, n in counts.items()), flush=True)
    for name, kind in sorted(ended.items()):
        if kind in ("failure", "error"):
            print(f"  {kind}: {name}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
