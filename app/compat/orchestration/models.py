"""A workflow and the jobs that it became. What is happening is never kept here: the jobs say it."""

from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.core.db import Base, Created


class Workflow(Base, Created):
    __tablename__ = "workflow"
    __table_args__ = (
        UniqueConstraint("user_id", "external_id"),
        Index("ix_workflow_user_seq", "user_id", text("seq DESC")),
        Index("ix_workflow_watched", "seq", postgresql_where=text("watched")),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, Identity(), unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"))
    external_id: Mapped[str | None] = mapped_column(String(255))
    """The client's own name for it: sent again, it is the same workflow."""
    body_hash: Mapped[str] = mapped_column(String(64))
    steps: Mapped[list[Any]]
    """As they came, with names. A training that waits for its pictures has `training`, the request for it;
    a step that ended without a job has `ended`: its status and words."""
    notes: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    """The client's `metadata`."""
    tags: Mapped[list[str]] = mapped_column(default=list, server_default=text("'[]'"))
    arguments: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    callbacks: Mapped[list[Any]] = mapped_column(default=list, server_default=text("'[]'"))
    told: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    """Which status of what the callbacks were told last."""
    watched: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    """Something is to be done when its jobs move on: a training to start, a callback to send."""


class WorkflowJob(Base):
    """Which job is part of which step; a job of the queue `files` brings a training's pictures."""

    __tablename__ = "workflow_job"

    job_id: Mapped[str] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    workflow_id: Mapped[str] = mapped_column(ForeignKey("workflow.id", ondelete="CASCADE"), index=True)
    step: Mapped[int]
    position: Mapped[int]
    properties: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    """Of version 1: what the client finds its jobs by."""
