"""Archived models: their page stays, their files are not given out. Names of up to 200 characters."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

NAMED = ("model", "model_version")


def upgrade() -> None:
    op.add_column("model", sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True))
    for table in NAMED:
        op.alter_column(table, "name", type_=sa.String(200), existing_type=sa.String(100))


def downgrade() -> None:
    for table in NAMED:
        op.alter_column(
            table,
            "name",
            type_=sa.String(100),
            existing_type=sa.String(200),
            postgresql_using="left(name, 100)",
        )
    op.drop_column("model", "archived_at")
