"""Generations: from a request to a job, and from each finished picture to a row in the images.

`add_picture` and `complete_generation` run inside the worker's fenced transactions. Picture i
of a job is written once: the same one again after a restart finds its row.
"""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.events import Finished, Picture, Unplaced
from app.contract.jobs import GenerateJob
from app.contract.passes import picture_job
from app.core.blobs import Blob
from app.core.errors import NotFound
from app.core.storage import get_storage
from app.generation.estimate import eta_seconds, work
from app.generation.facts import image_meta, image_resources
from app.generation.plan import echo, plan_generation
from app.generation.schemas import GenerationEstimate, GenerationIn
from app.images import service as images
from app.images.models import Image
from app.images.paths import poster_path
from app.jobs import service as jobs
from app.jobs import workers
from app.jobs.models import Job


def start_generation(
    db: Session, user: User, body: GenerationIn, *, labels: dict[str, Any] | None = None
) -> Job:
    """Queue the pictures; `labels` say of the job who asked for it.

    Errors: Invalid with one entry a wrong field, NotFound for models.
    """
    planned = plan_generation(db, user, body)
    return jobs.enqueue(
        db,
        user,
        type="generation",
        queue="generate",
        title=(planned.job.prompt or planned.job.base.name)[:200],
        input=echo(planned),
        payload=planned.job.model_dump(mode="json"),
        webhook=body.webhook.model_dump() if body.webhook else None,
        labels=labels,
    )


def estimate(db: Session, user: User, body: GenerationIn) -> GenerationEstimate:
    """The dry run: how many pictures, how long, and all that a job would say of itself."""
    planned = plan_generation(db, user, body)
    return GenerationEstimate(
        pictures=len(planned.job.seeds),
        eta_seconds=eta_seconds(db, planned.job.base.family, work(planned.job)),
        input=echo(planned),
        queue_position=jobs.count_ahead(db, user.id, "generate"),
        warnings=planned.notes,
    )


def add_picture(db: Session, job: Job, event: Picture, blob: Blob, poster: Blob | None = None) -> Image:
    """Make the private picture of a finished drawing; of a clip with its `poster`."""
    payload = picture_job(GenerateJob.model_validate(job.payload), event.index)
    return images.create_generated(
        db,
        job,
        blob=blob,
        index=event.index,
        width=event.width,
        height=event.height,
        poster=poster,
        frames=event.frames,
        fps=event.fps,
        infotext=event.infotext,
        prompt=payload.prompt,
        negative_prompt=payload.negative_prompt,
        base_model=payload.base.base_model,
        meta=image_meta(payload, event),
        resources=image_resources(payload, job.input.get("vae_version_id")),
    )


def complete_generation(db: Session, job: Job, finished: Finished) -> dict[str, Any]:
    """Figures for later estimates; gives the job's `output`."""
    payload = GenerateJob.model_validate(job.payload)
    job.metrics = {
        **(job.metrics or {}),
        "run_seconds": finished.run_seconds,
        "peak_memory_bytes": finished.peak_memory_bytes,
        "family": payload.base.family,
        "work": work(payload),
    }
    return {
        "images": [_image_out(image) for image in pictures_of(db, job)],
        "unplaced": [unplaced.model_dump(mode="json") for unplaced in finished.unplaced],
    }


def pictures_of(db: Session, job: Job) -> list[Image]:
    return list(db.scalars(select(Image).where(Image.job_id == job.id).order_by(Image.job_index)))


def file_path(image: Image) -> str:
    return f"/api/v1/images/{image.id}/file"


def _image_out(image: Image) -> dict[str, Any]:
    return {
        "id": image.id,
        "url": file_path(image),
        "width": image.width,
        "height": image.height,
        "seed": image.meta.get("seed"),
        "infotext": image.infotext,
        "media_type": image.media_type,
        **({**image.clip_facts, "poster_url": poster_path(image)} if image.is_clip else {}),
    }


def get_generation(db: Session, viewer: User, job_id: str) -> tuple[Job, GenerateJob]:
    """A generation of one's own with what it draws. Errors: NotFound, also for jobs of another kind."""
    job = jobs.get_job(db, viewer, job_id)
    if job.type != "generation":
        raise NotFound("There is no such generation, or it is not yours.")
    return job, GenerateJob.model_validate(job.payload)


def get_preview(db: Session, viewer: User, job_id: str) -> bytes:
    """How the picture that is being drawn looks so far, as JPEG. Errors: NotFound."""
    job, _ = get_generation(db, viewer, job_id)
    try:
        return get_storage().get(preview_key(job))
    except FileNotFoundError as error:
        raise NotFound("There is no preview of this picture any more.") from error


def preview_key(job: Job) -> str:
    """Where a worker leaves it, beside the other files of its fence."""
    return f"jobs/{job.id}/{job.fence}/preview.jpg"


def unfinished(db: Session, user: User) -> list[dict[str, Any]]:
    """Cards of this person's generations that are not done, newest first."""
    query = (
        select(Job)
        .where(Job.user_id == user.id, Job.type == "generation", Job.completed_at.is_(None))
        .order_by(Job.seq.desc())
        .limit(20)
    )
    return [card(db, job) for job in db.scalars(query)]


def _unplaced(job: Job) -> list[dict[str, str]]:
    """What of the LoRAs did nothing, as notes of the card."""
    found = [Unplaced.model_validate(one) for one in (job.output or {}).get("unplaced") or []]
    return [{"detail": unplaced.words} for unplaced in found]


def card(db: Session, job: Job) -> dict[str, Any]:
    """What the generator's queue shows of one job."""
    payload = GenerateJob.model_validate(job.payload)
    ahead = jobs.queue_positions(db, [job]).get(job.id, 1) - 1
    served = job.queue in workers.served_queues(db)
    pictures = pictures_of(db, job)
    return {
        "job": job,
        "payload": payload,
        "pictures": {image.job_index: image for image in pictures},
        "notes": [*(job.input.get("warnings") or []), *_unplaced(job)],
        "ahead": ahead,
        "served": served,
        "drawn": len(pictures),
    }
