"""Jobs of the queue `files`: plain functions in the worker's own process, no model and no child.

The function runs in one transaction; its last step locks the job's row and checks the fence, so a
worker that lost its lease meanwhile rolls everything back.
"""

import logging
from collections.abc import Mapping

from sqlalchemy.exc import DBAPIError

from app.contract.events import Finished
from app.contract.jobs import FilesJob
from app.core.db import unit_of_work
from app.core.errors import AppError
from app.core.storage import Storage
from app.jobs import leases
from app.jobs.leases import Lease, LeaseLost
from app.jobs.models import Job
from worker.heart import Heart
from worker.supervise import outlast_outage
from worker.tasks import FILES_TASKS, FilesTask

log = logging.getLogger("bottega.files")


def run_files_job(
    storage: Storage, row: Job, claimed_at: float, tasks: Mapping[str, FilesTask] = FILES_TASKS
) -> None:
    """Do one job from its claim to its end."""
    lease = Lease(row.id, row.fence)
    heart = Heart(lease, claimed_at, on_beat=lambda *_: None, on_lost=lambda: None)
    heart.start()
    try:
        outlast_outage(lambda: _started(lease), lambda: heart.expired)
        failure = _attempt(storage, row, lease, heart, tasks)
        if failure is not None:
            outlast_outage(lambda: _failed(lease, failure), lambda: heart.expired)
    except LeaseLost:
        log.warning("%s: the lease is lost, nothing was written", row.id)
    finally:
        heart.stop()
        heart.join()


def _started(lease: Lease) -> None:
    with unit_of_work() as db:
        leases.start_running(db, leases.hold(db, lease))


def _attempt(
    storage: Storage, row: Job, lease: Lease, heart: Heart, tasks: Mapping[str, FilesTask]
) -> Finished | None:
    """Work and end in one transaction; a Finished when it failed and was rolled back."""
    job = FilesJob.model_validate(row.payload)
    try:
        with unit_of_work() as db:
            output = tasks[job.task](db, storage, job)
            heart.stop()
            held = leases.hold(db, lease)
            held.output = output
            leases.finish(db, held, Finished(outcome="succeeded"))
    except AppError as error:
        return Finished(outcome="failed", code=error.code, detail=error.detail)
    except (LeaseLost, DBAPIError):
        raise
    except Exception:
        log.exception("%s: %s failed", row.id, job.task)
        words = "Something went wrong with this file. The server's log says more."
        return Finished(outcome="failed", code="internal-error", detail=words)
    return None


def _failed(lease: Lease, failure: Finished) -> None:
    with unit_of_work() as db:
        leases.finish(db, leases.hold(db, lease), failure)
