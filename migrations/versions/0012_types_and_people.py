"""Lists of one type or of one person in every order, by index."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0012"
down_revision: str | None = "0011"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

INDEXES = {
    "ix_model_public_type_published": ("type", "published_at DESC"),
    "ix_model_public_type_pictures": ("type", "image_count DESC"),
    "ix_model_public_person": ("lower(username)", "published_at DESC"),
}


def upgrade() -> None:
    for name, columns in INDEXES.items():
        op.create_index(
            name,
            "model",
            [sa.literal_column(column) for column in (*columns, "id DESC")],
            postgresql_where=sa.text("visibility = 'public'"),
        )


def downgrade() -> None:
    for name in INDEXES:
        op.drop_index(name, table_name="model")
