"""All hashes of a file in one value, beside the rows by which files are found."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0015"
down_revision: str | None = "0014"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

FILL = """
update model_file set hash_values = found.hash_values
from (select file_id, jsonb_object_agg(kind, value) as hash_values from file_hash group by file_id) found
where found.file_id = model_file.id
"""


def upgrade() -> None:
    empty = sa.text("'{}'")
    op.add_column(
        "model_file", sa.Column("hash_values", postgresql.JSONB, nullable=False, server_default=empty)
    )
    op.execute(FILL)


def downgrade() -> None:
    op.drop_column("model_file", "hash_values")
