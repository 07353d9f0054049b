"""Words of the models that were fetched often: the best known of what a search finds are among them."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0017"
down_revision: str | None = "0016"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

NAME = "ix_model_search_fetched"


def upgrade() -> None:
    often = sa.text("download_count >= 100")
    op.create_index(NAME, "model", ["search"], postgresql_using="gin", postgresql_where=often)


def downgrade() -> None:
    op.drop_index(NAME, table_name="model")
