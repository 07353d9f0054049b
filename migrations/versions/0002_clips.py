"""Data sets of clips: what is known of a clip, and its strip of frames."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("dataset_item", sa.Column("clip", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("dataset_item", sa.Column("strip_sha256", sa.String(length=64), nullable=True))
    op.create_foreign_key(
        op.f("fk_dataset_item_strip_sha256_blob"), "dataset_item", "blob", ["strip_sha256"], ["sha256"]
    )
    op.create_index(op.f("ix_dataset_item_strip_sha256"), "dataset_item", ["strip_sha256"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_dataset_item_strip_sha256"), table_name="dataset_item")
    op.drop_constraint(op.f("fk_dataset_item_strip_sha256_blob"), "dataset_item", type_="foreignkey")
    op.drop_column("dataset_item", "strip_sha256")
    op.drop_column("dataset_item", "clip")
