"""Lists among a million runs: summaries of a flow from its index, and runs by their metadata and input from theirs.

Revision ID: 0011
Revises: 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

CONTENTS = {"run_metadata_ix": "metadata", "run_searchable_ix": "searchable"}


def upgrade() -> None:
    """Forward."""
    op.drop_index("run_flow_ix", "run", schema="flowbook")
    op.create_index(
        "run_flow_ix",
        "run",
        ["namespace", "flow", "id"],
        schema="flowbook",
        postgresql_include=["status", "started_at", "ended_at", "parent_id"],
    )
    for name, column in CONTENTS.items():
        op.create_index(
            name,
            "run",
            [column],
            schema="flowbook",
            postgresql_using="gin",
            postgresql_ops={column: "jsonb_path_ops"},
            postgresql_where=sa.text(f"{column} <> '{{}}'::jsonb"),
        )


def downgrade() -> None:
    """Back."""
    for name in CONTENTS:
        op.drop_index(name, "run", schema="flowbook")
    op.drop_index("run_flow_ix", "run", schema="flowbook")
    op.create_index("run_flow_ix", "run", ["namespace", "flow", "id"], schema="flowbook")
