"""What the tests of trainings and generations start from: an installed base, a set, a run with epochs."""

import hashlib
import json
from io import BytesIO
from typing import Any

from PIL import Image
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.events import AdapterFile, Checkpoint, Finished, Sample
from app.core.blobs import Blob
from app.datasets.models import Dataset
from app.gallery.models import ModelVersion
from app.jobs.models import Job
from app.training import service
from app.training.schemas import TrainingIn
from tests.factories import make_blob, make_dataset, make_file, make_item, make_model, make_version
from worker.families import catalog


def make_base(db: Session, user: User, **fields: Any) -> ModelVersion:
    """A public checkpoint of the starter family."""
    model = make_model(db, user, "Starter 1", type="Checkpoint", visibility="public")
    values = {"base_model": "Starter 1", "family": "starter", "status": "Published"} | fields
    version = make_version(db, model, **values)
    make_file(db, version, format="Diffusers", name="starter-1.zip")
    db.refresh(version)
    return version


def make_clip_base(db: Session, user: User, family: str = "video_starter") -> ModelVersion:
    """A public checkpoint of a family that trains on clips."""
    model = make_model(db, user, "Video Starter 1", type="Checkpoint", visibility="public")
    spec = catalog.specs()[family]
    version = make_version(
        db, model, base_model=spec.base_model, family=family, status="Published", steps=None
    )
    make_file(db, version, format="Diffusers", name="video-starter-1.zip")
    db.refresh(version)
    return version


def make_clips(db: Session, user: User, *, items: int = 6, frames: int = 24, fps: float = 8.0) -> Dataset:
    """A labelled set of clips, each of `frames` frames at `fps`."""
    dataset = make_dataset(db, user, "Boats", media="video", label_type="caption")
    for position in range(items):
        clip = {"fps": fps, "frames": frames, "duration": frames / fps}
        label = f"A boat sails left, {position}."
        make_item(db, dataset, position, clip=clip, label=label, strip_sha256=make_blob(db).sha256)
    return dataset


def clip_body(db: Session, user: User, *, family: str = "video_starter", **fields: Any) -> TrainingIn:
    """A request that can start: a labelled set of clips on a new base."""
    values: dict[str, Any] = {
        "name": "Boats",
        "type": "concept",
        "dataset": make_clips(db, user).id,
        "base": {"model_version_id": make_clip_base(db, user, family).id},
        "trigger_word": "b0at",
    }
    return TrainingIn.model_validate(values | fields)


def make_clip_training(db: Session, user: User, *, epochs: int = 0, two_files: bool = False) -> Job:
    """As make_training, on clips: samples are clips with posters, epochs two files if wanted."""
    family = "wan22_a14b" if two_files else "video_starter"
    job = service.start_training(db, user, clip_body(db, user, family=family))
    for epoch in range(1, epochs + 1):
        deliver_epoch(db, job, epoch, two_files=two_files, clip=True)
    if epochs:
        deliver_sample(db, job, 0, baseline=True, clip=True)
        finish(db, job, epochs)
    return job


def finish(db: Session, job: Job, epochs: int) -> None:
    done = Finished(outcome="succeeded", recommended_epoch=epochs, recommended_reason="last", steps=20)
    job.output = service.complete_training(db, job, done)
    job.status = "succeeded"
    db.flush()


def make_lora(db: Session, user: User, base_model: str = "Starter 1", **fields: Any) -> ModelVersion:
    model = make_model(db, user, "Windmills", visibility="public")
    version = make_version(db, model, base_model=base_model, status="Published", **fields)
    make_file(db, version, name="windmills.safetensors")
    db.refresh(version)
    return version


def training_body(db: Session, user: User, *, items: int = 10, **fields: Any) -> TrainingIn:
    """A request that can start: a labelled set of `items` pictures on a new base."""
    dataset = make_dataset(db, user, items=items)
    values: dict[str, Any] = {
        "name": "Tuscany",
        "type": "style",
        "dataset": dataset.id,
        "base": {"model_version_id": make_base(db, user).id},
        "trigger_word": "tuscany",
    }
    return TrainingIn.model_validate(values | fields)


def make_training(db: Session, user: User, *, epochs: int = 0, **fields: Any) -> Job:
    """A queued training; with `epochs`, one that delivered that many and is finished."""
    job = service.start_training(db, user, training_body(db, user, **fields))
    for epoch in range(1, epochs + 1):
        deliver_epoch(db, job, epoch)
    if epochs:
        deliver_sample(db, job, 0, baseline=True)
        finish(db, job, epochs)
    return job


def adapter_bytes(words: str) -> tuple[bytes, str]:
    """(a small safetensors file, sha256 of its tensors' bytes)."""
    tensors = hashlib.sha256(words.encode()).digest()
    header = {"lora.lora_down.weight": {"dtype": "F32", "shape": [8], "data_offsets": [0, len(tensors)]}}
    raw = json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + tensors, hashlib.sha256(tensors).hexdigest()


def deliver_epoch(
    db: Session, job: Job, epoch: int, *, two_files: bool = False, clip: bool = False
) -> tuple[str, str]:
    """One epoch with a sample of it; gives their addresses."""
    path = f"epochs/Tuscany-{epoch:06d}{'_high_noise' if two_files else ''}.safetensors"
    file, blob = _adapter(db, path, f"{job.id} {epoch}")
    second, beside = None, None
    if two_files:
        second, beside = _adapter(db, path.replace("high", "low"), f"{job.id} {epoch} low")
    event = Checkpoint(
        epoch=epoch,
        step=epoch * 10,
        **file.model_dump(),
        loss=0.1,
        validation_loss=0.2 / epoch,
        low_noise=second,
    )
    address = service.add_checkpoint(db, job, event, blob, low_noise=beside)
    return address, deliver_sample(db, job, epoch, clip=clip)


def _adapter(db: Session, path: str, words: str) -> tuple[AdapterFile, Blob]:
    data, tensors = adapter_bytes(words)
    blob = make_blob(db, data)
    return AdapterFile(path=path, size=blob.size, sha256=blob.sha256, tensor_sha256=tensors), blob


def deliver_sample(
    db: Session, job: Job, epoch: int, *, baseline: bool = False, step: int | None = None, clip: bool = False
) -> str:
    """A sample of an epoch's end, or of the given step before it."""
    out = BytesIO()
    Image.new("RGB", (64, 64), (20 * epoch, 90, 40)).save(out, "JPEG" if clip else "PNG")
    still = make_blob(db, out.getvalue(), "image/jpeg" if clip else "image/png")
    event = Sample(
        epoch=epoch,
        step=epoch * 10 if step is None else step,
        prompt_index=0,
        prompt="tuscany, olive tree",
        seed=1,
        baseline=baseline,
        path=f"samples/{epoch}.{'mp4' if clip else 'png'}",
        width=64,
        height=64,
        frames=17 if clip else 1,
        fps=8.0 if clip else None,
        poster=f"samples/{epoch}.jpg" if clip else None,
    )
    if not clip:
        return service.add_sample(db, job, event, still)
    movie = make_blob(db, f"movie {job.id} {epoch} {step}".encode(), "video/mp4")
    return service.add_sample(db, job, event, movie, poster=still)
