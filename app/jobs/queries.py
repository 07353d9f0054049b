"""Figures over many jobs that pages show, and the job that a program asks about without knowing its id."""

from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.states import TERMINAL, JobState
from app.jobs.models import Job

BUSY = [state.value for state in JobState if state not in TERMINAL and state != JobState.PAUSED]


def count_busy(db: Session, user: User) -> tuple[int, int]:
    """How many trainings and generations run or wait: this person's, and everybody's."""
    mine = func.count().filter(Job.user_id == user.id)
    row = db.execute(select(mine, func.count()).where(Job.status.in_(BUSY), Job.type != "files")).one()
    return row[0], row[1]


def find_current(db: Session, user: User, labels: dict[str, Any]) -> Job | None:
    """Of this person's unfinished jobs with these labels: the one at work, else the one that came first."""
    unfinished = or_(Job.status == JobState.QUEUED.value, Job.lease_until.is_not(None))
    query = (
        select(Job)
        .where(unfinished, Job.user_id == user.id, Job.labels.contains(labels))
        .order_by(Job.status == JobState.QUEUED.value, Job.seq)
        .limit(1)
        .execution_options(populate_existing=True)
    )
    return db.scalar(query)
