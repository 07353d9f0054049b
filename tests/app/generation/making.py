"""What the generator's tests are made from: pictures as bytes, embeddings, VAEs, finished drawings."""

import io
from typing import Any

from PIL import Image as Pillow
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.events import Picture
from app.contract.jobs import GenerateJob
from app.gallery.models import ModelVersion
from app.generation import service
from app.generation.schemas import GenerationIn
from app.images.models import Image
from app.jobs.models import Job
from tests.factories import make_blob, make_file, make_model, make_version
from worker.inference import infotext


def body(version_id: int, **fields: Any) -> GenerationIn:
    return GenerationIn.model_validate({"model_version_id": version_id, "prompt": "red house"} | fields)


def png(text: str = "", *, size: tuple[int, int] = (128, 96), color: str = "#a8472a") -> bytes:
    """A PNG with an infotext in it."""
    return infotext.embed_png(Pillow.new("RGB", size, color), text)


def pixels_of(data: bytes) -> Pillow.Image:
    return Pillow.open(io.BytesIO(data))


def make_component(db: Session, user: User, kind: str, stem: str, **fields: Any) -> ModelVersion:
    """A published model of another type for the starter, e.g. a VAE or an embedding."""
    model = make_model(db, user, stem.title(), type=kind, visibility="public")
    version = make_version(db, model, **{"base_model": "Starter 1", "status": "Published"} | fields)
    make_file(db, version, name=f"{stem}.safetensors", format="SafeTensor")
    db.refresh(version)
    return version


def deliver(db: Session, job: Job, index: int = 0) -> Image:
    """Picture `index` of a job, as a worker hands it over."""
    payload = GenerateJob.model_validate(job.payload)
    event = Picture(
        index=index, seed=payload.seeds[index], path=f"{index:03d}.png", width=128, height=96, infotext=""
    )
    return service.add_picture(db, job, event, make_blob(db, png(f"{index}"), "image/png"))
