"""The queue's truth: every change of a job's state is made here, checked against ALLOWED.

Users enqueue, list, cancel, pause, resume, retry and delete; what a worker may do with a
job that it holds is in `leases.py`, what happens to jobs that nobody holds in `reaper.py`.
The database's clock is the only one.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Table, delete, func, select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.states import ALLOWED, LEASED, TERMINAL, JobState
from app.core.blobs import Blob, release_blobs
from app.core.config import get_settings
from app.core.db import Base, after_commit
from app.core.errors import Conflict, FieldError, Invalid, NotFound, RateLimited, Unauthorized
from app.core.ids import new_id
from app.core.paging import Page, keyset_page
from app.jobs import turns
from app.jobs.models import Job, JobEvent, WebhookDelivery
from app.jobs.targets import TargetRefused, check_address, private_allowed
from app.jobs.turns import count_ahead as count_ahead
from app.jobs.turns import estimate_wait as estimate_wait
from app.jobs.turns import queue_positions as queue_positions
from app.jobs.wakeups import wake

TYPES = ("training", "generation", "files")
KNOWN_TYPES = (*TYPES, "caption", "upscale", "export")
"""Those of the last three that a list is asked for are none yet."""
PAUSABLE = ("training",)
WISHES = ("sample", "save")
PROGRESS_PAUSE = timedelta(seconds=2)
TITLES = {
    "worker-lost": "The worker was lost",
    "out-of-memory": "Not enough memory",
    "training-diverged": "The training went wrong",
    "adapter-empty": "It learned nothing",
    "base-model-missing": "The base model is missing",
    "disk-full": "The disk is full",
}

RetryHook = Callable[[Session, Job, Job], None]
_retry_hooks: dict[str, RetryHook] = {}


def on_retry(type: str, hook: RetryHook) -> None:
    """Let a domain copy its own rows when a job of `type` is tried again: `hook(db, old, new)`."""
    _retry_hooks[type] = hook


def can_see_job(viewer: User | None, job: Job) -> bool:
    return viewer is not None and (viewer.is_admin or viewer.id == job.user_id)


def can_steer_job(viewer: User | None, job: Job) -> bool:
    """Cancel, pause, resume, retry, delete: the owner and admins."""
    return can_see_job(viewer, job)


def add_event(db: Session, job: Job, kind: str, data: dict[str, Any]) -> None:
    db.add(JobEvent(job_id=job.id, kind=kind, data=data))


def notify(db: Session, job: Job, event: str) -> None:
    """Note a webhook notice if the job asked for this event."""
    if job.webhook and event in (job.webhook.get("events") or (event,)):
        db.add(WebhookDelivery(job_id=job.id, event=event, next_at=func.now()))


def notify_progress(db: Session, job: Job) -> None:
    """At most one notice of progress in two seconds."""
    if job.webhook and "progress" in job.webhook["events"]:
        recent = WebhookDelivery.created_at > func.clock_timestamp() - PROGRESS_PAUSE
        mine = select(WebhookDelivery.id).where(WebhookDelivery.job_id == job.id, recent)
        if not db.scalar(select(mine.where(WebhookDelivery.event == "progress").exists())):
            notify(db, job, "progress")
            db.flush()


def problem(code: str, detail: str, job_id: str) -> dict[str, Any]:
    """The problem-details object of a failed job."""
    title = TITLES.get(code, "The job failed")
    return {
        "type": f"/docs/errors#{code}",
        "title": title,
        "status": 500,
        "detail": detail,
        "code": code,
        "job_id": job_id,
    }


def change_state(
    db: Session, job: Job, to: JobState, *, reason: str | None = None, error: tuple[str, str] | None = None
) -> None:
    """Move a job: the only place that does. `error` is (code, words).

    Errors: Conflict for a move that is not in ALLOWED.
    """
    was = JobState(job.status)
    if to not in ALLOWED[was]:
        raise Conflict(f"This job is {was} and cannot become {to}.", code="job-state", job_id=job.id)
    if was is JobState.QUEUED and to is not JobState.STARTING:
        turns.leave(db, job)
    elif was is JobState.PAUSED and to is JobState.QUEUED:
        turns.join(db, job)
    job.status = to.value
    job.status_reason = reason
    job.error = problem(*error, job.id) if error else None
    if to not in LEASED:
        job.lease_until = job.worker_id = job.phase = None
        job.wishes = []
    add_event(db, job, "status", {"status": to.value, "reason": reason})
    if to is JobState.RUNNING:
        notify(db, job, "started")
    if to is JobState.QUEUED:
        after_commit(db, partial(wake, job.queue))
    if to in TERMINAL:
        _end(db, job)
    db.flush()


def _end(db: Session, job: Job) -> None:
    """What every end has in common: the time, the last event, and no replay of steps that nobody needs."""
    job.completed_at = func.now()
    db.flush()
    db.execute(delete(JobEvent).where(JobEvent.job_id == job.id, JobEvent.kind.in_(("progress", "metric"))))
    add_event(db, job, "done", {"status": job.status, "error": job.error})
    notify(db, job, job.status)
    if job.resume_sha256 and job.status == JobState.SUCCEEDED:
        freed, job.resume_sha256, job.resume_step = job.resume_sha256, None, None
        release_blobs(db, [freed])


def enqueue(
    db: Session,
    user: User,
    *,
    type: str,
    queue: str,
    title: str,
    input: dict[str, Any],
    payload: dict[str, Any],
    priority: int = 0,
    webhook: dict[str, Any] | None = None,
    labels: dict[str, Any] | None = None,
    retry_of: str | None = None,
) -> Job:
    """Put a job into the queue, in the caller's transaction; the wake-up goes out after its commit.

    `payload` is a dumped `app.contract.jobs.Job`.
    Errors: RateLimited `queue-full`, Invalid for a bad webhook.
    """
    check_queue_room(db, user, type)
    job = Job(
        id=new_id("job"), user_id=user.id, type=type, queue=queue, title=title[:200], input=input,
        payload=payload, priority=priority, webhook=check_webhook(db, webhook), labels=labels or {},
        retry_of=retry_of, max_attempts=get_settings().queue.max_attempts, status=JobState.QUEUED.value,
        turn=turns.next_turn(db, user.id, queue),
    )  # fmt: skip
    db.add(job)
    db.flush()
    add_event(db, job, "status", {"status": job.status, "reason": None})
    db.flush()
    after_commit(db, lambda: wake(queue))
    return job


def check_queue_room(db: Session, user: User, type: str) -> None:
    """Errors: RateLimited when this member has as many unfinished jobs as one may have."""
    limit = get_settings().limits.jobs_queued
    if type == "files":
        return
    unfinished = select(func.count()).where(
        Job.user_id == user.id, Job.type != "files", Job.status.not_in([s.value for s in TERMINAL])
    )
    used = db.scalar(unfinished) or 0
    if used >= limit:
        words = (
            f"You have {used} unfinished jobs, and {limit} are allowed. Wait for one to end or cancel one."
        )
        raise RateLimited(words, 60, code="queue-full", limit=limit, used=used)


WEBHOOK_EVENTS = ("started", "progress", "sample", "succeeded", "failed", "canceled")


def check_webhook(db: Session, webhook: dict[str, Any] | None) -> dict[str, Any] | None:
    """Errors: Invalid unless it is `{url, events?}` with an address that may be called."""
    if webhook is None:
        return None
    url, events = webhook.get("url"), webhook.get("events") or list(WEBHOOK_EVENTS)
    if not isinstance(url, str) or not url.startswith(("https://", "http://")) or len(url) > 2000:
        raise Invalid("The webhook needs a url that begins with https://.", code="webhook-url")
    try:
        check_address(url, private=private_allowed(db))
    except TargetRefused as refused:
        errors = [FieldError("#/webhook/url", str(refused), "webhook-url")]
        raise Invalid(f"The webhook cannot be called: {refused}.", errors, code="webhook-url") from refused
    if unknown := set(events) - set(WEBHOOK_EVENTS):
        raise Invalid(
            f"Unknown webhook events: {', '.join(sorted(map(str, unknown)))}.", code="webhook-events"
        )
    return {"url": url, "events": list(events)}


def find_job(db: Session, job_id: str, *, lock: bool = False) -> Job | None:
    """The newest row, whatever this session read before."""
    query = select(Job).where(Job.id == job_id).execution_options(populate_existing=True)
    return db.scalar(query.with_for_update() if lock else query)


def get_job(db: Session, viewer: User | None, id: str, *, lock: bool = False) -> Job:
    """Errors: Unauthorized without a viewer, NotFound also for other people's jobs."""
    if viewer is None:
        raise Unauthorized("Log in to see your jobs.")
    job = find_job(db, id, lock=lock)
    if job is None or not can_see_job(viewer, job):
        raise NotFound("There is no such job, or it is not yours.")
    return job


def list_jobs(
    db: Session,
    viewer: User | None,
    *,
    status: Iterable[str] = (),
    type: Iterable[str] = (),
    created_after: datetime | None = None,
    everyone: bool = False,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[Job]:
    """A viewer's jobs, newest first; `everyone` for admins. Without `type` only trainings and generations.

    Errors: Invalid for a status or a type that there is not.
    """
    if viewer is None:
        raise Unauthorized("Log in to see your jobs.")
    _check_words("#/status", statuses := list(status), [state.value for state in JobState])
    _check_words("#/type", types := list(type), KNOWN_TYPES)
    query = select(Job).where(Job.type.in_(types or ["training", "generation"]))
    if not (everyone and viewer.is_admin):
        query = query.where(Job.user_id == viewer.id)
    if statuses:
        query = query.where(Job.status.in_(statuses))
    if created_after:
        query = query.where(Job.created_at > created_after)
    return keyset_page(db, query, [Job.seq], cursor=cursor, limit=limit)


def _check_words(pointer: str, words: Iterable[str], known: Sequence[str]) -> None:
    if unknown := sorted(set(words) - set(known)):
        detail = f"{', '.join(unknown)} is not one of {', '.join(known)}"
        raise Invalid(f"{pointer[2:].capitalize()}: {detail}.", [FieldError(pointer, detail, "enum")])


def _steer(db: Session, viewer: User | None, id: str) -> tuple[Job, JobState]:
    job = get_job(db, viewer, id, lock=True)
    if not can_steer_job(viewer, job):
        raise NotFound("There is no such job, or it is not yours.")
    return job, JobState(job.status)


def cancel_job(db: Session, viewer: User | None, id: str) -> Job:
    """Waiting jobs end at once, running ones at their next step; a finished one is answered unchanged."""
    job, state = _steer(db, viewer, id)
    if state in (JobState.QUEUED, JobState.PAUSED):
        change_state(db, job, JobState.CANCELED)
    elif state in LEASED and state is not JobState.CANCELING:
        change_state(db, job, JobState.CANCELING)
    return job


def pause_job(db: Session, viewer: User | None, id: str) -> Job:
    """Trainings only: save at the next step and free the device. Errors: Conflict."""
    job, state = _steer(db, viewer, id)
    if job.type not in PAUSABLE:
        raise Conflict(
            "Only trainings can be paused. Cancel this job instead.", code="cannot-pause", job_id=id
        )
    if state in TERMINAL:
        raise Conflict("This training has ended already.", code="job-already-finished", job_id=id)
    if state is JobState.QUEUED:
        change_state(db, job, JobState.PAUSED)
    elif state in (JobState.STARTING, JobState.RUNNING):
        change_state(db, job, JobState.PAUSING)
    elif state is JobState.CANCELING:
        raise Conflict("This training is being stopped.", code="job-state", job_id=id)
    return job


def resume_job(db: Session, viewer: User | None, id: str) -> Job:
    """Back into the queue with the same id; goes on from its last save. Errors: Conflict unless paused."""
    job, state = _steer(db, viewer, id)
    if state is not JobState.PAUSED:
        code = "job-already-finished" if state in TERMINAL else "not-paused"
        raise Conflict(
            "Only a paused training can go on. Use retry for one that has ended.", code=code, job_id=id
        )
    change_state(db, job, JobState.QUEUED)
    return job


def retry_job(db: Session, viewer: User | None, id: str) -> Job:
    """A new job with the same work and `retry_of`; it goes on from the old one's last save, if any."""
    old, state = _steer(db, viewer, id)
    if state not in TERMINAL:
        raise Conflict("This job has not ended yet.", code="job-not-finished", job_id=id)
    owner = db.get_one(User, old.user_id)
    new = enqueue(
        db, owner, type=old.type, queue=old.queue, title=old.title, input=old.input, payload=old.payload,
        priority=old.priority, webhook=old.webhook, labels=old.labels, retry_of=old.id,
    )  # fmt: skip
    new.resume_sha256, new.resume_step = old.resume_sha256, old.resume_step
    if hook := _retry_hooks.get(old.type):
        hook(db, old, new)
    db.flush()
    return new


def wish(db: Session, viewer: User | None, id: str, what: str) -> Job:
    """Ask a training for a `sample` or a `save` at its next step. Errors: Conflict when it is not running."""
    job, state = _steer(db, viewer, id)
    if what not in WISHES:
        raise Invalid(f"A running job can be asked for {' or '.join(WISHES)}.")
    if state not in (JobState.STARTING, JobState.RUNNING) or job.type not in PAUSABLE:
        raise Conflict("This works while a training is running.", code="not-running", job_id=id)
    if what not in job.wishes:
        job.wishes = [*job.wishes, what]
    db.flush()
    return job


def delete_job(db: Session, viewer: User | None, id: str) -> None:
    """Remove a finished job with all that only it names. Errors: Conflict while it is not finished."""
    job, state = _steer(db, viewer, id)
    if state not in TERMINAL:
        raise Conflict("Cancel the job first; then it can be deleted.", code="job-not-finished", job_id=id)
    freed = [job.resume_sha256, *_blobs_of(db, job)]
    db.delete(job)
    release_blobs(db, freed)


def _blobs_of(db: Session, job: Job) -> list[str]:
    """Blobs named by rows that vanish with the job: found by foreign keys, so no table can be forgotten."""
    found: list[str] = []
    for table in Base.metadata.tables.values():
        if (owner := _cascades_from_job(table)) is not None:
            for fk in table.foreign_keys:
                if fk.column.table.name == Blob.__tablename__:
                    found += db.scalars(select(fk.parent).where(owner == job.id, fk.parent.is_not(None)))
    return found


def _cascades_from_job(table: Table) -> Any:
    for fk in table.foreign_keys:
        if fk.column.table.name == Job.__tablename__ and (fk.ondelete or "").upper() == "CASCADE":
            return fk.parent
    return None
