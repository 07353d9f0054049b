"""Trainings: start one, steer it, write down its end, list checkpoints and samples.

What its worker delivers is kept in `results.py`, offered here too, so that other domains know one module.
`add_checkpoint`, `add_sample` and `complete_training` are called inside the worker's fenced
transactions: a worker that lost its lease never gets this far.
"""

from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.events import Finished
from app.contract.jobs import CheckpointRef, TrainJob
from app.core.errors import Conflict, NotFound
from app.jobs import service as jobs
from app.jobs.models import Job
from app.training.memory import device_kind
from app.training.models import TrainingCheckpoint, TrainingItem, TrainingRun, TrainingSample
from app.training.plan import Planned, plan_training, work_of
from app.training.results import (
    add_checkpoint,
    add_sample,
    checkpoint_path,
    expire_checkpoints,
    keep_until,
    list_checkpoint_rows,
    list_samples,
    poster_path,
    sample_path,
)
from app.training.schemas import CheckpointOut, LowNoiseOut, SampleOut, SampleRow, TrainingIn

__all__ = [
    "add_checkpoint", "add_sample", "complete_training", "control", "copy_run", "expire_checkpoints",
    "file_of", "get_checkpoint", "get_poster", "get_sample", "get_training", "list_checkpoint_rows",
    "list_checkpoints", "list_sample_rows", "list_samples", "start_training", "wish",
]  # fmt: skip


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


def _echo(body: TrainingIn, planned: Planned) -> dict[str, Any]:
    """The request with every default filled in."""
    return body.model_dump(mode="json", exclude={"webhook"}) | {
        "base": _echo_base(body, planned.job.base),
        "media": planned.media,
        "params": planned.job.params.model_dump(),
        "sample_prompts": [p.model_dump() for p in planned.job.sample_prompts],
        "steps": planned.steps,
        "images": len(planned.job.items),
        "memory": planned.memory.model_dump() if planned.memory else None,
    }


def _echo_base(body: TrainingIn, base: CheckpointRef) -> dict[str, Any]:
    named: dict[str, Any] = {"model_version_id": base.model_version_id, "name": base.name}
    if base.vae is not None:
        named |= {"vae_version_id": body.base.vae_version_id, "vae": base.vae.name}
    if base.text_encoder is not None:
        asked = body.base.text_encoder_version_id
        named |= {"text_encoder_version_id": asked, "text_encoder": base.text_encoder.name}
    return named


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
        low_noise=_low_noise_out(row),
        samples=[_sample_out(s) for s in samples],
        loss=row.loss,
        validation_loss=row.validation_loss,
        recommended=recommended,
        recommended_reason=run.recommended_reason if recommended else None,
        created_at=row.created_at,
    )


def _low_noise_out(row: TrainingCheckpoint) -> LowNoiseOut | None:
    if row.low_noise is None or row.low_noise_sha256 is None:
        return None
    return LowNoiseOut(
        size_bytes=row.low_noise["size"],
        sha256=row.low_noise_sha256,
        download_url=f"{checkpoint_path(row.job_id, row.epoch)}?noise=low",
    )


def list_sample_rows(db: Session, viewer: User | None, training_id: str) -> list[SampleRow]:
    """All samples of a training, the row without the LoRA first. Errors: NotFound."""
    job, _ = get_training(db, viewer, training_id)
    return [
        SampleRow(**_sample_out(row).model_dump(), epoch=row.epoch, step=row.step, thumb_url=poster_path(row))
        for row in list_samples(db, job.id)
    ]


def _sample_out(row: TrainingSample) -> SampleOut:
    return SampleOut(
        prompt_index=row.prompt_index,
        prompt=row.prompt,
        seed=row.seed,
        url=sample_path(row.job_id, row.id),
        baseline=row.baseline,
        width=row.width,
        height=row.height,
        media="video" if row.is_clip else "image",
        frames=row.frames,
        fps=row.fps,
        poster_url=poster_path(row) if row.is_clip else None,
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


def get_poster(db: Session, viewer: User | None, training_id: str, sample_id: int) -> str:
    """sha256 of a clip's poster. Errors: NotFound, for pictures too."""
    row = get_sample(db, viewer, training_id, sample_id)
    if row.poster_sha256 is None:
        raise NotFound("This sample is a picture; only clips have a poster.")
    return row.poster_sha256


def file_of(row: TrainingCheckpoint, *, low_noise: bool = False) -> tuple[str, str]:
    """(sha256, name) of an epoch's file. Errors: NotFound for low noise where there is one file alone."""
    if not low_noise:
        return row.blob_sha256, row.name
    if row.low_noise is None or row.low_noise_sha256 is None:
        raise NotFound("This epoch is one file; only models with two experts have one for low noise.")
    return row.low_noise_sha256, row.low_noise["name"]


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
