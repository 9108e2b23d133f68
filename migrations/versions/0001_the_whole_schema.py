"""The whole schema, from the first day on: also what later milestones fill.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = (
    "blob",
    "cache_entry",
    "chunk",
    "definition",
    "fire",
    "journal",
    "mailbox",
    "queue_slot",
    "run",
    "schedule",
    "snapshot",
    "worker",
)
COMPRESSED = (
    ("journal", "payload"),
    ("run", "input"),
    ("blob", "bytes"),
    ("snapshot", "payload"),
    ("mailbox", "payload"),
)


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "blob",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("bytes", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("blob_pk")),
        schema="flowbook",
    )
    op.create_table(
        "cache_entry",
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("codec", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("run_id", sa.UUID(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("namespace", "key", name=op.f("cache_entry_pk")),
        schema="flowbook",
    )
    op.create_index(
        "cache_entry_expires_ix",
        "cache_entry",
        ["expires_at"],
        unique=False,
        schema="flowbook",
        postgresql_where=sa.text("expires_at IS NOT NULL"),
    )
    op.create_table(
        "chunk",
        sa.Column("run_id", sa.UUID(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("n", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("bytes", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "path", "attempt", "n", name=op.f("chunk_pk")),
        schema="flowbook",
    )
    op.create_table(
        "definition",
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("spec", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("sources", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("signature", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "flow", "fingerprint", name=op.f("definition_pk")),
        sa.UniqueConstraint("namespace", "flow", "version", name=op.f("definition_namespace_flow_version_uq")),
        schema="flowbook",
    )
    op.create_table(
        "fire",
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("run_id", sa.UUID(), nullable=True),
        sa.Column("fired_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "schedule", "due_at", name=op.f("fire_pk")),
        schema="flowbook",
    )
    op.create_table(
        "journal",
        sa.Column("run_id", sa.UUID(), nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("codec", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), server_default=sa.text("'\\x'"), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "seq", name=op.f("journal_pk")),
        schema="flowbook",
    )
    op.create_index(
        "journal_outcome_uq",
        "journal",
        ["run_id", "path"],
        unique=True,
        schema="flowbook",
        postgresql_where=sa.text("kind = 'finished'"),
    )
    op.create_table(
        "mailbox",
        sa.Column("run_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("token", sa.UUID(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("consumed_seq", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "id", name=op.f("mailbox_pk")),
        sa.UniqueConstraint("run_id", "token", name=op.f("mailbox_run_id_token_uq")),
        schema="flowbook",
    )
    op.create_table(
        "queue_slot",
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("n", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("run_id", sa.UUID(), nullable=True),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("queue", "n", name=op.f("queue_slot_pk")),
        schema="flowbook",
    )
    op.create_index(
        "queue_slot_run_ix",
        "queue_slot",
        ["run_id"],
        unique=True,
        schema="flowbook",
        postgresql_where=sa.text("run_id IS NOT NULL"),
    )
    op.create_table(
        "run",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), server_default=sa.text("'default'"), nullable=False),
        sa.Column("priority", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("'pending'"), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("epoch", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("worker_id", sa.UUID(), nullable=True),
        sa.Column("home_id", sa.UUID(), nullable=True),
        sa.Column("claims", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("lost", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("mail", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("current", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("parent_id", sa.UUID(), nullable=True),
        sa.Column("root_id", sa.UUID(), nullable=True),
        sa.Column("parent_path", sa.Text(), nullable=True),
        sa.Column("forked_from", sa.UUID(), nullable=True),
        sa.Column("forked_seq", sa.Integer(), nullable=True),
        sa.Column("except_paths", postgresql.ARRAY(sa.Text()), nullable=True),
        sa.Column("input", sa.LargeBinary(), nullable=False),
        sa.Column("input_digest", sa.LargeBinary(), nullable=False),
        sa.Column("metadata", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status in ('pending', 'running', 'waiting', 'completed', 'failed', 'cancelled', 'superseded')",
            name=op.f("run_status_ck"),
        ),
        sa.ForeignKeyConstraint(
            ["forked_from"], ["flowbook.run.id"], name=op.f("run_forked_from_fk"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("run_pk")),
        schema="flowbook",
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index(
        "run_claim_ix",
        "run",
        ["queue", sa.literal_column("priority DESC"), "due_at", "id"],
        unique=False,
        schema="flowbook",
        postgresql_where=sa.text("status in ('pending', 'waiting')"),
    )
    op.create_index("run_flow_ix", "run", ["namespace", "flow", "id"], unique=False, schema="flowbook")
    op.create_index(
        "run_forked_from_ix",
        "run",
        ["forked_from"],
        unique=False,
        schema="flowbook",
        postgresql_where=sa.text("forked_from IS NOT NULL"),
    )
    op.create_index(
        "run_key_uq",
        "run",
        ["namespace", "flow", "key"],
        unique=True,
        schema="flowbook",
        postgresql_where=sa.text("key IS NOT NULL"),
    )
    op.create_index(
        "run_owner_ix",
        "run",
        ["worker_id"],
        unique=False,
        schema="flowbook",
        postgresql_where=sa.text("worker_id IS NOT NULL"),
    )
    op.create_index(
        "run_parent_ix",
        "run",
        ["parent_id"],
        unique=False,
        schema="flowbook",
        postgresql_where=sa.text("parent_id IS NOT NULL"),
    )
    op.create_table(
        "schedule",
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("cron", sa.Text(), nullable=True),
        sa.Column("every_seconds", sa.Double(), nullable=True),
        sa.Column("timezone", sa.Text(), server_default=sa.text("'UTC'"), nullable=False),
        sa.Column("input", sa.LargeBinary(), nullable=False),
        sa.Column("queue", sa.Text(), server_default=sa.text("'default'"), nullable=False),
        sa.Column("catch_up", sa.Text(), server_default=sa.text("'skip'"), nullable=False),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "name", name=op.f("schedule_pk")),
        schema="flowbook",
    )
    op.create_index(
        "schedule_next_ix",
        "schedule",
        ["next_at"],
        unique=False,
        schema="flowbook",
        postgresql_where=sa.text("paused_at IS NULL"),
    )
    op.create_table(
        "snapshot",
        sa.Column("run_id", sa.UUID(), nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "seq", "tag", name=op.f("snapshot_pk")),
        schema="flowbook",
    )
    op.create_table(
        "worker",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("lock_key", sa.BigInteger(), nullable=False),
        sa.Column("lease_seconds", sa.Double(), nullable=False),
        sa.Column("locked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("alive_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("serves", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("worker_pk")),
        schema="flowbook",
    )
    # lz4 halves the time of a write of 10 kB; a server built without it keeps pglz.
    for table, column in COMPRESSED:
        op.execute(
            f"""
            do $$ begin
                alter table flowbook.{table} alter column {column} set compression lz4;
            exception when others then null;
            end $$
            """
        )


def downgrade() -> None:
    """Back."""
    for table in TABLES:
        op.drop_table(table, schema="flowbook")
