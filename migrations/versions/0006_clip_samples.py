"""Trainings on clips: samples that are clips, epochs of two files."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

FILES = (("training_checkpoint", "low_noise_sha256"), ("training_sample", "poster_sha256"))


def upgrade() -> None:
    for table, column in FILES:
        op.add_column(table, sa.Column(column, sa.String(length=64), nullable=True))
        op.create_foreign_key(op.f(f"fk_{table}_{column}_blob"), table, "blob", [column], ["sha256"])
        op.create_index(op.f(f"ix_{table}_{column}"), table, [column], unique=False)
    op.add_column(
        "training_checkpoint", sa.Column("low_noise", postgresql.JSONB(astext_type=sa.Text()), nullable=True)
    )
    op.add_column("training_sample", sa.Column("frames", sa.Integer(), server_default="1", nullable=False))
    op.add_column("training_sample", sa.Column("fps", sa.Float(), nullable=True))


def downgrade() -> None:
    op.drop_column("training_sample", "fps")
    op.drop_column("training_sample", "frames")
    op.drop_column("training_checkpoint", "low_noise")
    for table, column in FILES:
        op.drop_index(op.f(f"ix_{table}_{column}"), table_name=table)
        op.drop_constraint(op.f(f"fk_{table}_{column}_blob"), table, type_="foreignkey")
        op.drop_column(table, column)
