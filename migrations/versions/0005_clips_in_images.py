"""Clips among the pictures: how many frames, how fast, and the picture that stands for them."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("image", sa.Column("poster_sha256", sa.String(length=64), nullable=True))
    op.add_column("image", sa.Column("frames", sa.Integer(), server_default=sa.text("1"), nullable=False))
    op.add_column("image", sa.Column("fps", sa.Float(), nullable=True))
    op.create_foreign_key(op.f("fk_image_poster_sha256_blob"), "image", "blob", ["poster_sha256"], ["sha256"])
    op.create_index(op.f("ix_image_poster_sha256"), "image", ["poster_sha256"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_image_poster_sha256"), table_name="image")
    op.drop_constraint(op.f("fk_image_poster_sha256_blob"), "image", type_="foreignkey")
    op.drop_column("image", "fps")
    op.drop_column("image", "frames")
    op.drop_column("image", "poster_sha256")
