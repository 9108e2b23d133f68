"""The inbox: which parked runs ask somebody, and where in a journal that stands.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.add_column(
        "run", sa.Column("asks", sa.Boolean(), server_default=sa.text("false"), nullable=False), schema="flowbook"
    )
    # Who parked before may ask: the inbox looks, and finds out which of them only sleep.
    op.execute("update flowbook.run set asks = true where status = 'waiting'")
    op.create_index(
        "run_asks_ix",
        "run",
        ["namespace", "id"],
        unique=False,
        schema="flowbook",
        postgresql_where=sa.text("status = 'waiting' and asks or status = 'pending' and claims > 0"),
    )
    op.create_index(
        "journal_pause_ix",
        "journal",
        ["run_id", "path", "seq"],
        unique=False,
        schema="flowbook",
        postgresql_where=sa.text("kind in ('waiting', 'handed', 'attempt', 'dropped')"),
    )


def downgrade() -> None:
    """Back."""
    op.drop_index("journal_pause_ix", table_name="journal", schema="flowbook")
    op.drop_index("run_asks_ix", table_name="run", schema="flowbook")
    op.drop_column("run", "asks", schema="flowbook")
