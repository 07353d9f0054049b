"""What an admin sees: workers, the queue, space, what went wrong. All of it read at the moment of asking."""

from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.admin.health import Check, check_all, live_workers
from app.contract.states import TERMINAL
from app.core.blobs import Blob, used_bytes
from app.core.db import utcnow
from app.core.errors import Forbidden
from app.core.storage import Storage
from app.jobs.models import Job, Worker

SHOWN = 20
FAILED_WITHIN = timedelta(hours=24)


@dataclass(frozen=True)
class Overview:
    checks: list[Check]
    workers: list[Worker]
    live: set[str]
    """Ids of the workers that were heard of lately."""
    jobs: dict[str, Job]
    """The job of each worker that has one, by id."""
    queue: list[tuple[Job, str]]
    """Unfinished jobs with their owner's name, in the order in which they were asked for."""
    queue_length: int
    failed: list[tuple[Job, str]]
    stored_bytes: int
    files: int
    free_bytes: int | None
    counts: dict[str, int] = field(default_factory=dict)
    """Unfinished jobs by status."""


def can_see_admin_pages(viewer: User | None) -> bool:
    return viewer is not None and viewer.is_admin


def get_overview(db: Session, actor: User, storage: Storage) -> Overview:
    """Errors: Forbidden."""
    if not can_see_admin_pages(actor):
        raise Forbidden("Only an admin may see this.")
    workers = list(db.scalars(select(Worker).order_by(Worker.seen_at.desc(), Worker.id).limit(SHOWN)))
    ids = [worker.job_id for worker in workers if worker.job_id]
    counts = count_jobs(db)
    return Overview(
        checks=check_all(db, storage),
        workers=workers,
        live={worker.id for worker in live_workers(db)},
        jobs={job.id: job for job in db.scalars(select(Job).where(Job.id.in_(ids)))},
        queue=_unfinished(db),
        queue_length=sum(counts.values()),
        failed=_failed(db),
        stored_bytes=used_bytes(db),
        files=db.scalar(select(func.count()).select_from(Blob)) or 0,
        free_bytes=storage.free_bytes(),
        counts=counts,
    )


def count_jobs(db: Session) -> dict[str, int]:
    """Unfinished jobs by status."""
    query = select(Job.status, func.count().label("n")).where(Job.status.not_in([s.value for s in TERMINAL]))
    return {row.status: row.n for row in db.execute(query.group_by(Job.status))}


def _unfinished(db: Session) -> list[tuple[Job, str]]:
    query = select(Job, User.username).join(User, User.id == Job.user_id)
    query = query.where(Job.status.not_in([s.value for s in TERMINAL])).order_by(Job.seq).limit(SHOWN)
    return [(job, name) for job, name in db.execute(query)]


def _failed(db: Session) -> list[tuple[Job, str]]:
    query = select(Job, User.username).join(User, User.id == Job.user_id)
    query = query.where(Job.status == "failed", Job.completed_at > utcnow() - FAILED_WITHIN)
    return [(job, name) for job, name in db.execute(query.order_by(Job.completed_at.desc()).limit(SHOWN))]
