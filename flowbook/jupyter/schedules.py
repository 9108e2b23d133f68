"""``%flow schedule``: runs that workers start, from a notebook.

Owns: what the command's words and options mean. Refuses: what a schedule is (`flowbook/scheduling.py`) and parsing.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from flowbook.jupyter.mistakes import usage
from flowbook.jupyter.parse import Command, Parsed, unquoted_value
from flowbook.show.schedules import fires_html, fires_plain, schedules_html, schedules_plain

if TYPE_CHECKING:
    from flowbook.jupyter.session import Session

COMMAND = Command(
    "schedule", "Have the workers (`flowbook worker`) run a flow at its times, as it is now; without a flow, the list. "
    "Texts of the input may be templates: date='{{ fire_time | date }}'.",
    '%flow schedule research --cron "0 6 * * *" --tz Europe/Berlin query="what is new"', "[FLOW [NAME=VALUE ...]]",
    {
        "--cron C": "minute, hour, day of month, month, day of week; six fields have seconds in front",
        "--every D": "instead: 30s, 10m, 1d", "--at T": "instead: one moment, 2026-12-24T18:00",
        "--tz Z": "time zone (UTC)", "--name N": "of the schedule (the flow's)",
        "--on-missed skip|latest|all": "moments at which no worker was there",
        "--overlap allow|skip|cancel-running|queue": "where the run before is not over",
        "--queue Q": "queue of its runs",
        "--newest": "each run takes the newest code of the flow, not the one of now",
        "--pause": "let the schedule of that name rest", "--resume": "let it go on", "--remove": "forget it",
        "--history": "what became of its moments",
    },
)  # fmt: skip
VERBS = ("pause", "resume", "remove", "history")


def run(session: Session, it: Parsed) -> None:
    """Carry the command out, and show what there is then."""
    schedules = session.app.schedules()
    verbs = [verb for verb in VERBS if verb in it.options]
    if len(it.words) > 1 or len(verbs) > 1 or (verbs and not it.words):
        raise usage("%flow schedule takes one flow, and one of --pause, --resume, --remove; `%flow schedule --help`")
    if not it.words:
        found = list(schedules)
        session.publish({"text/html": schedules_html(found), "text/plain": schedules_plain(found)})
        return
    name = it.options.get("name", it.words[0])
    if verbs == ["history"]:
        fires = schedules.history(name)
        session.publish({"text/html": fires_html(fires), "text/plain": fires_plain(fires)})
        return
    made = getattr(schedules, verbs[0])(name) if verbs else _put(session, it, name)
    found = [] if verbs == ["remove"] else [made]
    if not found:
        print(f"schedule {made.name} is removed")  # noqa: T201 - the answer
        return
    session.publish({"text/html": schedules_html(found), "text/plain": schedules_plain(found)})


def _put(session: Session, it: Parsed, name: str) -> Any:
    options: dict[str, Any] = {
        key.replace("-", "_"): it.options[key]
        for key in ("cron", "every", "tz", "on-missed", "overlap", "queue")
        if key in it.options
    }
    if "at" in it.options:
        try:
            options["at"] = datetime.fromisoformat(it.options["at"])
        except ValueError:
            raise usage(f"--at {it.options['at']!r} is no time: write 2026-12-24T18:00") from None
    input = {key: unquoted_value(value) for key, value in it.pairs.items()}
    graph = session.flow(it.words[0])
    return session.app.schedule(graph, name=name, input=input, pin="newest" not in it.options, **options)
