"""Tokens keep what the program that uses them has chosen, such as its model."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    empty = sa.text("'{}'")
    op.add_column(
        "api_token", sa.Column("preferences", postgresql.JSONB(), server_default=empty, nullable=False)
    )


def downgrade() -> None:
    op.drop_column("api_token", "preferences")
