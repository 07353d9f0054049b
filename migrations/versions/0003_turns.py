"""Turns: waiting jobs are served in rounds, one of each person a round."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

QUEUED = sa.text("status = 'queued'")
WAITING = """
    update job set turn = place.turn from (
        select id, row_number() over (partition by queue, user_id order by priority desc, seq) - 1 as turn
        from job where status = 'queued'
    ) as place where place.id = job.id
"""


def upgrade() -> None:
    op.add_column("job", sa.Column("turn", sa.BigInteger(), server_default="0", nullable=False))
    op.execute(WAITING)
    op.drop_index("ix_job_claim", table_name="job")
    op.create_index(
        "ix_job_claim",
        "job",
        ["queue", sa.literal_column("priority DESC"), "turn", "seq"],
        postgresql_where=QUEUED,
    )
    op.create_index(
        "ix_job_turn", "job", ["queue", "turn"], postgresql_where=sa.text("fence > 0 AND status <> 'queued'")
    )


def downgrade() -> None:
    op.drop_index("ix_job_turn", table_name="job")
    op.drop_index("ix_job_claim", table_name="job")
    op.create_index(
        "ix_job_claim", "job", ["queue", sa.literal_column("priority DESC"), "seq"], postgresql_where=QUEUED
    )
    op.drop_column("job", "turn")
