"""Runs can be found: by what their input says, and by how they came to be; lists and summaries have an index.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward. Runs from before are not found by their input: what it was is known to the codec alone."""
    op.add_column(
        "run", sa.Column("trigger", sa.Text(), server_default=sa.text("'manual'"), nullable=False), schema="flowbook"
    )
    op.add_column(
        "run",
        sa.Column("searchable", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        schema="flowbook",
    )
    op.execute("update flowbook.run set trigger = 'child' where parent_id is not null")
    op.execute("update flowbook.run set trigger = 'fork' where forked_from is not null")
    op.create_index(
        "run_list_ix",
        "run",
        ["namespace", "status", "id"],
        schema="flowbook",
        postgresql_include=["started_at", "ended_at"],
        postgresql_where=sa.text("parent_id is null"),
    )


def downgrade() -> None:
    """Back."""
    op.drop_index("run_list_ix", "run", schema="flowbook")
    op.drop_column("run", "searchable", schema="flowbook")
    op.drop_column("run", "trigger", schema="flowbook")
