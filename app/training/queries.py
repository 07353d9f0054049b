"""Reads over many trainings: as many queries for 100 rows as for one."""

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.training.models import TrainingCheckpoint, TrainingSample


def epochs_of_jobs(db: Session, job_ids: Sequence[str]) -> dict[str, list[TrainingCheckpoint]]:
    """The epochs that these trainings have delivered so far, in order."""
    found: dict[str, list[TrainingCheckpoint]] = defaultdict(list)
    query = select(TrainingCheckpoint).where(TrainingCheckpoint.job_id.in_(job_ids))
    for row in db.scalars(query.order_by(TrainingCheckpoint.epoch)):
        found[row.job_id].append(row)
    return found


def samples_of_jobs(db: Session, job_ids: Sequence[str]) -> dict[str, list[TrainingSample]]:
    """Their sample pictures by epoch, step and prompt."""
    found: dict[str, list[TrainingSample]] = defaultdict(list)
    query = select(TrainingSample).where(TrainingSample.job_id.in_(job_ids))
    order = (TrainingSample.epoch, TrainingSample.step, TrainingSample.prompt_index)
    for row in db.scalars(query.order_by(*order)):
        found[row.job_id].append(row)
    return found
