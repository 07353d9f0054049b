"""From A1111's request to our own, and from the finished job to its answer: pictures, and `info` on them."""

import base64
import io
import json
from typing import Any

from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session

from app.accounts.deps import Identity
from app.accounts.models import User
from app.compat import a1111_options as options
from app.compat.a1111_fields import (
    Img2Img,
    Txt2Img,
    hires_of,
    not_done,
    refuse_scripts,
    sampler_of,
    schedule_of,
)
from app.contract.jobs import GenerateJob
from app.contract.samplers import joined_name
from app.contract.states import JobState
from app.core.blobs import blob_key
from app.core.errors import FieldError, Invalid, NotFound
from app.core.storage import Storage
from app.generation.filled import Filled, bring_into_limits
from app.generation.masks import keep_mask, picture_size
from app.generation.schemas import GenerationIn
from app.generation.sources import at_field, bytes_of, keep_picture
from app.images.models import Image
from app.jobs.models import Job
from app.web.forms import checked
from worker.families.catalog import specs
from worker.inference.infotext import read

FACE = "a1111"
ECHO_WITHOUT = {"init_images", "mask"}
IN_INFO = {
    "Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size", "Model hash", "Model", "VAE hash",
    "VAE", "Denoising strength", "Clip skip", "RNG", "Version",
}  # fmt: skip
"""Settings of an infotext that `info` has under keys of its own, or that say nothing of the picture."""


def body_of(db: Session, user: User, identity: Identity, wanted: Txt2Img) -> GenerationIn:
    """The request as our own. Errors: Invalid with one entry a wrong field; NotFound: models, samplers."""
    refuse_scripts(wanted)
    kept = options.get_options(identity)
    chosen = options.changed(db, user, kept, wanted.override_settings or {})
    choice, _ = options.current(db, user, chosen)
    fields: dict[str, Any] = {
        "model_version_id": choice.version_id,
        "vae_version_id": chosen.vae,
        "clip_skip": chosen.clip_skip,
        "sampler": sampler_of(wanted),
        "schedule": schedule_of(wanted.scheduler),
        "hires": hires_of(wanted),
        "quantity": wanted.pictures,
        "negative_prompt": wanted.negative_prompt or "",
        "seed": -1 if wanted.seed is None else wanted.seed,
        **wanted.model_dump(include={"prompt", "steps", "cfg_scale", "width", "height"}),
    }
    if isinstance(wanted, Img2Img):
        fields |= _start(db, user, wanted, choice.family or "")
    return checked(GenerationIn, **fields)


def _start(db: Session, user: User, wanted: Img2Img, family: str) -> dict[str, Any]:
    """The start picture and the mask, kept. Errors: NotFound without a picture, Invalid."""
    pictures = wanted.init_images or []
    if not pictures:
        raise NotFound("Init image not found")
    if len(pictures) > 1:
        words = "send one start picture; several are several requests"
        raise Invalid(f"Please correct: {words}.", [FieldError("#/init_image", words, "too-many")])
    with at_field("#/init_image"):
        upload = keep_picture(db, user, io.BytesIO(bytes_of(pictures[0], bare=True)))
    fields: dict[str, Any] = {"init_image": upload.id}
    if wanted.denoising_strength is not None:
        fields["denoise"] = wanted.denoising_strength
    if wanted.width is None and wanted.height is None:
        fields |= size_like(db, user, upload.id, family)
    return fields | (_mask(db, user, wanted) if wanted.mask else {})


def _mask(db: Session, user: User, wanted: Img2Img) -> dict[str, Any]:
    with at_field("#/mask"):
        data = bytes_of(wanted.mask or "", bare=True)
        mask = keep_mask(db, user, data, drawn="opaque", invert=bool(wanted.inpainting_mask_invert))
    blur = wanted.mask_blur if wanted.mask_blur is not None else wanted.mask_blur_x
    padding = (wanted.inpaint_full_res_padding or 0) if wanted.inpaint_full_res else None
    return {"mask": {"upload": mask.id}, "mask_blur": blur, "mask_padding": padding}


def size_like(db: Session, user: User, upload_id: str, family: str) -> dict[str, Any]:
    """The size of a kept picture, brought to one that the family draws."""
    width, height = picture_size(db, user, upload_id)
    filled = Filled(fields={"width": width, "height": height})
    bring_into_limits(filled, specs()[family])
    return {name: filled.fields[name] for name in ("width", "height")}


def answer(storage: Storage, wanted: Txt2Img, job: Job, pictures: list[Image]) -> JSONResponse:
    """A finished job's pictures as base64, the request, and `info` as JSON in a string."""
    shown = [encoded(storage.get(blob_key(image.blob_sha256))) for image in pictures]
    if isinstance(wanted, Img2Img) and wanted.include_init_images:
        shown += wanted.init_images or []
    body = {
        "images": shown if wanted.send_images is not False else [],
        "parameters": json.loads(wanted.model_dump_json(exclude=ECHO_WITHOUT)),  # without NaN
        "info": json.dumps(info_of(wanted, job, pictures), ensure_ascii=False),
    }
    return JSONResponse(body, headers={"X-Job-Id": job.id})


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def info_of(wanted: Txt2Img, job: Job, pictures: list[Image]) -> dict[str, Any]:
    """All that A1111 tells of its pictures; `warnings` and `job_id` are our own."""
    payload = GenerateJob.model_validate(job.payload)
    seeds = [payload.seeds[image.job_index or 0] for image in pictures]
    told = read(pictures[0].infotext).settings if pictures else {}
    base, count = payload.base, len(pictures)
    negative = wanted.negative_prompt or ""
    second = payload.hires or payload.start
    return {
        "prompt": wanted.prompt,
        "all_prompts": [wanted.prompt] * count,
        "negative_prompt": negative,
        "all_negative_prompts": [negative] * count,
        "seed": payload.seeds[0],
        "all_seeds": seeds,
        "subseed": wanted.subseed if wanted.subseed is not None else -1,
        "all_subseeds": [wanted.subseed if wanted.subseed is not None else -1] * count,
        "subseed_strength": 0,
        "width": payload.width,
        "height": payload.height,
        "sampler_name": joined_name(payload.sampler, payload.schedule),
        "cfg_scale": payload.cfg_scale,
        "steps": payload.steps,
        "batch_size": wanted.batch_size or 1,
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": base.name,
        "sd_model_hash": base.file.sha256[:10],
        "sd_vae_name": base.vae.name if base.vae else None,
        "sd_vae_hash": base.vae.sha256[:10] if base.vae else None,
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": second.denoise if second else None,
        "extra_generation_params": {key: value for key, value in told.items() if key not in IN_INFO},
        "index_of_first_image": 0,
        "infotexts": [image.infotext for image in pictures],
        "styles": [],
        "job_timestamp": f"{job.created_at:%Y%m%d%H%M%S}",
        "clip_skip": payload.clip_skip,
        "is_using_inpainting_conditioning": False,
        "version": told.get("Version", ""),
        "warnings": warnings_of(wanted, job),
        "job_id": job.id,
    }  # fmt: skip


def warnings_of(wanted: Txt2Img, job: Job) -> list[str]:
    """What a person would be told beside the pictures."""
    stopped = ["The drawing was stopped; these are the pictures that were done."]
    return [
        *not_done(wanted),
        *(note["detail"] for note in job.input.get("warnings") or []),
        *(stopped if job.status != JobState.SUCCEEDED else []),
    ]
