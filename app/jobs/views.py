"""A job as the API, webhooks and event streams show it: one self-contained JSON object."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from app.contract.states import LEASED, TERMINAL, JobState
from app.core.config import get_settings
from app.core.db import utcnow
from app.jobs import service, workers
from app.jobs.models import Job
from app.jobs.schemas import JobOut

PROGRESS: dict[str, Any] = {
    "fraction": 0.0, "current": 0, "total": None, "unit": None, "epoch": None, "epochs": None, "rate": None,
    "eta_seconds": None, "updated_at": None,
}  # fmt: skip
METRICS: dict[str, Any] = {
    "loss": None, "queue_seconds": None, "run_seconds": None, "peak_vram_bytes": None,
}  # fmt: skip
"""What was not measured is null, never missing."""


def job_out(db: Session, job: Job) -> dict[str, Any]:
    """One job, ready for JSON, with its place in the queue and when it may start."""
    db.flush()
    db.refresh(job)
    shown = _show(db, [job])[0]
    if shown.queue is not None and shown.queue["ahead"]:
        seconds = service.estimate_wait(db, job, shown.queue["ahead"])
        if seconds is not None:
            shown.queue["estimated_start_at"] = (utcnow() + timedelta(seconds=seconds)).isoformat()
    return shown.model_dump(mode="json")


def jobs_out(db: Session, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Many jobs, with as many queries as one."""
    return [shown.model_dump(mode="json") for shown in _show(db, jobs)]


def _show(db: Session, jobs: Sequence[Job]) -> list[JobOut]:
    places = service.queue_positions(db, jobs)
    served = workers.served_queues(db) if places else set()
    return [_out(job, places.get(job.id), job.queue in served) for job in jobs]


def _out(job: Job, place: int | None, served: bool) -> JobOut:
    waiting = job.status == JobState.QUEUED
    return JobOut(
        id=job.id,
        type=job.type,
        name=job.title,
        status=job.status,
        status_reason="no-worker" if waiting and not served else job.status_reason,
        phase=job.phase,
        progress=_progress(job),
        queue={"position": place, "ahead": place - 1, "estimated_start_at": None} if place else None,
        input=job.input,
        output=job.output,
        metrics=METRICS | job.metrics,
        error=_error(job),
        attempt=job.attempt,
        priority=_priority(job.priority),
        labels=job.labels,
        retry_of=job.retry_of,
        created_at=job.created_at,
        started_at=job.started_at,
        completed_at=job.completed_at,
        heartbeat_at=job.heartbeat_at,
        links=links(job),
    )


def _progress(job: Job) -> dict[str, Any]:
    """All fields from the first moment on; a job that succeeded has done all of it."""
    known = PROGRESS | job.progress
    if job.status != JobState.SUCCEEDED:
        return known | {"fraction": known["fraction"] or 0.0}
    steps = job.metrics.get("steps")
    done = {"current": steps, "total": steps, "unit": "step"} if steps else {}
    return known | done | {"fraction": 1.0, "eta_seconds": None}


def _error(job: Job) -> dict[str, Any] | None:
    """Problem details with an absolute `type`; a worker does not know under which address people come."""
    if job.error is None:
        return None
    site = get_settings().address
    return job.error | {
        "type": f"{site}/docs/errors#{job.error.get('code', 'failed')}",
        "instance": f"/api/v1/jobs/{job.id}",
    }


def _priority(priority: int) -> str:
    return "normal" if priority == 0 else "high" if priority > 0 else "low"


def links(job: Job) -> dict[str, str | None]:
    """Addresses below the server's own; None for what this kind of job does not know."""
    own = f"/api/v1/jobs/{job.id}"
    training = f"/api/v1/trainings/{job.id}" if job.type == "training" else None
    return {
        "self": own,
        "cancel": f"{own}/cancel",
        "pause": f"{own}/pause" if training else None,
        "resume": f"{own}/resume" if training else None,
        "retry": f"{own}/retry",
        "logs": f"{own}/logs",
        "events": f"{own}/events",
        "metrics": f"{own}/metrics" if training else None,
        "samples": f"{training}/samples" if training else None,
        "checkpoints": f"{training}/checkpoints" if training else None,
        "result": f"{training}/checkpoints" if training else own,
    }


def is_over(job: Job) -> bool:
    return JobState(job.status) in TERMINAL


def retry_after(job: Job) -> int | None:
    """Seconds after which asking again is worth it; None when nothing will change any more."""
    if is_over(job):
        return None
    return 2 if JobState(job.status) in LEASED else 5


def is_silent(job: Job, now: datetime | None = None) -> bool:
    """A job at work whose worker has not been heard of for longer than its lease."""
    if JobState(job.status) not in LEASED or job.heartbeat_at is None:
        return False
    return ((now or utcnow()) - job.heartbeat_at).total_seconds() > get_settings().queue.lease_seconds
