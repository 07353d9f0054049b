"""From an epoch to a model page: a version with its file, its facts and its sample pictures."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.jobs import SamplePrompt, TrainJob
from app.core.blobs import Blob
from app.core.errors import Conflict
from app.gallery import service as gallery
from app.gallery.files import add_file
from app.gallery.models import Model, ModelVersion
from app.images import service as images
from app.jobs.models import Job
from app.training.models import TrainingCheckpoint, TrainingRun, TrainingSample
from app.training.schemas import PublishIn
from app.training.service import get_checkpoint, get_training, list_samples
from worker.families import catalog
from worker.inference import infotext as texts


def publish_checkpoint(db: Session, user: User, training_id: str, body: PublishIn) -> Model:
    """Make a version of one epoch, with its samples as pictures or clips; two experts are two files of it.

    Errors: NotFound, Conflict (twice).
    """
    job, run = get_training(db, user, training_id)
    checkpoint = get_checkpoint(db, user, training_id, body.checkpoint)
    _refuse_twice(db, job.id, checkpoint.blob_sha256)
    payload = TrainJob.model_validate(job.payload)
    version = gallery.create_trained_version(
        db,
        user,
        model_id=body.model_id,
        name=body.name or run.name,
        version_name=body.version_name or f"v1 · epoch {body.checkpoint}",
        blob=db.get_one(Blob, checkpoint.blob_sha256),
        file_name=checkpoint.name,
        tensor_sha256=checkpoint.tensor_sha256,
        base=payload.base,
        category=run.type,
        trained_words=_trained_words(run, body),
        training_details=_details(payload, run, checkpoint, media=job.input.get("media", "image")),
        strength=body.strength,
        clip_skip=payload.params.clip_skip,
        training_job_id=job.id,
        description=body.description,
        tags=body.tags,
        rating=body.rating,
        permissions=body.permissions.model_dump(),
    )
    if checkpoint.low_noise and checkpoint.low_noise_sha256:
        second = db.get_one(Blob, checkpoint.low_noise_sha256)
        name, tensors = checkpoint.low_noise["name"], checkpoint.low_noise["tensor_sha256"]
        add_file(db, version, second, name=name, tensor_sha256=tensors)
    _add_pictures(db, user, version, job, body)
    run.model_id = version.model_id
    gallery.publish_version(db, user, version, body.visibility)
    return gallery.get_model(db, user, version.model_id)


def _refuse_twice(db: Session, job_id: str, sha256: str) -> None:
    published = gallery.find_trained_version(db, job_id, sha256)
    if published is not None:
        raise Conflict(
            f"This epoch is already published as “{published.model.name}”.",
            code="already-published",
            model_id=published.model_id,
        )


def _trained_words(run: TrainingRun, body: PublishIn) -> list[str]:
    if body.trained_words is not None:
        return body.trained_words
    return [run.trigger_word] if run.trigger_word else []


def _details(
    payload: TrainJob, run: TrainingRun, checkpoint: TrainingCheckpoint, *, media: str
) -> dict[str, Any]:
    return {
        "type": run.type,
        "mediaType": media,
        "images": len(payload.items),
        "steps": checkpoint.step,
        "epoch": checkpoint.epoch,
        "epochs": payload.params.epochs,
        "loss": checkpoint.loss,
        "validationLoss": checkpoint.validation_loss,
        "baseModel": payload.base.name,
        **({"vae": payload.base.vae.name} if payload.base.vae else {}),
        "params": payload.params.model_dump(),
    }


def _add_pictures(db: Session, user: User, version: ModelVersion, job: Job, body: PublishIn) -> None:
    payload = TrainJob.model_validate(job.payload)
    checkpoint = get_checkpoint(db, user, job.id, body.checkpoint)
    for position, row in enumerate(_samples_of(db, checkpoint)):
        prompt = payload.sample_prompts[row.prompt_index]
        image = images.create_sample(
            db,
            user,
            blob=db.get_one(Blob, row.blob_sha256),
            width=row.width,
            height=row.height,
            poster=db.get_one(Blob, row.poster_sha256) if row.poster_sha256 else None,
            frames=row.frames,
            fps=row.fps,
            prompt=row.prompt,
            negative_prompt=prompt.negative_prompt,
            seed=row.seed,
            base_model=payload.base.base_model,
            rating=body.rating,
            resources=_resources(payload, version),
            infotext=_infotext(payload, prompt, checkpoint),
        )
        gallery.add_picture(db, version, image, position)


def _samples_of(db: Session, checkpoint: TrainingCheckpoint) -> list[TrainingSample]:
    """The samples drawn with this very adapter, not those asked for in between."""
    rows = list_samples(db, checkpoint.job_id)
    return [s for s in rows if (s.epoch, s.step) == (checkpoint.epoch, checkpoint.step) and not s.baseline]


def _infotext(payload: TrainJob, prompt: SamplePrompt, checkpoint: TrainingCheckpoint) -> str:
    """The generation data that the trainer wrote into the picture."""
    defaults = catalog.specs()[payload.base.family].generation
    stem, digits = checkpoint.name.removesuffix(".safetensors"), checkpoint.tensor_sha256[:12]
    return texts.write(texts.describe_sample(payload, prompt, defaults, lora=stem, autov3=digits))


def _resources(payload: TrainJob, version: ModelVersion) -> list[dict[str, Any]]:
    base = {
        "kind": "checkpoint",
        "name": payload.base.name,
        "model_version_id": payload.base.model_version_id,
        "weight": None,
        "hash": payload.base.file.sha256[:10],
    }
    lora = {
        "kind": "lora",
        "name": version.model.name,
        "model_version_id": version.id,
        "weight": 1.0,
        "hash": "",
    }
    return [base, lora]


def top_tags(job: Job, count: int = 8) -> list[str]:
    """The tags that most of the snapshot shares, for the publish form; sentences give none."""
    if job.payload["label_type"] != "tag":
        return []
    found: dict[str, int] = {}
    for item in job.payload["items"]:
        for tag in {t.strip().lower() for t in item["label"].split(",") if 1 < len(t.strip()) <= 40}:
            found[tag] = found.get(tag, 0) + 1
    return [tag for tag, _ in sorted(found.items(), key=lambda kv: (-kv[1], kv[0]))[:count]]


def own_models(db: Session, user: User) -> list[Model]:
    """LoRA pages of this person that could get a new version."""
    query = select(Model).where(Model.user_id == user.id, Model.type == "LORA", Model.built_in.is_(False))
    return list(db.scalars(query.order_by(Model.id.desc()).limit(50)))
