"""Streamed text: a chunk has one number per run, belongs to a stream, and has a channel. Nothing was ever in it before.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.drop_table("chunk", schema="flowbook")
    op.create_table(
        "chunk",
        sa.Column("run_id", sa.UUID(), nullable=False),
        sa.Column("n", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("stream", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("bytes", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "n", name=op.f("chunk_pk")),
        schema="flowbook",
    )


def downgrade() -> None:
    """Back."""
    op.drop_table("chunk", schema="flowbook")
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
