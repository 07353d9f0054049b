"""Notices with an address and words of their own: what the callbacks of workflows are told."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0010"
down_revision: str | None = "0009"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("webhook_delivery", sa.Column("url", sa.Text(), nullable=True))
    op.add_column(
        "webhook_delivery", sa.Column("body", postgresql.JSONB(astext_type=sa.Text()), nullable=True)
    )


def downgrade() -> None:
    op.execute("DELETE FROM webhook_delivery WHERE body IS NOT NULL")
    op.drop_column("webhook_delivery", "body")
    op.drop_column("webhook_delivery", "url")
