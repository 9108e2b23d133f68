"""The schema, as SQLAlchemy metadata: one Postgres schema called ``flowbook``.

Owns: tables, columns, constraints and indexes as they are meant to be; a test proves that the migrations make
exactly these. Refuses: statements (`statements.py`) and being imported by anything that runs flows: SQLAlchemy
costs 0.4 s, so only migrations and tests read this file.

Glossary

    run         one execution of a flow; narrow, because its row is locked by every append and updated at every turn
    epoch       counts the owners of a run; a journal row carries the epoch it was written under
    due_at      the one readiness column: created, timer, back-off, handed back and mail all set it
    mail        how many deliveries the run's mailbox has had; parking is refused while some are unread
    journal     what happened, (run_id, seq) without gaps, append-only, written by the owner of the epoch alone
    outcome     the kind of journal row of which a path has at most one
    mailbox     what others want of a run; valid before anyone waits for it
    definition  the code of a flow as it was when a run began; immutable
    defined     a flow as data, that somebody defined while programs ran; a version is immutable
    proof       what came of killing a version of a flow at its step boundaries; and whether it was promoted
    blob        a large value, stored once under the digest of its bytes
    chunk       a piece of text that a step has streamed; gone soon after its path has an outcome
    output      what an attempt at a step printed or displayed; stays as long as its run
    schedule    when runs of a flow are started; fired by whichever worker is first, in the statement that starts them
    fire        a moment of a schedule that was dealt with; one per (schedule, fire_time), whatever becomes of its run
    budget      what runs of a namespace have spent together, under a name that they share
    reservation what is set aside of a budget for one call that is under way
    worker      a process that owns runs; dead when its session lock is free or its lease is past

Conventions: times are the database's; text statuses rather than enum types, which cannot lose a value; bytes with a
codec tag rather than jsonb wherever a user's value is kept.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

SCHEMA: Final = "flowbook"
STATUSES: Final = ("pending", "running", "waiting", "completed", "failed", "cancelled", "superseded")

metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "pk": "%(table_name)s_pk",
        "uq": "%(table_name)s_%(column_0_N_name)s_uq",
        "fk": "%(table_name)s_%(column_0_N_name)s_fk",
        "ck": "%(table_name)s_%(constraint_name)s_ck",
    },
)


def _at(name: str, *, null: bool = False, clock: str | None = None) -> Column[Any]:
    default = None if clock is None else text(clock)
    return Column(name, DateTime(timezone=True), nullable=null, server_default=default)


def _text(name: str, default: str | None = None, *, null: bool = False) -> Column[Any]:
    return Column(name, Text, nullable=null, server_default=None if default is None else text(f"'{default}'"))


def _int(name: str, default: int | None = 0, *, null: bool = False) -> Column[Any]:
    return Column(name, Integer, nullable=null, server_default=None if default is None else text(str(default)))


worker = Table(
    "worker",
    metadata,
    Column("id", UUID, primary_key=True),
    _text("host"),
    _int("pid", None),
    Column("lock_key", BigInteger, nullable=False),
    Column("lease_seconds", Double, nullable=False),
    _at(
        "locked_at", null=True
    ),  # null: no session lock (it was lost, or a proxy cannot keep one): the lease alone counts
    _at("alive_until"),
    Column("serves", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    _at("started_at", clock="now()"),
)

definition = Table(
    "definition",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("flow", Text, primary_key=True),
    Column("fingerprint", Text, primary_key=True),
    _int("version", None),
    Column("spec", JSONB, nullable=False),
    Column("sources", JSONB, nullable=False),
    _text("signature", ""),
    _at("created_at", clock="now()"),
    UniqueConstraint("namespace", "flow", "version"),
)

defined = Table(
    "defined",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    _text("spec"),  # JSON as it was given: jsonb would change numbers
    _text("fingerprint", ""),
    _text("by", ""),
    _at("created_at", clock="now()"),
    _at("ended_at", null=True),  # null: it was not taken back
)

proof = Table(
    "proof",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("flow", Text, primary_key=True),
    Column("fingerprint", Text, primary_key=True),
    _at("at", clock="now()"),
    Column("passed", Boolean, nullable=False, server_default=text("false")),
    Column("report", JSONB, nullable=False, server_default=text("'{}'")),
    _at("promoted_at", null=True),  # of the versions of a flow, the one that was promoted last is pinned
    _text("promoted_by", ""),
)

ASKS = "status = 'waiting' and asks or status = 'pending' and claims > 0"

run = Table(
    "run",
    metadata,
    Column("id", UUID, primary_key=True),
    _text("namespace"),
    _text("flow"),
    _int("version", None),
    _text("fingerprint"),
    _text("queue", "default"),
    _int("priority"),
    _text("status", "pending"),
    _at("due_at", clock="now()"),
    _int("epoch"),
    Column("worker_id", UUID),  # no foreign key: a worker's row goes while its runs are handed back one by one
    Column("home_id", UUID),  # the worker that parked it
    _int("claims"),
    _int("lost"),
    _int("mail"),
    _text("current", ""),
    _text("key", null=True),
    Column("parent_id", UUID),
    Column("root_id", UUID),
    _text("parent_path", null=True),
    Column("forked_from", UUID, ForeignKey(f"{SCHEMA}.run.id", ondelete="RESTRICT")),
    _int("forked_seq", None, null=True),
    Column("except_paths", ARRAY(Text)),
    Column("input", LargeBinary, nullable=False),
    Column("input_digest", LargeBinary, nullable=False),
    Column("metadata", JSONB, nullable=False, server_default=text("'{}'")),
    # The scalars of the input (plan/query.py): the input itself is bytes that only the codec can read.
    Column("searchable", JSONB, nullable=False, server_default=text("'{}'")),
    _text("trigger", "manual"),
    _text("error", null=True),
    _at("created_at", clock="now()"),
    _at("started_at", null=True),
    _at("ended_at", null=True),
    Column("asks", Boolean, nullable=False, server_default=text("false")),  # when it was let go of; see run_asks_ix
    CheckConstraint(f"status in ({', '.join(repr(s) for s in STATUSES)})", name="status"),
    # Updated in place at every turn: room on the page keeps the new version beside the old one.
    postgresql_with={"fillfactor": "70"},
)
Index("run_key_uq", run.c.namespace, run.c.flow, run.c.key, unique=True, postgresql_where=run.c.key.is_not(None))
Index(
    "run_claim_ix",
    run.c.queue,
    run.c.priority.desc(),
    run.c.due_at,
    run.c.id,
    postgresql_where=text("status in ('pending', 'waiting')"),
)
Index("run_owner_ix", run.c.worker_id, postgresql_where=run.c.worker_id.is_not(None))
# With what counts and summaries of a flow read: those of 50,000 runs of one among a million in 46 ms instead of 500.
Index(
    "run_flow_ix",
    run.c.namespace,
    run.c.flow,
    run.c.id,
    postgresql_include=["status", "started_at", "ended_at", "parent_id"],
)
# What few of many runs say is found at once: among a million in 1 ms instead of 600.
for _name in ("metadata", "searchable"):
    Index(
        f"run_{_name}_ix",
        run.c[_name],
        postgresql_using="gin",
        postgresql_ops={_name: "jsonb_path_ops"},
        postgresql_where=text(f"{_name} <> '{{}}'::jsonb"),
    )
# The inbox: parked runs that listen, and those that somebody had and nobody has. Sleeping ones are not in it, and no
# column of it changes where the others do not, so no update is dearer for it.
Index("run_asks_ix", run.c.namespace, run.c.id, postgresql_where=text(ASKS))
# Also all that counts and summaries read, so that they need no row: 100,000 runs in 60 ms instead of 140.
Index(
    "run_list_ix",
    run.c.namespace,
    run.c.status,
    run.c.id,
    postgresql_include=["started_at", "ended_at"],
    postgresql_where=run.c.parent_id.is_(None),
)
Index("run_forked_from_ix", run.c.forked_from, postgresql_where=run.c.forked_from.is_not(None))
Index("run_parent_ix", run.c.parent_id, postgresql_where=run.c.parent_id.is_not(None))

PAUSES = "kind in ('waiting', 'handed', 'attempt', 'dropped')"

journal = Table(
    "journal",
    metadata,
    # Widest alignment first: a small row is 110 bytes with its header. No foreign key: its check would lock the
    # run's row a second time per row, and gc deletes a run before its journal.
    Column("run_id", UUID, primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    _int("epoch", None),
    _at("at", clock="clock_timestamp()"),
    Column("attempt", SmallInteger, nullable=False, server_default=text("0")),
    Column("codec", SmallInteger, nullable=False, server_default=text("0")),
    _text("kind"),
    _text("path"),
    # Of a step's name and arguments; empty: none. Not null, because a bitmap of nulls would widen every row.
    Column("digest", LargeBinary, nullable=False, server_default=text("'\\x'")),
    Column("payload", LargeBinary, nullable=False),
)
Index(
    "journal_outcome_uq",
    journal.c.run_id,
    journal.c.path,
    unique=True,
    postgresql_where=text("kind = 'finished'"),
)
# Few rows of a journal are of these kinds: what waits for others, and what ends that other than by an outcome.
Index("journal_pause_ix", journal.c.run_id, journal.c.path, journal.c.seq, postgresql_where=text(PAUSES))

mailbox = Table(
    "mailbox",
    metadata,
    Column("run_id", UUID, primary_key=True),
    Column("id", Integer, primary_key=True, autoincrement=False),  # the run's mail counter at the delivery
    Column("token", UUID, nullable=False),  # made by the sender, so that sending again delivers once
    _text("kind"),
    _text("name", ""),
    Column("payload", LargeBinary, nullable=False),
    _at("at", clock="clock_timestamp()"),
    _int("consumed_seq", None, null=True),
    UniqueConstraint("run_id", "token"),
)

chunk = Table(
    "chunk",
    metadata,
    Column("run_id", UUID, primary_key=True),
    Column("n", BigInteger, primary_key=True, autoincrement=False),  # epoch << 32, and counted: `ports.Chunk`
    Column("stream", BigInteger, nullable=False),
    _text("path"),
    Column("attempt", Integer, nullable=False),
    _text("channel"),
    Column("bytes", LargeBinary, nullable=False),
    _at("at", clock="clock_timestamp()"),
)

output = Table(
    "output",
    metadata,
    Column("run_id", UUID, primary_key=True),
    Column("path", Text, primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("n", BigInteger, primary_key=True, autoincrement=False),  # epoch << 32, and counted: `plan.outputs.Output`
    _at("at"),
    Column("codec", SmallInteger, nullable=False, server_default=text("0")),
    _text("kind"),
    Column("payload", LargeBinary, nullable=False),
)

snapshot = Table(
    "snapshot",
    metadata,
    Column("run_id", UUID, primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("tag", Text, primary_key=True),
    Column("payload", LargeBinary, nullable=False),
    _at("at", clock="clock_timestamp()"),
)

blob = Table(
    "blob",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("bytes", LargeBinary, nullable=False),
    Column("size", BigInteger, nullable=False),
    _at("created_at", clock="now()"),
    _at("used_at", clock="now()"),
)

schedule = Table(
    "schedule",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    _text("flow"),
    _text("cron", null=True),
    Column("every_seconds", Double),
    _at("at", null=True),
    _text("timezone", "UTC"),
    Column("input", LargeBinary, nullable=False),
    _text("queue", "default"),
    _int("priority"),
    _text("fingerprint", null=True),  # null: each fire takes the newest definition
    _text("on_missed", "skip"),
    Column("window_seconds", Double, nullable=False),
    _text("overlap", "allow"),
    _at("paused_at", null=True),
    _at("next_at", null=True),  # null: it has no moment left
    _int("turn"),  # counts changes and fires: who fires names the turn that he saw
    _at("created_at", clock="now()"),
)
Index("schedule_next_ix", schedule.c.next_at, postgresql_where=schedule.c.paused_at.is_(None))

# No foreign key to the run: what became of a moment is remembered when its run is gone.
fire = Table(
    "fire",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("schedule", Text, primary_key=True),
    Column("fire_time", DateTime(timezone=True), primary_key=True),
    _text("verdict"),
    Column("run_id", UUID),
    _text("note", ""),
    _at("fired_at", clock="now()"),
)
Index(
    "fire_queued_ix", fire.c.namespace, fire.c.schedule, fire.c.fire_time, postgresql_where=text("verdict = 'queued'")
)

# A place under a limit; taken while its run is owned under that epoch, so a dead worker's are free by themselves.
permit = Table(
    "permit",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("run_id", UUID, nullable=False),
    _int("epoch", None),
    _at("taken_at"),
)

rate = Table(
    "rate",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    # The newest beginnings under a rate limit, past and promised, in order; as many as may be in one period.
    Column("times", ARRAY(DateTime(timezone=True)), nullable=False),
)

queue_limit = Table(
    "queue_limit",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("queue", Text, primary_key=True),
    _int("most", None),
)

cache_entry = Table(
    "cache_entry",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("key", LargeBinary, primary_key=True),
    Column("codec", SmallInteger, nullable=False, server_default=text("0")),
    Column("payload", LargeBinary, nullable=False),
    Column("run_id", UUID),
    _at("created_at", clock="now()"),
    _at("used_at", clock="now()"),
    _at("expires_at", null=True),
)
Index("cache_entry_expires_ix", cache_entry.c.expires_at, postgresql_where=cache_entry.c.expires_at.is_not(None))

budget = Table(
    "budget",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("usd", Double, nullable=False),  # spent, with what is set aside for calls under way
    Column("tokens", BigInteger, nullable=False),
    Column("calls", BigInteger, nullable=False),
)

reservation = Table(
    "reservation",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("budget", Text, primary_key=True),
    Column("run_id", UUID, primary_key=True),
    Column("path", Text, primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("usd", Double, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    _at("at", clock="now()"),
)
