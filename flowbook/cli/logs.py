"""Logs: what a run has printed, piece by piece, as lines on standard output.

Owns: `Printer`. Refuses: keeping anything, and rich pictures (`flowbook show --outputs`, the inspector).
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Final
from uuid import UUID

from flowbook.show.safe import clean

if TYPE_CHECKING:
    from flowbook.app import App
    from flowbook.plan.outputs import Output

EVERY: Final = 0.4
"""Seconds between two looks, as often as a run stores what it prints."""
_LONG: Final = 1_000_000
"""Characters of a piece."""


class Printer:
    """Prints each piece once; of one that has grown, what is new."""

    def __init__(self, app: App, run_id: UUID, at: str | None, *, json: bool) -> None:
        self._app, self._run, self._json = app, run_id, json
        self._at = at if at is None or "#" in at else f"{at}#1"
        self._seen: dict[tuple[str, int, int], str] = {}
        self._where = ""
        self._line_open = False

    async def print(self, *, follow: bool) -> None:
        """What there is; with ``follow`` what comes as well, until the run is over."""
        while True:
            over = (await self._app.store.run(self._run)).status.over  # asked first: then nothing is missed
            for piece in await self._app.outputs(self._run, self._at):
                self._one(piece)
            sys.stdout.flush()
            if over or not follow:
                break
            await asyncio.sleep(EVERY)
        if self._line_open and not self._json:
            sys.stdout.write("\n")

    def _one(self, piece: Output) -> None:
        text = piece.text if piece.kind != "display" else f"{piece.text or f'[{_kinds(piece)}]'}\n"
        identity = (piece.path, piece.attempt, piece.n)
        before = self._seen.get(identity)
        if before == text:
            return
        self._seen[identity] = text
        new = text[len(before):] if before is not None and text.startswith(before) else text  # fmt: skip
        if self._json:
            self._as_json(piece, new)
            return
        if piece.path != self._where:
            self._where = piece.path
            sys.stdout.write(("\n" if self._line_open else "") + f"-- {clean(piece.path, 80)}\n")
            self._line_open = False
        said = "\n".join(clean(line, _LONG) for line in new.split("\n"))
        sys.stdout.write(said)
        self._line_open = not said.endswith("\n")

    def _as_json(self, piece: Output, new: str) -> None:
        from flowbook.observe.records import output_record

        record = output_record(piece)
        if piece.kind != "display":
            record = {**record, "text": new}
        sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")


def _kinds(piece: Output) -> str:
    return ", ".join(sorted(piece.bundle)) or "nothing"
