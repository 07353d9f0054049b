"""What the tests of trainings and generations start from: an installed base, a set, a run with epochs."""

import hashlib
import json
from io import BytesIO
from typing import Any

from PIL import Image
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.events import Checkpoint, Finished, Sample
from app.gallery.models import ModelVersion
from app.jobs.models import Job
from app.training import service
from app.training.schemas import TrainingIn
from tests.factories import make_blob, make_dataset, make_file, make_model, make_version


def make_base(db: Session, user: User, **fields: Any) -> ModelVersion:
    """A public checkpoint of the starter family."""
    model = make_model(db, user, "Starter 1", type="Checkpoint", visibility="public")
    values = {"base_model": "Starter 1", "family": "starter", "status": "Published"} | fields
    version = make_version(db, model, **values)
    make_file(db, version, format="Diffusers", name="starter-1.zip")
    db.refresh(version)
    return version


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
        done = Finished(outcome="succeeded", recommended_epoch=epochs, recommended_reason="last", steps=20)
        job.output = service.complete_training(db, job, done)
        job.status = "succeeded"
        db.flush()
    return job


def adapter_bytes(words: str) -> tuple[bytes, str]:
    """(a small safetensors file, sha256 of its tensors' bytes)."""
    tensors = hashlib.sha256(words.encode()).digest()
    header = {"lora.lora_down.weight": {"dtype": "F32", "shape": [8], "data_offsets": [0, len(tensors)]}}
    raw = json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + tensors, hashlib.sha256(tensors).hexdigest()


def deliver_epoch(db: Session, job: Job, epoch: int) -> tuple[str, str]:
    """One epoch with a sample of it; gives their addresses."""
    data, tensors = adapter_bytes(f"{job.id} {epoch}")
    blob = make_blob(db, data)
    event = Checkpoint(
        epoch=epoch,
        step=epoch * 10,
        path=f"epochs/Tuscany-{epoch:06d}.safetensors",
        size=blob.size,
        sha256=blob.sha256,
        tensor_sha256=tensors,
        loss=0.1,
        validation_loss=0.2 / epoch,
    )
    return service.add_checkpoint(db, job, event, blob), deliver_sample(db, job, epoch)


def deliver_sample(
    db: Session, job: Job, epoch: int, *, baseline: bool = False, step: int | None = None
) -> str:
    """A sample of an epoch's end, or of the given step before it."""
    out = BytesIO()
    Image.new("RGB", (64, 64), (20 * epoch, 90, 40)).save(out, "PNG")
    blob = make_blob(db, out.getvalue(), "image/png")
    event = Sample(
        epoch=epoch,
        step=epoch * 10 if step is None else step,
        prompt_index=0,
        prompt="tuscany, olive tree",
        seed=1,
        baseline=baseline,
        path=f"samples/{epoch}.png",
        width=64,
        height=64,
    )
    return service.add_sample(db, job, event, blob)
