"""What a worker delivers of a training, adapters of epochs and samples, until their time is over.

A clip comes with its poster and an epoch of a family with two experts with a second file; both belong to
the row of the first. The same delivery again, after a lost worker, changes nothing.
"""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.contract.events import AdapterFile, Checkpoint, Sample
from app.contract.states import TERMINAL
from app.core.blobs import Blob, release_blobs
from app.core.config import get_settings
from app.core.db import utcnow
from app.jobs.models import Job
from app.training.models import TrainingCheckpoint, TrainingItem, TrainingRun, TrainingSample


def checkpoint_path(job_id: str, epoch: int) -> str:
    return f"/api/v1/trainings/{job_id}/checkpoints/{epoch}/file"


def sample_path(job_id: str, sample_id: int) -> str:
    return f"/api/v1/trainings/{job_id}/samples/{sample_id}/file"


def poster_path(row: TrainingSample) -> str:
    """Address of a picture that stands for the sample: of a clip its poster, else itself."""
    own = sample_path(row.job_id, row.id)
    return f"{own.removesuffix('/file')}/poster" if row.is_clip else own


def keep_until() -> datetime:
    """When the files of a run that is touched now are freed."""
    return utcnow() + timedelta(days=get_settings().queue.keep_checkpoints_days)


def add_checkpoint(
    db: Session, job: Job, event: Checkpoint, blob: Blob, *, low_noise: Blob | None = None
) -> str:
    """Keep the adapter of an epoch; gives its address.

    The same epoch again (after a resume) replaces the older row.
    """
    values = {
        "step": event.step,
        "name": event.path.rsplit("/", 1)[-1],
        "blob_sha256": blob.sha256,
        "size": event.size,
        "tensor_sha256": event.tensor_sha256,
        "low_noise_sha256": low_noise.sha256 if low_noise else None,
        "low_noise": _second(event.low_noise) if event.low_noise and low_noise else None,
        "loss": event.loss,
        "validation_loss": event.validation_loss,
    }
    old = db.execute(_checkpoint_blobs(job.id, event.epoch)).first()
    row = insert(TrainingCheckpoint).values(job_id=job.id, epoch=event.epoch, **values)
    db.execute(row.on_conflict_do_update(index_elements=["job_id", "epoch"], set_=values))
    if old:
        release_blobs(db, list(old))
    return checkpoint_path(job.id, event.epoch)


def _second(file: AdapterFile) -> dict[str, Any]:
    return {
        "name": file.path.rsplit("/", 1)[-1],
        "size": file.size,
        "tensor_sha256": file.tensor_sha256,
    }


def _checkpoint_blobs(job_id: str, epoch: int) -> Any:
    return select(TrainingCheckpoint.blob_sha256, TrainingCheckpoint.low_noise_sha256).where(
        TrainingCheckpoint.job_id == job_id, TrainingCheckpoint.epoch == epoch
    )


def add_sample(db: Session, job: Job, event: Sample, blob: Blob, *, poster: Blob | None = None) -> str:
    """Keep a sample picture or clip; gives its address. The same again after a resume changes nothing."""
    files = {"blob_sha256": blob.sha256, "poster_sha256": poster.sha256 if poster else None}
    row = insert(TrainingSample).values(
        job_id=job.id,
        epoch=event.epoch,
        step=event.step,
        prompt_index=event.prompt_index,
        prompt=event.prompt,
        seed=event.seed,
        baseline=event.baseline,
        width=event.width,
        height=event.height,
        frames=event.frames,
        fps=event.fps,
        **files,
    )
    kept = row.on_conflict_do_update(
        index_elements=["job_id", "epoch", "step", "prompt_index", "baseline"], set_=files
    )
    return sample_path(job.id, db.execute(kept.returning(TrainingSample.id)).scalar_one())


def list_samples(db: Session, job_id: str) -> list[TrainingSample]:
    query = select(TrainingSample).where(TrainingSample.job_id == job_id)
    order = (TrainingSample.epoch, TrainingSample.step, TrainingSample.prompt_index)
    return list(db.scalars(query.order_by(*order)))


def list_checkpoint_rows(db: Session, job_id: str) -> list[TrainingCheckpoint]:
    query = select(TrainingCheckpoint).where(TrainingCheckpoint.job_id == job_id)
    return list(db.scalars(query.order_by(TrainingCheckpoint.epoch)))


def expire_checkpoints(db: Session) -> int:
    """Free checkpoints and samples of runs whose time is over; what is published keeps its own files.

    A run that has not ended needs its pictures still, however old it is.
    """
    over = [state.value for state in TERMINAL]
    expired = db.execute(
        select(TrainingRun, Job)
        .join(Job, Job.id == TrainingRun.job_id)
        .where(TrainingRun.keep_until < func.now(), Job.status.in_(over))
        .with_for_update(skip_locked=True)
        .limit(20)
    ).all()
    for run, job in expired:
        shas = [*_free_rows(db, run.job_id), job.resume_sha256]
        run.keep_until = job.resume_sha256 = job.resume_step = None
        release_blobs(db, shas)
    return len(expired)


def _free_rows(db: Session, job_id: str) -> list[str | None]:
    shas: list[str | None] = []
    for table, columns in (
        (TrainingCheckpoint, [TrainingCheckpoint.blob_sha256, TrainingCheckpoint.low_noise_sha256]),
        (TrainingSample, [TrainingSample.blob_sha256, TrainingSample.poster_sha256]),
        (TrainingItem, [TrainingItem.blob_sha256]),
    ):
        gone = db.execute(delete(table).where(table.job_id == job_id).returning(*columns))
        shas += [sha for row in gone for sha in row]
    return shas
