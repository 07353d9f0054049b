"""Generations: from a form to a job, and from each finished picture to a row in the images.

`add_picture` and `complete_generation` run inside the worker's fenced transactions. Picture i
of a job is written once: the same one again after a restart finds its row.
"""

import secrets
from statistics import median
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.events import Finished, Picture
from app.contract.family import FamilySpec
from app.contract.jobs import BlobRef, CheckpointRef, GenerateJob, LoraRef
from app.contract.samplers import SAMPLERS, split_sampler
from app.core.blobs import Blob
from app.core.errors import FieldError, Invalid
from app.gallery.refs import checkpoint_ref, lora_ref
from app.generation.schemas import DENOISE, MAX_SEED, GenerationEstimate, GenerationIn
from app.images import service as images
from app.images.models import Image
from app.jobs import service as jobs
from app.jobs import workers
from app.jobs.models import Job
from app.training import service as training
from app.training.plan import family_spec, threads


def start_generation(db: Session, user: User, body: GenerationIn) -> Job:
    """Queue the pictures. Errors: Invalid with one entry a wrong field, NotFound for models."""
    job = plan_generation(db, user, body)
    return jobs.enqueue(
        db,
        user,
        type="generation",
        queue="generate",
        title=(job.prompt or job.base.name)[:200],
        input=_echo(body, job),
        payload=job.model_dump(mode="json"),
        webhook=body.webhook.model_dump() if body.webhook else None,
    )


def plan_generation(db: Session, user: User, body: GenerationIn) -> GenerateJob:
    base = checkpoint_ref(db, user, body.model_version_id)
    spec = family_spec(base)
    defaults = spec.generation
    _check(body, spec)
    first = secrets.randbelow(MAX_SEED + 1) if body.seed in (None, -1) else int(body.seed or 0)
    quantity = body.quantity or 1
    return GenerateJob(
        base=base,
        loras=_loras(db, user, body, base),
        prompt=body.prompt,
        negative_prompt=body.negative_prompt or "",
        sampler=body.sampler or defaults.sampler,
        steps=body.steps or defaults.steps,
        cfg_scale=body.cfg_scale if body.cfg_scale is not None else defaults.cfg_scale,
        width=body.width or defaults.width,
        height=body.height or defaults.height,
        seeds=tuple((first + n) % (MAX_SEED + 1) for n in range(quantity)),
        clip_skip=body.clip_skip or defaults.clip_skip,
        threads=threads(),
    )


def _check(body: GenerationIn, spec: FamilySpec) -> None:
    """What pydantic cannot know: the limits of this family."""
    limits = spec.generation
    wrong = []
    if body.sampler is not None and split_sampler(body.sampler)[0] not in SAMPLERS:
        wrong.append(FieldError("#/sampler", f"choose one of {', '.join(SAMPLERS)}", "enum"))
    if body.steps is not None and body.steps > limits.max_steps:
        wrong.append(FieldError("#/steps", f"give at most {limits.max_steps}", "out-of-range"))
    if body.quantity is not None and body.quantity > limits.max_quantity:
        wrong.append(FieldError("#/quantity", f"give at most {limits.max_quantity}", "out-of-range"))
    if body.denoise not in (None, DENOISE):
        wrong.append(FieldError("#/denoise", "has a meaning only with init_image", "no-effect"))
    for name, pixels in (("width", body.width), ("height", body.height)):
        if pixels is None:
            continue
        if pixels % limits.multiple or not limits.min_side <= pixels <= limits.max_side:
            words = f"give {limits.min_side} to {limits.max_side} pixels in steps of {limits.multiple}"
            wrong.append(FieldError(f"#/{name}", words, "out-of-range"))
    if wrong:
        listed = "; ".join(f"{e.pointer[2:]}: {e.detail}" for e in wrong)
        raise Invalid(f"Please correct: {listed}.", wrong)


def _loras(db: Session, user: User, body: GenerationIn, base: CheckpointRef) -> tuple[LoraRef, ...]:
    loras = [lora_ref(db, user, r.model_version_id, r.strength) for r in body.resources]
    if body.checkpoint_of_training is not None:
        loras.append(_epoch(db, user, body))
    seen: set[str] = set()
    for n, lora in enumerate(loras):
        where = f"#/resources/{n}" if n < len(body.resources) else "#/checkpoint_of_training"
        if lora.base_model != base.base_model:
            words = f"{lora.name} was made for {lora.base_model}, not for {base.name} ({base.base_model})."
            raise Invalid(words, [FieldError(where, words, "lora-base-mismatch")], code="lora-base-mismatch")
        if lora.file.sha256 in seen:
            words = f"{lora.name} is in the list twice. Remove one and set its strength instead."
            raise Invalid(words, [FieldError(where, words, "duplicate-lora")], code="duplicate-lora")
        seen.add(lora.file.sha256)
    return tuple(loras)


def _epoch(db: Session, user: User, body: GenerationIn) -> LoraRef:
    source = body.checkpoint_of_training
    assert source is not None
    row = training.get_checkpoint(db, user, source.id, source.epoch)
    job, _ = training.get_training(db, user, source.id)
    return LoraRef(
        file=BlobRef(sha256=row.blob_sha256, size=row.size, name=row.name),
        name=row.name.removesuffix(".safetensors"),
        strength=0.8 if source.strength is None else source.strength,
        base_model=job.payload["base"]["base_model"],
        autov3=row.tensor_sha256[:12],
    )


def _echo(body: GenerationIn, job: GenerateJob) -> dict[str, Any]:
    return {
        "model_version_id": body.model_version_id,
        "model": job.base.name,
        "resources": [
            {"model_version_id": lora.model_version_id, "name": lora.name, "strength": lora.strength}
            for lora in job.loras
        ],
        "checkpoint_of_training": body.checkpoint_of_training.model_dump()
        if body.checkpoint_of_training
        else None,
        "seed": job.seeds[0],
        "quantity": len(job.seeds),
        **job.model_dump(
            include={
                "prompt",
                "negative_prompt",
                "sampler",
                "steps",
                "cfg_scale",
                "width",
                "height",
                "clip_skip",
            }
        ),
    }


def estimate(db: Session, user: User, body: GenerationIn) -> GenerationEstimate:
    job = plan_generation(db, user, body)
    waiting = (
        select(func.count())
        .select_from(Job)
        .where(Job.queue == "generate", Job.status.in_(("queued", "starting", "running")))
    )
    return GenerationEstimate(
        eta_seconds=eta_seconds(db, job.base.family, _work(job)),
        input=_echo(body, job),
        queue_position=int(db.scalar(waiting) or 0),
    )


def eta_seconds(db: Session, family: str, work: float) -> float | None:
    """Seconds for `work`, from the last pictures of this family; None before the first."""
    query = (
        select(Job.metrics)
        .where(Job.type == "generation", Job.status == "succeeded", Job.metrics["family"].astext == family)
        .order_by(Job.seq.desc())
        .limit(8)
    )
    rates = [
        m["run_seconds"] / m["work"] for m in db.scalars(query) if m.get("run_seconds") and m.get("work")
    ]
    return round(median(rates) * work, 1) if rates else None


def _work(job: GenerateJob) -> float:
    """Pixels times steps: what time grows with."""
    return float(len(job.seeds) * job.steps * job.width * job.height)


def add_picture(db: Session, job: Job, event: Picture, blob: Blob) -> Image:
    """Make the private picture of a finished drawing."""
    payload = GenerateJob.model_validate(job.payload)
    return images.create_generated(
        db,
        job,
        blob=blob,
        index=event.index,
        width=event.width,
        height=event.height,
        infotext=event.infotext,
        prompt=payload.prompt,
        negative_prompt=payload.negative_prompt,
        base_model=payload.base.base_model,
        meta=_meta(payload, event),
        resources=_resources(payload),
    )


def _meta(job: GenerateJob, event: Picture) -> dict[str, Any]:
    """Generation data with Civitai's key names."""
    return {
        "prompt": job.prompt,
        "negativePrompt": job.negative_prompt,
        "sampler": job.sampler,
        "steps": job.steps,
        "cfgScale": job.cfg_scale,
        "seed": event.seed,
        "Size": f"{event.width}x{event.height}",
        "clipSkip": job.clip_skip,
        "Model": job.base.name,
        "Model hash": job.base.file.sha256[:10],
        "resources": [
            {"type": "lora", "name": lora.name, "weight": lora.strength, "hash": lora.autov3}
            for lora in job.loras
        ],
    }


def _resources(job: GenerateJob) -> list[dict[str, Any]]:
    base = {
        "kind": "checkpoint",
        "name": job.base.name,
        "model_version_id": job.base.model_version_id,
        "weight": None,
        "hash": job.base.file.sha256[:10],
    }
    loras = [
        {
            "kind": "lora",
            "name": lora.title or lora.name,
            "model_version_id": lora.model_version_id,
            "weight": lora.strength,
            "hash": lora.autov3,
        }
        for lora in job.loras
    ]
    return [base, *loras]


def complete_generation(db: Session, job: Job, finished: Finished) -> dict[str, Any]:
    """Figures for later estimates; gives the job's `output`."""
    payload = GenerateJob.model_validate(job.payload)
    job.metrics = {
        **(job.metrics or {}),
        "run_seconds": finished.run_seconds,
        "peak_memory_bytes": finished.peak_memory_bytes,
        "family": payload.base.family,
        "work": _work(payload),
    }
    return {"images": [_image_out(image) for image in pictures_of(db, job)]}


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
    }


def unfinished(db: Session, user: User) -> list[dict[str, Any]]:
    """Cards of this person's generations that are not done, newest first."""
    query = (
        select(Job)
        .where(Job.user_id == user.id, Job.type == "generation", Job.completed_at.is_(None))
        .order_by(Job.seq.desc())
        .limit(20)
    )
    return [card(db, job) for job in db.scalars(query)]


def card(db: Session, job: Job) -> dict[str, Any]:
    """What the generator's queue shows of one job."""
    payload = GenerateJob.model_validate(job.payload)
    ahead = jobs.queue_positions(db, [job]).get(job.id, 1) - 1
    served = job.queue in workers.served_queues(db)
    return {
        "job": job,
        "payload": payload,
        "pictures": pictures_of(db, job),
        "ahead": ahead,
        "served": served,
    }
