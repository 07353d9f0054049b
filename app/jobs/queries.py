"""Figures over many jobs that pages show."""

from sqlalchemy import func, select
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
