"""Schedules and their fires, as they are used: no release has written to the tables that were planned before.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.drop_table("fire", schema="flowbook")
    op.drop_table("schedule", schema="flowbook")
    op.create_table(
        "schedule",
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("cron", sa.Text(), nullable=True),
        sa.Column("every_seconds", sa.Double(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("timezone", sa.Text(), server_default=sa.text("'UTC'"), nullable=False),
        sa.Column("input", sa.LargeBinary(), nullable=False),
        sa.Column("queue", sa.Text(), server_default=sa.text("'default'"), nullable=False),
        sa.Column("priority", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=True),
        sa.Column("on_missed", sa.Text(), server_default=sa.text("'skip'"), nullable=False),
        sa.Column("window_seconds", sa.Double(), nullable=False),
        sa.Column("overlap", sa.Text(), server_default=sa.text("'allow'"), nullable=False),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("turn", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "name", name=op.f("schedule_pk")),
        schema="flowbook",
    )
    op.create_index(
        "schedule_next_ix",
        "schedule",
        ["next_at"],
        schema="flowbook",
        postgresql_where=sa.text("paused_at IS NULL"),
    )
    op.create_table(
        "fire",
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.Column("fire_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("run_id", sa.UUID(), nullable=True),
        sa.Column("note", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("fired_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "schedule", "fire_time", name=op.f("fire_pk")),
        schema="flowbook",
    )
    op.create_index(
        "fire_queued_ix",
        "fire",
        ["namespace", "schedule", "fire_time"],
        schema="flowbook",
        postgresql_where=sa.text("verdict = 'queued'"),
    )


def downgrade() -> None:
    """Back."""
    op.drop_table("fire", schema="flowbook")
    op.drop_table("schedule", schema="flowbook")
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
        schema="flowbook",
        postgresql_where=sa.text("paused_at IS NULL"),
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
