"""Trainings: start one, keep what its worker delivers, list checkpoints, publish one of them.

`add_checkpoint`, `add_sample` and `complete_training` are called inside the worker's fenced
transactions: a worker that lost its lease never gets this far.
"""

from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.events import Checkpoint, Finished, Sample
from app.contract.jobs import CheckpointRef, TrainJob
from app.contract.states import TERMINAL
from app.core.blobs import Blob, release_blobs
from app.core.config import get_settings
from app.core.db import utcnow
from app.core.errors import Conflict, NotFound
from app.jobs import service as jobs
from app.jobs.models import Job
from app.training.memory import device_kind
from app.training.models import TrainingCheckpoint, TrainingItem, TrainingRun, TrainingSample
from app.training.plan import Planned, plan_training, work_of
from app.training.schemas import CheckpointOut, SampleOut, SampleRow, TrainingIn


def start_training(db: Session, user: User, body: TrainingIn) -> Job:
    """Take a snapshot of the set and queue the job. Errors as `plan_training`, plus quotas."""
    planned = plan_training(db, user, body)
    job = jobs.enqueue(
        db,
        user,
        type="training",
        queue="train",
        title=planned.job.name,
        input=_echo(body, planned),
        payload=planned.job.model_dump(mode="json"),
        webhook=body.webhook.model_dump() if body.webhook else None,
    )
    db.add(_run(user, body, planned, job))
    db.add_all(
        TrainingItem(job_id=job.id, position=n, blob_sha256=item.file.sha256, label=item.label)
        for n, item in enumerate(planned.job.items)
    )
    db.flush()
    return job


def _run(user: User, body: TrainingIn, planned: Planned, job: Job) -> TrainingRun:
    return TrainingRun(
        job_id=job.id,
        user_id=user.id,
        dataset_id=body.dataset,
        name=planned.job.name,
        type=body.type,
        family=planned.spec.name,
        base_version_id=planned.job.base.model_version_id,
        trigger_word=planned.job.trigger_word,
        preset=body.preset,
        steps=planned.steps,
        keep_until=keep_until(),
    )


def keep_until() -> datetime:
    """When the files of a run that is touched now are freed."""
    return utcnow() + timedelta(days=get_settings().queue.keep_checkpoints_days)


def _echo(body: TrainingIn, planned: Planned) -> dict[str, Any]:
    """The request with every default filled in."""
    return body.model_dump(mode="json", exclude={"webhook"}) | {
        "base": _echo_base(body, planned.job.base),
        "params": planned.job.params.model_dump(),
        "sample_prompts": [p.model_dump() for p in planned.job.sample_prompts],
        "steps": planned.steps,
        "images": len(planned.job.items),
        "memory": planned.memory.model_dump() if planned.memory else None,
    }


def _echo_base(body: TrainingIn, base: CheckpointRef) -> dict[str, Any]:
    named = {"model_version_id": base.model_version_id, "name": base.name}
    if base.vae is None:
        return named
    return named | {"vae_version_id": body.base.vae_version_id, "vae": base.vae.name}


def get_training(db: Session, viewer: User | None, training_id: str) -> tuple[Job, TrainingRun]:
    """The job and its run. Errors: NotFound, also for other people's."""
    job = jobs.get_job(db, viewer, training_id)
    run = db.get(TrainingRun, job.id)
    if run is None:
        raise NotFound("There is no such training.")
    return job, run


def wish(db: Session, viewer: User, training_id: str, what: Literal["sample", "save"]) -> Job:
    """Ask the running training for samples or for a save at its next step."""
    job, _ = get_training(db, viewer, training_id)
    return jobs.wish(db, viewer, job.id, what)


def checkpoint_path(job_id: str, epoch: int) -> str:
    return f"/api/v1/trainings/{job_id}/checkpoints/{epoch}/file"


def sample_path(job_id: str, sample_id: int) -> str:
    return f"/api/v1/trainings/{job_id}/samples/{sample_id}/file"


def add_checkpoint(db: Session, job: Job, event: Checkpoint, blob: Blob) -> str:
    """Keep the adapter of an epoch; gives its address.

    The same epoch again (after a resume) replaces the older row.
    """
    values = {
        "step": event.step,
        "name": event.path.rsplit("/", 1)[-1],
        "blob_sha256": blob.sha256,
        "size": event.size,
        "tensor_sha256": event.tensor_sha256,
        "loss": event.loss,
        "validation_loss": event.validation_loss,
    }
    old = db.scalar(_checkpoint_blob(job.id, event.epoch))
    row = insert(TrainingCheckpoint).values(job_id=job.id, epoch=event.epoch, **values)
    db.execute(row.on_conflict_do_update(index_elements=["job_id", "epoch"], set_=values))
    if old and old != blob.sha256:
        release_blobs(db, [old])
    return checkpoint_path(job.id, event.epoch)


def _checkpoint_blob(job_id: str, epoch: int) -> Any:
    return select(TrainingCheckpoint.blob_sha256).where(
        TrainingCheckpoint.job_id == job_id, TrainingCheckpoint.epoch == epoch
    )


def add_sample(db: Session, job: Job, event: Sample, blob: Blob) -> str:
    """Keep a sample picture; gives its address. The same one again after a resume changes nothing."""
    row = insert(TrainingSample).values(
        job_id=job.id,
        epoch=event.epoch,
        step=event.step,
        prompt_index=event.prompt_index,
        prompt=event.prompt,
        seed=event.seed,
        baseline=event.baseline,
        blob_sha256=blob.sha256,
        width=event.width,
        height=event.height,
    )
    kept = row.on_conflict_do_update(
        index_elements=["job_id", "epoch", "step", "prompt_index", "baseline"],
        set_={"blob_sha256": blob.sha256},
    )
    return sample_path(job.id, db.execute(kept.returning(TrainingSample.id)).scalar_one())


def complete_training(db: Session, job: Job, finished: Finished) -> dict[str, Any]:
    """Write down the recommendation and the figures; gives the job's `output`."""
    run = db.get(TrainingRun, job.id)
    if run is None:
        return {}
    run.recommended_epoch = finished.recommended_epoch
    run.recommended_reason = finished.recommended_reason
    run.keep_until = keep_until()
    payload = TrainJob.model_validate(job.payload)
    steps = finished.steps or run.steps
    job.metrics = {
        **(job.metrics or {}),
        "run_seconds": finished.run_seconds,
        "peak_memory_bytes": finished.peak_memory_bytes,
        "device_kind": device_kind(db, job),
        "memory_retries": finished.memory_retries,
        "steps": steps,
        "work": work_of(payload, steps),
    }
    epochs = db.scalars(
        select(TrainingCheckpoint.epoch)
        .where(TrainingCheckpoint.job_id == job.id)
        .order_by(TrainingCheckpoint.epoch)
    )
    return {
        "epochs": list(epochs),
        "recommended_epoch": finished.recommended_epoch,
        "recommended_reason": finished.recommended_reason,
        "checkpoints": f"/api/v1/trainings/{job.id}/checkpoints",
    }


def list_samples(db: Session, job_id: str) -> list[TrainingSample]:
    query = select(TrainingSample).where(TrainingSample.job_id == job_id)
    order = (TrainingSample.epoch, TrainingSample.step, TrainingSample.prompt_index)
    return list(db.scalars(query.order_by(*order)))


def list_checkpoint_rows(db: Session, job_id: str) -> list[TrainingCheckpoint]:
    query = select(TrainingCheckpoint).where(TrainingCheckpoint.job_id == job_id)
    return list(db.scalars(query.order_by(TrainingCheckpoint.epoch)))


def list_checkpoints(db: Session, viewer: User | None, training_id: str) -> list[CheckpointOut]:
    """Every epoch with its samples; the row without the LoRA is part of each."""
    job, run = get_training(db, viewer, training_id)
    samples = list_samples(db, job.id)
    baseline = [s for s in samples if s.baseline]
    return [
        _checkpoint_out(row, run, [s for s in samples if s.epoch == row.epoch and not s.baseline] + baseline)
        for row in list_checkpoint_rows(db, job.id)
    ]


def _checkpoint_out(
    row: TrainingCheckpoint, run: TrainingRun, samples: list[TrainingSample]
) -> CheckpointOut:
    recommended = run.recommended_epoch == row.epoch
    return CheckpointOut(
        epoch=row.epoch,
        step=row.step,
        size_bytes=row.size,
        sha256=row.blob_sha256,
        download_url=checkpoint_path(row.job_id, row.epoch),
        samples=[_sample_out(s) for s in samples],
        loss=row.loss,
        validation_loss=row.validation_loss,
        recommended=recommended,
        recommended_reason=run.recommended_reason if recommended else None,
        created_at=row.created_at,
    )


def list_sample_rows(db: Session, viewer: User | None, training_id: str) -> list[SampleRow]:
    """All samples of a training, the row without the LoRA first. Errors: NotFound."""
    job, _ = get_training(db, viewer, training_id)
    shown = ((row, _sample_out(row)) for row in list_samples(db, job.id))
    return [SampleRow(**s.model_dump(), epoch=r.epoch, step=r.step, thumb_url=s.url) for r, s in shown]


def _sample_out(row: TrainingSample) -> SampleOut:
    return SampleOut(
        prompt_index=row.prompt_index,
        prompt=row.prompt,
        seed=row.seed,
        url=sample_path(row.job_id, row.id),
        baseline=row.baseline,
        width=row.width,
        height=row.height,
    )


def get_checkpoint(db: Session, viewer: User | None, training_id: str, epoch: int) -> TrainingCheckpoint:
    """One epoch's adapter. Errors: NotFound."""
    job, _ = get_training(db, viewer, training_id)
    row = db.scalar(
        select(TrainingCheckpoint).where(
            TrainingCheckpoint.job_id == job.id, TrainingCheckpoint.epoch == epoch
        )
    )
    if row is None:
        raise NotFound(
            f"This training has no epoch {epoch}. Look at its checkpoints for those that there are."
        )
    return row


def get_sample(db: Session, viewer: User | None, training_id: str, sample_id: int) -> TrainingSample:
    """One sample picture. Errors: NotFound."""
    job, _ = get_training(db, viewer, training_id)
    row = db.get(TrainingSample, sample_id)
    if row is None or row.job_id != job.id:
        raise NotFound("There is no such sample.")
    return row


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
    for table in (TrainingCheckpoint, TrainingSample, TrainingItem):
        shas += db.scalars(delete(table).where(table.job_id == job_id).returning(table.blob_sha256))
    return shas


def control(db: Session, user: User, training_id: str, action: str) -> Job:
    """A button of the job page: cancel, pause, resume, sample or save. Errors: NotFound for anything else."""
    job, _ = get_training(db, user, training_id)
    match action:
        case "cancel":
            return jobs.cancel_job(db, user, job.id)
        case "pause":
            return jobs.pause_job(db, user, job.id)
        case "resume":
            return jobs.resume_job(db, user, job.id)
        case "sample" | "save":
            return jobs.wish(db, user, job.id, action)
    raise NotFound("There is no such action.")


def copy_run(db: Session, old: Job, new: Job) -> None:
    """Tried again, a training has the same plan and the same snapshot. Errors: Conflict when that is gone."""
    run = db.get(TrainingRun, old.id)
    items = list(db.scalars(select(TrainingItem).where(TrainingItem.job_id == old.id)))
    if run is None or not items:
        words = "The pictures of this training are no longer kept. Start a new one."
        raise Conflict(words, code="snapshot-gone", job_id=old.id)
    kept = "user_id dataset_id name type family base_version_id trigger_word preset steps".split()
    db.add(TrainingRun(job_id=new.id, keep_until=keep_until(), **{name: getattr(run, name) for name in kept}))
    db.add_all(
        TrainingItem(job_id=new.id, position=i.position, blob_sha256=i.blob_sha256, label=i.label)
        for i in items
    )


jobs.on_retry("training", copy_run)
