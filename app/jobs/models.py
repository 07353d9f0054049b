"""Tables of the queue. A job's row decides; messages and workers only follow it.

`fence` grows with each claim, so that a worker that lost its lease cannot write any more.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.core.db import Base, Created


class Job(Base, Created):
    __tablename__ = "job"
    __table_args__ = (
        Index(
            "ix_job_claim",
            "queue",
            text("priority DESC"),
            "turn",
            "seq",
            postgresql_where=text("status = 'queued'"),
        ),
        Index("ix_job_turn", "queue", "turn", postgresql_where=text("fence > 0 AND status <> 'queued'")),
        Index("ix_job_leased", "lease_until", postgresql_where=text("lease_until IS NOT NULL")),
        Index("ix_job_user_seq", "user_id", text("seq DESC")),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, Identity(), unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"))
    type: Mapped[str] = mapped_column(String(20))
    """What the API calls it: `training`, `generation`, `files`."""
    queue: Mapped[str] = mapped_column(String(20))
    title: Mapped[str] = mapped_column(String(200), default="")
    priority: Mapped[int] = mapped_column(Integer, default=0)
    turn: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    """The round in which it is served; written by `turns.py` alone."""

    status: Mapped[str] = mapped_column(String(20), default="queued")
    status_reason: Mapped[str | None] = mapped_column(String(40))
    phase: Mapped[str | None] = mapped_column(String(20))
    input: Mapped[dict[str, Any]]
    """The request with every default filled in, echoed by the API."""
    payload: Mapped[dict[str, Any]]
    """A `app.contract.jobs.Job`: all that the worker needs."""
    output: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    progress: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    metrics: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    labels: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    webhook: Mapped[dict[str, Any] | None]

    fence: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    event_no: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    """Reports of this fence that are recorded: one sent again after a broken commit changes nothing."""
    attempt: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    """Claims after a lost lease count; pause and resume do not."""
    lost: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    max_attempts: Mapped[int] = mapped_column(Integer, default=4)
    worker_id: Mapped[str | None] = mapped_column(String(80))
    lease_until: Mapped[datetime | None]
    wishes: Mapped[list[str]] = mapped_column(default=list, server_default=text("'[]'"))
    """`sample` and `save` that the next heartbeat hands over."""
    retry_of: Mapped[str | None] = mapped_column(String(40))
    resume_sha256: Mapped[str | None] = mapped_column(ForeignKey("blob.sha256"), index=True)
    resume_step: Mapped[int | None]

    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    heartbeat_at: Mapped[datetime | None]


class JobEvent(Base, Created):
    __tablename__ = "job_event"
    __table_args__ = (Index("ix_job_event_job_id_id", "job_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String(20))
    """`status`, `progress`, `metric`, `log`, `sample`, `checkpoint`, `picture`, `done`."""
    data: Mapped[dict[str, Any]]


class JobMetric(Base):
    __tablename__ = "job_metric"

    job_id: Mapped[str] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    loss: Mapped[float] = mapped_column(Float)
    lr: Mapped[float] = mapped_column(Float)


class Worker(Base):
    """A process that takes jobs, as it last said of itself."""

    __tablename__ = "worker"

    id: Mapped[str] = mapped_column(String(80), primary_key=True)
    queues: Mapped[list[str]]
    host: Mapped[str] = mapped_column(String(200), default="")
    device: Mapped[str] = mapped_column(String(100), default="")
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    job_id: Mapped[str | None] = mapped_column(String(40))
    facts: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    """Measured here: seconds a step by family, peak memory."""
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())


class IdempotencyKey(Base, Created):
    __tablename__ = "idempotency_key"
    __table_args__ = (UniqueConstraint("user_id", "route", "key"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"))
    route: Mapped[str] = mapped_column(String(100))
    key: Mapped[str] = mapped_column(String(255))
    body_hash: Mapped[str] = mapped_column(String(64))
    status: Mapped[int | None]
    response: Mapped[dict[str, Any] | None]
    location: Mapped[str | None] = mapped_column(Text)


class WebhookDelivery(Base, Created):
    """One notice to one address; sent by the reaper's tick, tried again with growing pauses."""

    __tablename__ = "webhook_delivery"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), index=True)
    event: Mapped[str] = mapped_column(String(20))
    url: Mapped[str | None] = mapped_column(Text)
    """Another address than the job's own, with `body`, which is sent as it is."""
    body: Mapped[dict[str, Any] | None]
    attempts: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[datetime | None]
    delivered_at: Mapped[datetime | None]
    last_error: Mapped[str | None] = mapped_column(Text)
