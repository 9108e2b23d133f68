"""Other versions of ipykernel, each in a folder of its own, for the tests that click while a cell runs.

The folders are ``build/kernels/VERSION``; what is there already is left alone, so a second run takes no time. Where the
versions cannot be had, that is said and the tests that need them are left out with a reason.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

VERSIONS = ("6.31.0", "7.1.0", "7.4.0")
"""Three ways to hear a click while a cell runs: not at all, on a subshell, and on a subshell after a remedy."""
BESIDE = ("nest-asyncio==1.6.0",)
"""What one of them imports and the environment does not have."""
FOLDER = Path(__file__).parents[1] / "build" / "kernels"


def main() -> None:
    """Install what is missing."""
    # The pins are for the environment; here other versions are wanted on purpose.
    env = {k: v for k, v in os.environ.items() if k != "PIP_CONSTRAINT"}
    for version in VERSIONS:
        folder = FOLDER / version
        if (folder / ".done").exists():
            continue
        shutil.rmtree(folder, ignore_errors=True)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
        command += [f"ipykernel=={version}", *BESIDE]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
            print(f"ipykernel {version} cannot be installed here, so its tests are left out: {last}")
            continue
        (folder / ".done").touch()


if __name__ == "__main__":
    main()
