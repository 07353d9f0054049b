"""Which bases a model has published versions for, by index alone: lists ask it of model after model."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0016"
down_revision: str | None = "0015"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

NAME = "ix_model_version_told"


def upgrade() -> None:
    published = sa.text("status = 'Published'")
    op.create_index(NAME, "model_version", ["model_id", "base_model"], postgresql_where=published)


def downgrade() -> None:
    op.drop_index(NAME, table_name="model_version")
