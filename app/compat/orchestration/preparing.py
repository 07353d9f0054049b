"""What workflows wait for: a training starts once its pictures are there, callbacks are told of changes.

A chore of the reaper, so a restart of anything loses nothing; free of any web framework, because workers
run it too.
"""

import logging

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.compat.orchestration import callbacks, service
from app.compat.orchestration.models import Workflow, WorkflowJob
from app.contract.states import TERMINAL, JobState
from app.core.errors import AppError, RateLimited
from app.jobs import workers
from app.jobs.models import Job
from app.training.schemas import TrainingIn
from app.training.service import start_training

log = logging.getLogger("bottega.orchestration")
A_TICK = 500


def tend_workflows(db: Session) -> int:
    """One round over the workflows that wait for something; gives how many were looked at."""
    query = (
        select(Workflow)
        .where(Workflow.watched)
        .order_by(Workflow.seq)
        .limit(A_TICK)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    workflows = list(db.scalars(query))
    served = workers.served_queues(db) if workflows else set()
    for workflow in workflows:
        try:
            with db.begin_nested():
                _go_on(db, workflow, served)
        except DBAPIError:
            raise
        except Exception:  # one that fails must not keep the others waiting
            log.exception("%s cannot go on", workflow.id)
    return len(workflows)


def _go_on(db: Session, workflow: Workflow, served: set[str]) -> None:
    for row, job in service.jobs_of(db, [workflow]):
        if job.type == "files" and "training" in workflow.steps[row.step] and job.status in TERMINAL:
            _start_prepared(db, workflow, row, job)
    waits = any("training" in step for step in workflow.steps)
    if workflow.callbacks:
        waits = callbacks.tell(db, workflow, service.jobs_of(db, [workflow]), served) or waits
    workflow.watched = waits
    db.flush()


def _start_prepared(db: Session, workflow: Workflow, row: WorkflowJob, brought: Job) -> None:
    """The pictures are there, or will never be. What cannot start now for want of room starts later."""
    step = workflow.steps[row.step]
    if brought.status != JobState.SUCCEEDED.value:
        service.note_step(workflow, row.step, training=None)
        return
    try:
        with db.begin_nested():
            user = db.get_one(User, workflow.user_id)
            job = start_training(db, user, TrainingIn.model_validate(step["training"]))
            service.keep_training(db, workflow, job, row.step, row.properties)
    except RateLimited:
        return
    except (AppError, ValidationError) as error:
        words = error.detail if isinstance(error, AppError) else "It was asked for by an older version."
        log.info("%s: %s cannot start: %s", workflow.id, step["name"], error)
        ended = {"status": JobState.FAILED.value, "detail": words}
        service.note_step(workflow, row.step, training=None, ended=ended)
        return
    service.note_step(workflow, row.step, training=None)
