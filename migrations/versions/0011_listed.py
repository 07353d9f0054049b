"""Lists of who has drafts too: public models by the date that drafts have as well."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0011"
down_revision: str | None = "0010"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

NAME = "ix_model_public_listed"


def upgrade() -> None:
    op.create_index(
        NAME,
        "model",
        [sa.literal_column("coalesce(published_at, created_at) DESC"), sa.literal_column("id DESC")],
        postgresql_where=sa.text("visibility = 'public'"),
    )


def downgrade() -> None:
    op.drop_index(NAME, table_name="model")
