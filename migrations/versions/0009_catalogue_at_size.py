"""Lists of a million models: stored counts and search words, words in use, indexes for orders and filters."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

PUBLIC = sa.text("visibility = 'public'")
NEW = (
    ("ix_model_public_pictures", "model", ["image_count DESC", "id DESC"], PUBLIC),
    ("ix_model_public_type", "model", ["type", "download_count DESC", "id DESC"], PUBLIC),
    ("ix_model_lower_username", "model", ["lower(username)"], None),
    ("ix_model_version_base_model", "model_version", ["base_model", "model_id"], None),
    ("ix_model_version_trained", "model_version", ["model_id"], sa.text("upload_type = 'Trained'")),
    ("ix_image_public_base", "image", ["base_model", "id DESC"], PUBLIC),
    ("ix_image_public_created", "image", ["created_at DESC"], PUBLIC),
    ("ix_image_public_username", "image", ["lower(username)", "id DESC"], PUBLIC),
    ("ix_term_kind_models", "term", ["kind", "models DESC", "name"], None),
    ("ix_term_kind_lower", "term", ["kind", "lower(name) text_pattern_ops"], None),
)
TEXTS = (("model", "name", "description"), ("image", "title", "prompt"))
USED = "ix_image_resource_model_version_id"


def upgrade() -> None:
    op.execute("create extension if not exists pg_trgm")
    op.add_column("model", sa.Column("image_count", sa.Integer(), server_default="0", nullable=False))
    op.create_table(
        "term",
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("name", sa.String(length=60), nullable=False),
        sa.Column("models", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", name=op.f("pk_term")),
    )
    for name, table, columns, where in NEW:
        op.create_index(name, table, [sa.literal_column(c) for c in columns], postgresql_where=where)
    op.drop_index("ix_model_search", table_name="model")
    for table, head, body in TEXTS:
        words = sa.Computed(f"to_tsvector('simple', {head} || ' ' || {body})", persisted=True)
        op.add_column(table, sa.Column("search", postgresql.TSVECTOR(), words, nullable=False))
        op.create_index(f"ix_{table}_search", table, ["search"], postgresql_using="gin")
    op.create_index(
        "ix_model_name_part",
        "model",
        ["name"],
        postgresql_using="gin",
        postgresql_ops={"name": "gin_trgm_ops"},
    )
    op.drop_index(USED, table_name="image_resource")
    op.create_index(USED, "image_resource", ["model_version_id", "image_id"])


def downgrade() -> None:
    op.drop_index(USED, table_name="image_resource")
    op.create_index(USED, "image_resource", ["model_version_id"])
    op.drop_index("ix_model_name_part", table_name="model")
    for table, _, _ in TEXTS:
        op.drop_index(f"ix_{table}_search", table_name=table)
        op.drop_column(table, "search")
    words: sa.ColumnElement[str] = sa.literal_column("to_tsvector('simple', name || ' ' || description)")
    op.create_index("ix_model_search", "model", [words], postgresql_using="gin")
    for name, table, _, _ in reversed(NEW):
        op.drop_index(name, table_name=table)
    op.drop_table("term")
    op.drop_column("model", "image_count")
