"""Models by their very name: a search shows those first."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0014"
down_revision: str | None = "0013"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

NAME = "ix_model_lower_name"


def upgrade() -> None:
    op.create_index(NAME, "model", [sa.text("lower(name)")])


def downgrade() -> None:
    op.drop_index(NAME, table_name="model")
