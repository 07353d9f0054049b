"""Reading what a job has said: events after a place, log lines, curves."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.errors import FieldError, Invalid
from app.jobs.models import Job, JobEvent, JobMetric

SERIES = ("loss", "lr")
STATES = {
    "queued": "Waiting in the queue",
    "starting": "A worker has taken the job",
    "running": "Running",
    "pausing": "Asked to pause",
    "paused": "Paused",
    "canceling": "Asked to stop",
    "succeeded": "Done",
    "failed": "Failed",
    "canceled": "Stopped",
    "expired": "Expired",
}


def list_events(db: Session, job: Job, *, after: int = 0, limit: int = 200) -> list[JobEvent]:
    """Events with an id above `after`, oldest first."""
    query = select(JobEvent).where(JobEvent.job_id == job.id, JobEvent.id > after)
    return list(db.scalars(query.order_by(JobEvent.id).limit(limit)))


def list_logs(db: Session, job: Job, *, after: int = 0, limit: int = 500) -> list[JobEvent]:
    """Log lines and state changes, oldest first."""
    query = select(JobEvent).where(
        JobEvent.job_id == job.id, JobEvent.id > after, JobEvent.kind.in_(("log", "status"))
    )
    return list(db.scalars(query.order_by(JobEvent.id).limit(limit)))


def log_line(event: JobEvent) -> dict[str, Any]:
    """One event as a log line."""
    if event.kind == "log":
        level, message = event.data.get("level", "info"), event.data.get("message", "")
    else:
        reason = event.data.get("reason")
        words = STATES.get(event.data["status"], event.data["status"])
        level, message = "info", f"{words} ({reason})." if reason else f"{words}."
    return {"seq": event.id, "ts": event.created_at, "level": level, "message": message}


def log_text(events: Sequence[JobEvent]) -> str:
    """Log lines for reading: time, level, message."""
    return "".join(_text_line(log_line(event)) for event in events)


def _text_line(line: dict[str, Any]) -> str:
    moment: datetime = line["ts"]
    return f"{moment:%Y-%m-%d %H:%M:%S} {line['level'].upper():7} {line['message']}\n"


def get_metrics(db: Session, job: Job, *, series: Sequence[str], points: int) -> dict[str, Any]:
    """Curves as at most `points` averages over equally long runs of steps.

    Errors: Invalid for an unknown series.
    """
    if unknown := [name for name in series if name not in SERIES]:
        words = f"Known series: {', '.join(SERIES)}."
        raise Invalid(words, [FieldError("#/series", f"unknown: {', '.join(unknown)}", "enum")])
    mine = JobMetric.job_id == job.id
    total = db.scalar(select(func.count()).where(mine)) or 0
    size = max(1, -(-total // points))
    numbered = select(JobMetric, (func.row_number().over(order_by=JobMetric.step) - 1).label("n"))
    rows = numbered.where(mine).subquery()
    bucket = rows.c.n // size
    averages = [func.avg(rows.c[name]).label(name) for name in series]
    query = select(func.max(rows.c.step).label("step"), *averages).group_by(bucket).order_by(bucket)
    found = db.execute(query).all()
    return {
        "steps": [row.step for row in found],
        "series": {name: [getattr(row, name) for row in found] for name in series},
        "total": total,
    }
