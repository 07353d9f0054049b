"""What the job routes take and give."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

Status = Literal[
    "queued", "starting", "running", "pausing", "paused", "canceling",
    "succeeded", "failed", "canceled", "expired",
]  # fmt: skip
"""Clients must treat a word that they do not know as not final."""


class JobOut(BaseModel):
    """One job. The object alone says what is happening now."""

    id: str
    type: str
    name: str = Field(description="What people call it: the training's name or the prompt.")
    status: Status = Field(
        description="Final are succeeded, failed, canceled and expired. Take a word that you do not know for "
        "one that is not final."
    )
    status_reason: str | None
    phase: str | None
    progress: dict[str, Any]
    queue: dict[str, Any] | None
    input: dict[str, Any]
    output: dict[str, Any] | None
    metrics: dict[str, Any]
    error: dict[str, Any] | None = Field(description="Problem details (RFC 9457) of a failed job.")
    attempt: int
    priority: str
    labels: dict[str, Any]
    retry_of: str | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    heartbeat_at: datetime | None
    links: dict[str, str | None]


class JobList(BaseModel):
    items: list[JobOut]
    next_cursor: str | None


class LogOut(BaseModel):
    seq: int
    ts: datetime
    level: str
    message: str


class LogList(BaseModel):
    items: list[LogOut]
    next: int = Field(description="Give it as `after` to read on.")


class MetricsOut(BaseModel):
    """Curves with at most as many points as asked for; `points[i]` belongs to optimizer step `steps[i]`."""

    steps: list[int]
    series: dict[str, list[float]]
    total: int = Field(description="Points measured so far.")


class WebhookSecret(BaseModel):
    secret: str


class DeliveryOut(BaseModel):
    id: int
    event: str
    attempts: int
    delivered_at: datetime | None
    next_at: datetime | None
    last_error: str | None
