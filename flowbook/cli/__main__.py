"""``python -m flowbook.cli``: the console script where no scripts are installed."""

from __future__ import annotations

from flowbook.cli import main

main()
