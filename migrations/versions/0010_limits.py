"""Places under limits, rates and limits of queues; the slots that were planned for them were never used.

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.drop_table("queue_slot", schema="flowbook")
    op.create_table(
        "permit",
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("n", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("run_id", sa.UUID(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "name", "n", name=op.f("permit_pk")),
        schema="flowbook",
    )
    op.create_table(
        "rate",
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("times", sa.ARRAY(sa.DateTime(timezone=True)), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "name", name=op.f("rate_pk")),
        schema="flowbook",
    )
    op.create_table(
        "queue_limit",
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("most", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "queue", name=op.f("queue_limit_pk")),
        schema="flowbook",
    )


def downgrade() -> None:
    """Back."""
    op.drop_table("queue_limit", schema="flowbook")
    op.drop_table("rate", schema="flowbook")
    op.drop_table("permit", schema="flowbook")
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
