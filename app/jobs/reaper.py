"""Looks after jobs that nobody holds, and after all that has a time limit.

Every web and worker process runs one; an advisory lock lets one work at a time. What other
domains must do now and then they hang on with `every_tick`.
"""

import logging
import threading
from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.accounts.farewell import free_unnamed
from app.contract.states import LEASED, JobState
from app.core.config import get_settings
from app.core.db import unit_of_work
from app.core.storage import Storage, get_storage
from app.jobs import leases, service, webhooks, workers
from app.jobs.models import IdempotencyKey, Job, JobEvent
from app.jobs.wakeups import wake

log = logging.getLogger("bottega.reaper")
LOCK = 0x626F7474656761
WAITING = (JobState.QUEUED.value, JobState.PAUSED.value)
KEYS_KEPT = timedelta(hours=24)
SWEEP_SECONDS = 600.0
"""How often storage is searched for what dead workers left."""
PATIENCE = 5.0
"""Seconds that the end waits for a notice that is under way."""

Chore = Callable[[Session], object]
_chores: list[Chore] = []
_sweeps: list[Chore] = []


def every_tick(chore: Chore) -> None:
    """Have `chore(db)` called by each tick, in a transaction of its own."""
    if chore not in _chores:
        _chores.append(chore)


def every_sweep(chore: Chore) -> None:
    """Have `chore(db)` called when storage is searched, every SWEEP_SECONDS."""
    if chore not in _sweeps:
        _sweeps.append(chore)


def reap(db: Session) -> int:
    """Return jobs with an ended lease to the queue or end them; gives how many."""
    query = (
        select(Job)
        .where(Job.status.in_([s.value for s in LEASED]), Job.lease_until < func.clock_timestamp())
        .order_by(Job.seq)
        .limit(100)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    lost = list(db.scalars(query))
    for job in lost:
        log.warning("%s: the lease of %s has ended", job.id, job.worker_id)
        leases.lose(db, job)
    return len(lost)


def expire_waiting(db: Session) -> int:
    """End jobs that waited or were paused for as long as a training's files are kept; gives how many.

    What counts is the last change of state, so one that was paused for weeks and goes on has all its time.
    """
    limit = func.now() - timedelta(days=get_settings().queue.keep_checkpoints_days)
    moved = select(JobEvent.id).where(
        JobEvent.job_id == Job.id, JobEvent.kind == "status", JobEvent.created_at > limit
    )
    query = (
        select(Job)
        .where(Job.status.in_(WAITING), Job.created_at < limit, ~moved.exists())
        .limit(100)
        .with_for_update(skip_locked=True, of=Job)
        .execution_options(populate_existing=True)
    )
    late = list(db.scalars(query))
    for job in late:
        service.change_state(db, job, JobState.EXPIRED, reason="waited-too-long")
    return len(late)


def announce_waiting(db: Session) -> None:
    """Send wake-ups again: one may have been lost, or come while everybody was busy."""
    for queue in db.scalars(select(Job.queue).where(Job.status == JobState.QUEUED.value).distinct()):
        wake(queue)


def forget_keys(db: Session) -> None:
    db.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < func.now() - KEYS_KEPT))


def sweep_dead_files(db: Session, storage: Storage) -> int:
    """Remove what lies under fences that nobody can write under any more; gives how many files."""
    keys = [(key, key.split("/")) for key, _ in storage.list("jobs")]
    ids = {parts[1] for _, parts in keys if len(parts) >= 4}
    rows = db.execute(select(Job.id, Job.fence, Job.status).where(Job.id.in_(ids)))
    live = {(row.id, str(row.fence)) for row in rows if row.status in LEASED}
    dead = [key for key, parts in keys if len(parts) >= 4 and (parts[1], parts[2]) not in live]
    storage.delete(dead)
    return len(dead)


def tick() -> bool:
    """One round. False when another process is at it. Errors: DBAPIError while the database is away."""
    with unit_of_work() as db:
        if not db.scalar(select(func.pg_try_advisory_xact_lock(LOCK))):
            return False
        reap(db)
        expire_waiting(db)
        announce_waiting(db)
        forget_keys(db)
        workers.forget_workers(db)
    for chore in _chores:
        _run_chore(chore)
    return True


def _run_chore(chore: Chore) -> None:
    """A chore that fails must not keep the others from their work."""
    try:
        with unit_of_work() as db:
            chore(db)
    except DBAPIError:
        raise
    except Exception:
        log.exception("%s failed", getattr(chore, "__name__", chore))


def _deliver() -> None:
    try:
        webhooks.deliver_due()
    except DBAPIError as error:
        log.warning("the database is away: %s", str(error.orig)[:200])
    except Exception:
        log.exception("the notices failed")


class Reaper(threading.Thread):
    """Ticks until `stop()`."""

    def __init__(self) -> None:
        super().__init__(name="reaper", daemon=True)
        self._stopped = threading.Event()
        self._until_sweep = 0.0
        self._notices: threading.Thread | None = None

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        period = get_settings().queue.reap_seconds
        while not self._stopped.wait(period):
            try:
                if tick():
                    self._send_notices()
                    self._sweep(period)
            except DBAPIError as error:
                log.warning("the database is away: %s", str(error.orig)[:200])
            except Exception:
                log.exception("a round of the reaper failed")
        if self._notices is not None:
            self._notices.join(PATIENCE)

    def _send_notices(self) -> None:
        """In a thread of its own: strangers' servers that are slow must not keep jobs from being returned."""
        if self._notices is None or not self._notices.is_alive():
            self._notices = threading.Thread(target=_deliver, name="notices", daemon=True)
            self._notices.start()

    def _sweep(self, period: float) -> None:
        self._until_sweep -= period
        if self._until_sweep > 0:
            return
        self._until_sweep = SWEEP_SECONDS
        with unit_of_work() as db:
            sweep_dead_files(db, get_storage())
            free_unnamed(db)
        for chore in _sweeps:
            _run_chore(chore)
