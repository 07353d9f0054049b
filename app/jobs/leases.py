"""What a worker may do with a job that it holds: claim it, keep the lease, record, end it.

Each claim takes a new fence number. Every write locks the row and checks the fence, so a worker
that lost its lease (it slept, its network broke) changes nothing any more: LeaseLost.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, get_args

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.contract.events import Command, Finished, LogLine, Metric, Preview, Progress, ResumePoint
from app.contract.states import LEASED, JobState
from app.core.blobs import Blob, release_blobs
from app.core.config import get_settings
from app.core.db import utcnow
from app.jobs import service, turns
from app.jobs.models import Job, JobMetric
from app.jobs.turns import Warm


class LeaseLost(Exception):
    """Somebody else may hold the job now: stop at once and write nothing."""


@dataclass(frozen=True)
class Lease:
    """The right to work on one job. `event_no` counts what was recorded under this fence."""

    job_id: str
    fence: int


HELD = [state.value for state in LEASED]


def _lease_end() -> Any:
    return func.clock_timestamp() + timedelta(seconds=get_settings().queue.lease_seconds)


def claim(db: Session, worker_id: str, queues: Sequence[str], *, warm: Warm | None = None) -> Job | None:
    """Take the waiting job of `queues` whose turn it is, or None. Takes a new fence and a lease.

    Of jobs of the same round, those that need what the worker has `warm` come first.
    """
    priority, turn, seq = turns.ORDER
    query = (
        select(Job)
        .where(Job.status == JobState.QUEUED.value, Job.queue.in_(list(queues)))
        .order_by(priority, turn, *([warm.nearness().desc()] if warm else []), seq)
        .limit(1)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    job = db.scalar(query)
    if job is None:
        return None
    first = job.started_at is None
    service.change_state(db, job, JobState.STARTING)
    job.fence += 1
    job.event_no = 0
    job.attempt = job.lost + 1
    job.worker_id = worker_id
    job.phase = "preparing"
    _forget_preview(job)
    job.lease_until = _lease_end()
    job.heartbeat_at = func.now()
    if first:
        job.started_at = func.now()
    db.flush()
    if first:
        waited = job.started_at - job.created_at if job.started_at else timedelta()
        job.metrics = {**job.metrics, "queue_seconds": waited.total_seconds()}
    db.flush()
    forget_progress(db, job)
    return job


def hold(db: Session, lease: Lease) -> Job:
    """Lock the job's row for a write under the fence. Errors: LeaseLost."""
    query = (
        select(Job)
        .where(Job.id == lease.job_id, Job.fence == lease.fence, Job.status.in_(HELD))
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    job = db.scalar(query)
    if job is None:
        raise LeaseLost(lease.job_id)
    return job


def heartbeat(db: Session, lease: Lease) -> list[Command]:
    """Keep the lease for another period; answers what the user wishes of the job. Errors: LeaseLost."""
    job = hold(db, lease)
    job.lease_until = _lease_end()
    job.heartbeat_at = func.now()
    return take_wishes(job)


def take_wishes(job: Job) -> list[Command]:
    """Commands for the running job; `sample` and `save` are handed over once."""
    wishes: list[Command] = []
    if job.status == JobState.CANCELING:
        wishes.append("cancel")
    elif job.status == JobState.PAUSING:
        wishes.append("pause")
    if job.wishes:
        wishes += [wish for wish in get_args(Command) if wish in job.wishes]
        job.wishes = []
    return wishes


def is_new(job: Job, number: int) -> bool:
    """Is report `number` (from 1) of this fence not yet recorded? Counts it as recorded."""
    if number <= job.event_no:
        return False
    job.event_no = number
    return True


def start_running(db: Session, job: Job) -> None:
    """The job's process is at work; `job` comes from `hold`."""
    if job.status == JobState.STARTING:
        service.change_state(db, job, JobState.RUNNING)


def record_progress(db: Session, job: Job, progress: Progress | None, metrics: Sequence[Metric]) -> None:
    """The newest progress and all new points of the curves; `job` comes from `hold`."""
    if progress is not None:
        job.phase = progress.phase
        job.progress = _progress(job, progress)
        service.add_event(db, job, "progress", {"phase": progress.phase, **job.progress})
        service.notify_progress(db, job)
    if metrics:
        rows = [{"job_id": job.id, "step": m.step, "loss": m.loss, "lr": m.lr} for m in metrics]
        statement = insert(JobMetric).values(rows)
        # A resumed training repeats the steps after its last save: the newer run counts.
        new = {"loss": statement.excluded.loss, "lr": statement.excluded.lr}
        db.execute(statement.on_conflict_do_update(index_elements=["job_id", "step"], set_=new))
        job.metrics = {**job.metrics, "loss": metrics[-1].loss}
        points = [m.model_dump(include={"step", "loss", "lr"}) for m in metrics]
        service.add_event(db, job, "metric", {"points": points})


def record_preview(db: Session, job: Job, preview: Preview) -> None:
    """A newer look at the picture that is being drawn lies in storage; `n` counts them."""
    before = job.progress.get("preview") or {}
    job.progress = {**job.progress, "preview": {"n": before.get("n", 0) + 1, "index": preview.index}}
    service.add_event(db, job, "progress", {"phase": job.phase, **job.progress})


def _forget_preview(job: Job) -> None:
    """What another worker drew before, or what is done: its file is gone."""
    if "preview" in job.progress:
        job.progress = {name: value for name, value in job.progress.items() if name != "preview"}


def _progress(job: Job, p: Progress) -> dict[str, object]:
    """Progress as the API shows it.

    `fraction` is of the whole job: a training's samples and saves do not move it.
    """
    fraction = round(p.current / p.total, 4) if p.total else None
    if job.type == "training" and p.phase != "training":
        fraction = job.progress.get("fraction") or 0.0
    shown = p.model_dump(exclude={"kind", "phase"})
    seen = {"preview": job.progress["preview"]} if "preview" in job.progress else {}
    return {"fraction": fraction, **shown, **seen, "updated_at": utcnow().isoformat()}


def record_log(db: Session, job: Job, line: LogLine) -> None:
    service.add_event(db, job, "log", {"level": line.level, "message": line.message})


def record_resume(db: Session, job: Job, point: ResumePoint, blob: Blob) -> None:
    """The job can now go on from `point.step`; the save before is freed."""
    before = job.resume_sha256
    job.resume_sha256, job.resume_step = blob.sha256, point.step
    if before != blob.sha256:
        release_blobs(db, [before])


def finish(db: Session, job: Job, finished: Finished) -> None:
    """Write the job's own last word; `job` comes from `hold`."""
    figures = {
        "steps": finished.steps,
        "run_seconds": finished.run_seconds,
        "peak_vram_bytes": finished.peak_memory_bytes,
    }
    _forget_preview(job)
    job.metrics = {**job.metrics, **{name: value for name, value in figures.items() if value is not None}}
    match finished.outcome:
        case "failed":
            error = (finished.code or "failed", finished.detail or "The job failed.")
            service.change_state(db, job, JobState.FAILED, error=error)
        case "paused" if job.status != JobState.CANCELING:
            service.change_state(db, job, JobState.PAUSED)
        case "succeeded":
            service.change_state(db, job, JobState.SUCCEEDED)
        case _:
            service.change_state(db, job, JobState.CANCELED)


def give_back(db: Session, job: Job) -> None:
    """A worker that shuts down returns the job unharmed: no attempt is counted."""
    match JobState(job.status):
        case JobState.CANCELING:
            service.change_state(db, job, JobState.CANCELED)
        case JobState.PAUSING:
            service.change_state(db, job, JobState.PAUSED)
        case _:
            service.change_state(db, job, JobState.QUEUED, reason="worker-restarted")


def lose(db: Session, job: Job) -> None:
    """The job's worker or process died: again, or enough. `job` is locked by the caller."""
    job.lost += 1
    match JobState(job.status):
        case JobState.CANCELING:
            service.change_state(db, job, JobState.CANCELED)
        case JobState.PAUSING:
            job.lost -= 1
            service.change_state(db, job, JobState.PAUSED)
        case _ if job.lost >= job.max_attempts:
            times = "once" if job.lost == 1 else f"{job.lost} times"
            words = f"The worker was lost {times} while it did this job. Its log on the server may say why."
            service.change_state(db, job, JobState.FAILED, reason="worker-lost", error=("worker-lost", words))
        case _:
            service.change_state(db, job, JobState.QUEUED, reason="worker-lost")


def forget_progress(db: Session, job: Job) -> None:
    """Drop the points after the step from which a new attempt goes on."""
    db.execute(delete(JobMetric).where(JobMetric.job_id == job.id, JobMetric.step > (job.resume_step or 0)))
