"""Workflows of Civitai's orchestration API, and which jobs they became."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def _json(name: str, default: str | None = None) -> sa.Column[object]:
    kept = sa.text(f"'{default}'") if default else None
    return sa.Column(name, postgresql.JSONB(astext_type=sa.Text()), server_default=kept, nullable=False)


def upgrade() -> None:
    op.create_table(
        "workflow",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("external_id", sa.String(length=255), nullable=True),
        sa.Column("body_hash", sa.String(length=64), nullable=False),
        _json("steps"),
        _json("notes", "{}"),
        _json("tags", "[]"),
        _json("arguments", "{}"),
        _json("callbacks", "[]"),
        _json("told", "{}"),
        sa.Column("watched", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user.id"], name=op.f("fk_workflow_user_id_user"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workflow")),
        sa.UniqueConstraint("seq", name=op.f("uq_workflow_seq")),
        sa.UniqueConstraint("user_id", "external_id", name=op.f("uq_workflow_user_id_external_id")),
    )
    op.create_index("ix_workflow_user_seq", "workflow", ["user_id", sa.literal_column("seq DESC")])
    op.create_index("ix_workflow_watched", "workflow", ["seq"], postgresql_where=sa.text("watched"))
    op.create_table(
        "workflow_job",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("workflow_id", sa.String(length=40), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        _json("properties", "{}"),
        sa.ForeignKeyConstraint(
            ["job_id"], ["job.id"], name=op.f("fk_workflow_job_job_id_job"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["workflow_id"],
            ["workflow.id"],
            name=op.f("fk_workflow_job_workflow_id_workflow"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_workflow_job")),
    )
    op.create_index(op.f("ix_workflow_job_workflow_id"), "workflow_job", ["workflow_id"], unique=False)


def downgrade() -> None:
    op.drop_table("workflow_job")
    op.drop_table("workflow")
