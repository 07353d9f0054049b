"""Steps that draw: `textToImage` and `imageGen` → requests as our own generator takes them.

A step of more pictures than one job may draw becomes several jobs, whose seeds go on from one to the next.
"""

import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy.orm import Session

from app.accounts.models import User
from app.compat.orchestration import blobs
from app.compat.orchestration.reading import read, refuse, told_at
from app.compat.orchestration.samplers import COMFY_SAMPLERS, DEFAULT, SAMPLE_METHODS, SCHEDULERS, SCHEDULES
from app.compat.orchestration.schemas import ImageGenIn, NetworkIn, PictureIn, TextToImageIn
from app.gallery.airs import ecosystem, find_air, plain_word
from app.gallery.models import ModelVersion
from app.gallery.refs import checkpoint_ref
from app.generation.schemas import MAX_SEED, GenerationIn
from app.training.plan import family_spec

COMMON = {
    "model_version_id": "model", "negative_prompt": "negativePrompt", "cfg_scale": "cfgScale",
    "clip_skip": "clipSkip",
}  # fmt: skip
OF_TEXT_TO_IMAGE = COMMON | {
    "sampler": "scheduler", "schedule": "scheduler", "resources": "additionalNetworks",
    "vae_version_id": "additionalNetworks", "init_image": "sourceImage",
    "denoise": "sourceImageDenoiseStrenght",
}  # fmt: skip
OF_IMAGE_GEN = COMMON | {
    "resources": "loras", "vae_version_id": "vaeModel", "init_image": "image", "denoise": "strength",
}  # fmt: skip
"""Our fields → theirs, for errors."""
MOST = 64
"""Pictures of one step."""


def text_to_image(
    db: Session, user: User, data: Mapping[str, Any], pointer: str, *, each: bool = False
) -> list[GenerationIn]:
    """One request for each job; with `each`, every picture is a job. Errors: Invalid, NotFound for AIRs."""
    asked = read(TextToImageIn, data, pointer)
    _refuse_impossible(asked, pointer)
    fields = _shared(db, user, asked)
    fields |= _networks(db, user, asked.additional_networks, f"{pointer}/additionalNetworks")
    fields |= _sampler(asked.scheduler, pointer)
    if asked.source_image:
        fields["init_image"] = _source(db, user, asked.source_image, f"{pointer}/sourceImage")
        fields["denoise"] = asked.source_image_denoise_strenght
    total = _counted((asked.quantity or 1) * (asked.batch_size or 1), pointer)
    with told_at(pointer, OF_TEXT_TO_IMAGE):
        return list(_split(db, user, fields, total, each=each))


def image_gen(db: Session, user: User, data: Mapping[str, Any], pointer: str) -> list[GenerationIn]:
    """As text_to_image."""
    asked = read(ImageGenIn, data, pointer)
    _refuse_impossible(asked, pointer)
    check_ecosystem(find_air(db, user, asked.model), asked.ecosystem, f"{pointer}/ecosystem")
    fields = _shared(db, user, asked)
    fields |= _networks(db, user, asked.loras, f"{pointer}/loras")
    for air in asked.embeddings or ():
        fields["resources"].append({"model_version_id": find_air(db, user, air).id})
    if asked.vae_model:
        fields["vae_version_id"] = find_air(db, user, asked.vae_model).id
    comfy = asked.engine == "comfy"
    fields |= _comfy(asked, pointer) if comfy else _sdcpp(asked, pointer)
    if asked.operation == "createVariant":
        if not asked.image:
            raise refuse(f"{pointer}/image", "this field is required", "missing")
        fields["init_image"] = _source(db, user, asked.image, f"{pointer}/image")
        fields["denoise"] = asked.denoise_strength if comfy else asked.strength
    names = OF_IMAGE_GEN | _sampler_names(comfy)
    with told_at(pointer, names):
        return list(_split(db, user, fields, asked.quantity or 1))


def names_of(kind: str, data: Mapping[str, Any]) -> dict[str, str]:
    """Our fields → theirs for a step of this kind: what its jobs' errors are told with."""
    if kind == "textToImage":
        return OF_TEXT_TO_IMAGE
    return OF_IMAGE_GEN | _sampler_names(data.get("engine") == "comfy")


def _sampler_names(comfy: bool) -> dict[str, str]:
    if comfy:
        return {"sampler": "sampler", "schedule": "scheduler", "denoise": "denoiseStrength"}
    return {"sampler": "sampleMethod", "schedule": "schedule"}


def _refuse_impossible(asked: PictureIn, pointer: str) -> None:
    if asked.control_nets:
        raise refuse(f"{pointer}/controlNets", "are not possible here yet; leave them out", "unsupported")
    if asked.output_format not in (None, "png"):
        raise refuse(f"{pointer}/outputFormat", "pictures are PNG here; leave it out", "unsupported")


def _shared(db: Session, user: User, asked: PictureIn) -> dict[str, Any]:
    skip = asked.clip_skip if asked.clip_skip and asked.clip_skip > 0 else None
    return {
        "model_version_id": find_air(db, user, asked.model).id,
        "prompt": asked.prompt,
        "negative_prompt": asked.negative_prompt,
        "resources": [],
        "steps": asked.steps,
        "cfg_scale": asked.cfg_scale,
        "width": asked.width,
        "height": asked.height,
        "clip_skip": skip,
        "seed": asked.seed,
    }


def _networks(db: Session, user: User, networks: Mapping[str, NetworkIn], pointer: str) -> dict[str, Any]:
    found: dict[str, Any] = {"resources": []}
    for air, told in networks.items():
        version = find_air(db, user, air)
        if version.model.type == "VAE":
            found["vae_version_id"] = version.id
        elif version.model.type == "TextualInversion":
            _refuse_strength(version, told, f"{pointer}/{air}")
            found["resources"].append({"model_version_id": version.id})
        else:
            found["resources"].append({"model_version_id": version.id, "strength": told.strength})
    return found


def _refuse_strength(version: ModelVersion, told: NetworkIn, pointer: str) -> None:
    if told.strength not in (None, 1):
        words = f"{version.model.name} is an embedding; write (name:1.2) in the prompt instead of a strength"
        raise refuse(pointer, words, "no-effect")


def _sampler(word: str | None, pointer: str) -> dict[str, str]:
    found = SCHEDULERS.get((word or "undefined").lower())
    if found is None:
        known = ", ".join(sorted(SCHEDULERS))
        raise refuse(f"{pointer}/scheduler", f"{word} is not here; choose one of {known}", "enum")
    return {} if found == DEFAULT else {"sampler": found[0], "schedule": found[1]}


def _sdcpp(asked: ImageGenIn, pointer: str) -> dict[str, str]:
    chosen = _word(SAMPLE_METHODS, asked.sample_method, f"{pointer}/sampleMethod", "sampler")
    return chosen | _word(SCHEDULES, asked.schedule, f"{pointer}/schedule", "schedule")


def _comfy(asked: ImageGenIn, pointer: str) -> dict[str, str]:
    chosen = _word(COMFY_SAMPLERS, asked.sampler, f"{pointer}/sampler", "sampler")
    return chosen | _word(SCHEDULES, asked.scheduler, f"{pointer}/scheduler", "schedule")


def _word(table: Mapping[str, str], word: str | None, pointer: str, field: str) -> dict[str, str]:
    if word is None:
        return {}
    if word.lower() not in table:
        raise refuse(pointer, f"{word} is not here; choose one of {', '.join(table)}", "enum")
    return {field: table[word.lower()]}


def _source(db: Session, user: User, text: str, pointer: str) -> dict[str, Any]:
    found = blobs.source_of(db, user, text)
    if found is None:
        words = (
            "this server fetches nothing from other addresses; send the picture with POST "
            f"{blobs.PATH} and name its url, or give it as data:image/png;base64,…"
        )
        raise refuse(pointer, words, "foreign-url")
    return found


def _counted(total: int, pointer: str) -> int:
    if total > MOST:
        raise refuse(f"{pointer}/quantity", f"{total} pictures; at most {MOST} are possible", "too-many")
    return total


def _split(
    db: Session, user: User, fields: dict[str, Any], total: int, *, each: bool = False
) -> Iterator[GenerationIn]:
    vae = fields.get("vae_version_id")
    spec = family_spec(checkpoint_ref(db, user, fields["model_version_id"], vae_version_id=vae))
    most = 1 if each else spec.generation.max_quantity
    random = fields["seed"] is None or fields["seed"] == -1
    first = secrets.randbelow(MAX_SEED + 1) if random else fields["seed"]
    for start in range(0, total, most):
        seed = (first + start) % (MAX_SEED + 1) if 0 <= first <= MAX_SEED else first
        yield GenerationIn.model_validate(fields | {"seed": seed, "quantity": min(most, total - start)})


def check_ecosystem(version: ModelVersion, word: str | None, pointer: str) -> None:
    """Errors: Invalid for a model of another ecosystem than the one that is named."""
    if word is not None and plain_word(word) != plain_word(ecosystem(version)):
        words = f"{version.model.name} is of {ecosystem(version)}, not of {word}"
        raise refuse(pointer, words, "ecosystem")
