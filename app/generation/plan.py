"""From a request to the job that a worker gets: every default filled in, every name resolved, once.

The dry run, the form's footer, the job and its echo all come from here, so they agree.
"""

import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.family import FamilySpec
from app.contract.jobs import CheckpointRef, GenerateJob, Hires, LoraRef
from app.contract.samplers import AUTOMATIC, joined_name, split_sampler
from app.gallery import refs
from app.generation.clips import of_job, samplers_of
from app.generation.grid import add_grid
from app.generation.limits import check
from app.generation.resolve import Resources, resolve
from app.generation.schemas import MAX_SEED, GenerationIn
from app.generation.sources import keep_data, start_picture
from app.training.plan import family_spec, threads
from app.training.schemas import Warned


@dataclass(frozen=True)
class Planned:
    """A generation that could start now. `notes` are what a person should know before it does.

    `body` is the request, with pictures that came inside it kept as uploads.
    """

    body: GenerationIn
    job: GenerateJob
    spec: FamilySpec
    notes: list[Warned]


def plan_generation(db: Session, user: User, body: GenerationIn) -> Planned:
    """Resolve everything. Errors: Invalid with one entry a wrong field, NotFound for models."""
    base = refs.checkpoint_ref(
        db, user, body.model_version_id, vae_version_id=body.vae_version_id,
        text_encoder_version_id=body.text_encoder_version_id,
    )  # fmt: skip
    spec = family_spec(base)
    check(body, spec)
    body = keep_data(db, user, body)
    found = resolve(db, user, body, base)
    job = _job(body, spec, base, found).model_copy(update={"start": start_picture(db, user, body, spec)})
    if body.grid is not None:
        job = add_grid(db, user, body, job, spec)
    return Planned(body, job, spec, found.notes)


def _job(body: GenerationIn, spec: FamilySpec, base: CheckpointRef, found: Resources) -> GenerateJob:
    defaults = spec.generation
    sampler, schedule = split_sampler(body.sampler or defaults.sampler, body.schedule or AUTOMATIC)
    return GenerateJob(
        base=base,
        loras=tuple(found.loras),
        embeddings=tuple(found.embeddings),
        prompt=found.prompt,
        negative_prompt=body.negative_prompt or "",
        sampler=sampler,
        schedule=samplers_of(spec)[sampler].automatic if schedule == AUTOMATIC else schedule,
        steps=body.steps or defaults.steps,
        cfg_scale=body.cfg_scale if body.cfg_scale is not None else defaults.cfg_scale,
        width=body.width or defaults.width,
        height=body.height or defaults.height,
        seeds=_seeds(body),
        clip_skip=body.clip_skip or defaults.clip_skip,
        hires=Hires.model_validate(body.hires.model_dump()) if body.hires else None,
        threads=threads(),
        **of_job(body, spec),
    )


def _seeds(body: GenerationIn) -> tuple[int, ...]:
    first = secrets.randbelow(MAX_SEED + 1) if body.seed in (None, -1) else int(body.seed or 0)
    return tuple((first + n) % (MAX_SEED + 1) for n in range(body.quantity or 1))


def echo(planned: Planned) -> dict[str, Any]:
    """The request with everything resolved, as the job shows it."""
    body, job = planned.body, planned.job
    shared = {
        "prompt", "negative_prompt", "steps", "cfg_scale", "width", "height", "clip_skip", "frames", "fps",
        "shift",
    }  # fmt: skip
    return {
        "model_version_id": body.model_version_id,
        "model": job.base.name,
        "vae_version_id": body.vae_version_id,
        "text_encoder_version_id": body.text_encoder_version_id,
        "resources": [_lora(lora) for lora in job.loras],
        "embeddings": [
            {"model_version_id": each.model_version_id, "name": each.name} for each in job.embeddings
        ],
        "checkpoint_of_training": _dumped(body.checkpoint_of_training),
        "seed": job.seeds[0],
        "quantity": None if job.grid else len(job.seeds),
        "sampler": joined_name(job.sampler, job.schedule),
        "schedule": job.schedule,
        "init_image": _dumped(body.init_image),
        "denoise": job.start.denoise if job.start else None,
        "mask": _dumped(body.mask),
        "mask_blur": job.start.mask_blur if job.start and job.start.mask else None,
        "mask_padding": job.start.mask_padding if job.start else None,
        "hires": job.hires.model_dump() if job.hires else None,
        "grid": _dumped(body.grid),
        "warnings": [note.model_dump() for note in planned.notes],
        **job.model_dump(include=shared),
    }


def _lora(lora: LoraRef) -> dict[str, Any]:
    return {
        "model_version_id": lora.model_version_id,
        "name": lora.name,
        "strength": lora.strength,
        "text_encoder_strength": lora.text_encoder_strength,
    }


def _dumped(part: Any) -> dict[str, Any] | None:
    return part.model_dump(exclude_none=True) if part is not None else None
