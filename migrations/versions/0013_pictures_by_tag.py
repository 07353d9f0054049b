"""Pictures by the numbers of their tags, by index."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0013"
down_revision: str | None = "0012"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

NAME = "ix_image_public_tags"
FILL = """
update image set tag_numbers = array(
    select ('x' || left(md5(tag), 7))::bit(28)::integer from jsonb_array_elements_text(image.tags) as tag
) where image.tags <> '[]'
"""


def upgrade() -> None:
    op.add_column(
        "image",
        sa.Column(
            "tag_numbers", postgresql.ARRAY(sa.Integer), nullable=False, server_default=sa.text("'{}'")
        ),
    )
    op.execute(FILL)
    op.create_index(
        NAME,
        "image",
        ["tag_numbers"],
        postgresql_using="gin",
        postgresql_where=sa.text("visibility = 'public'"),
    )


def downgrade() -> None:
    op.drop_index(NAME, table_name="image")
    op.drop_column("image", "tag_numbers")
