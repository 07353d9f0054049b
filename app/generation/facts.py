"""What a drawn picture keeps of how it was made: settings under Civitai's names, and its resources."""

from typing import Any

from app.contract.events import Picture
from app.contract.jobs import GenerateJob, LoraRef
from app.contract.samplers import joined_name
from app.generation.clips import meta_of


def image_meta(job: GenerateJob, event: Picture) -> dict[str, Any]:
    """Generation data; keys that Civitai does not know are A1111's. `job` is of one picture."""
    meta: dict[str, Any] = {
        "prompt": job.prompt,
        "negativePrompt": job.negative_prompt,
        "sampler": joined_name(job.sampler, job.schedule),
        "Schedule type": job.schedule,
        "steps": job.steps,
        "cfgScale": job.cfg_scale,
        "seed": event.seed,
        "Size": f"{job.width}x{job.height}",
        "clipSkip": job.clip_skip,
        "Model": job.base.name,
        "Model hash": job.base.file.sha256[:10],
        "resources": [_named(lora) for lora in job.loras],
    }
    if clip := meta_of(job):
        del meta["clipSkip"], meta["Schedule type"]
        meta |= clip
    if job.embeddings:
        meta["resources"] += [{"type": "embed", "name": e.name, "hash": e.autov3} for e in job.embeddings]
    if job.base.vae is not None:
        meta |= {"VAE": job.base.vae.name, "VAE hash": job.base.vae.sha256[:10]}
    if job.hires is not None:
        meta |= _hires(job)
    if job.start is not None and clip:
        meta |= {"workflow": "img2vid"}
    elif job.start is not None:
        meta |= {"Denoising strength": job.start.denoise, "workflow": "img2img"}
        if job.start.mask is not None:
            meta |= {"Mask blur": job.start.mask_blur, "workflow": "inpaint"}
            if job.start.mask_padding is not None:
                meta |= {"Inpaint area": "Only masked", "Masked area padding": job.start.mask_padding}
    return meta


def _named(lora: LoraRef) -> dict[str, Any]:
    told = {"type": "lora", "name": lora.name, "weight": lora.strength, "hash": lora.autov3}
    apart = lora.text_encoder_strength
    return told if apart is None else told | {"textEncoderWeight": apart}


def _hires(job: GenerateJob) -> dict[str, Any]:
    hires = job.hires
    assert hires is not None
    told = {
        "Denoising strength": hires.denoise,
        "Hires upscale": hires.scale,
        "Hires upscaler": hires.upscaler,
    }
    return told if hires.steps is None else told | {"Hires steps": hires.steps}


def image_resources(job: GenerateJob, vae_version_id: int | None = None) -> list[dict[str, Any]]:
    """Rows that link the picture with the models it was made with."""
    base = job.base
    found = [_row("checkpoint", base.name, base.model_version_id, None, base.file.sha256[:10])]
    found += [_row("lora", x.title or x.name, x.model_version_id, x.strength, x.autov3) for x in job.loras]
    found += [
        _row("embedding", x.title or x.name, x.model_version_id, None, x.autov3) for x in job.embeddings
    ]
    if base.vae is not None:
        found.append(_row("vae", base.vae.name, vae_version_id, None, base.vae.sha256[:10]))
    return found


def _row(kind: str, name: str, version_id: int | None, weight: float | None, digits: str) -> dict[str, Any]:
    return {
        "kind": kind, "name": name, "model_version_id": version_id, "weight": weight, "hash": digits,
    }  # fmt: skip
