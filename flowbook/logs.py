"""Logs that say which run and step they are of.

Owns: `RunIds`, a filter that puts the ids on each record, and `JsonLines`, a formatter that writes one JSON object per
line. Refuses: installing them: how a program logs is its own affair.

    handler = logging.StreamHandler()
    handler.addFilter(flowbook.logs.RunIds())
    handler.setFormatter(flowbook.logs.JsonLines())
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any, Final

from flowbook.capture.routing import current
from flowbook.secret import redact

IDS: Final = ("run_id", "path", "attempt")
_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class RunIds(logging.Filter):
    """Puts ``run_id``, ``path`` (``fit#2``) and ``attempt`` on records of steps; on others they are empty.

    Lets every record through. Follows a step into its threads and tasks. ``%(run_id)s`` then works in a format.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Mark a record."""
        run_id, path, attempt = getattr(current.get(), "ids", ("", "", 0))
        record.run_id, record.path, record.attempt = str(run_id), path, attempt
        return True


class JsonLines(logging.Formatter):
    """One JSON object per record: ``at`` (ISO 8601, UTC), ``level``, ``logger``, ``message``, the ids, ``extra=``."""

    def format(self, record: logging.LogRecord) -> str:
        """A line, without its end."""
        found: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        found |= {name: value for name in IDS if (value := getattr(record, name, ""))}
        found |= {k: v for k, v in vars(record).items() if k not in _OWN and k not in IDS}
        if record.exc_info:
            found["exception"] = self.formatException(record.exc_info)
        return redact(json.dumps(found, default=str, ensure_ascii=False))
