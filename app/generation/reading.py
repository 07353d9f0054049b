"""Generation data that somebody drops or pastes → the form: resources found by hash, then by name.

A hash is a hint and a name is less; what is not here is named, so that a person can fetch it.
"""

import tempfile
from pathlib import Path
from typing import BinaryIO

from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.jobs import UPSCALERS
from app.core.errors import Invalid
from app.gallery.picker import Choice, list_choices
from app.gallery.queries import find_by_hash
from app.generation.adopt import decode_apart, media_of, save_bounded
from app.generation.filled import Filled, finish, one_choice
from app.generation.names import find_loras
from app.generation.resolve import without_tag
from app.generation.schemas import MAX_STRENGTH, MIN_STRENGTH
from worker.inference.metadata.infotext import Infotext
from worker.inference.metadata.movie import is_movie
from worker.inference.metadata.reading import Found, Resource, read_file, read_texts, resources_of
from worker.inference.metadata.texts import Texts

NOTHING = "There is no generation data in it. To start from a picture, drop it on “Start picture”."
UPSCALER_WORDS = (("nearest", "Nearest"), ("lanczos", "Lanczos"))


def read_picture(db: Session, user: User, file: BinaryIO, *, name: str, base: str) -> Filled:
    """The form filled from a picture or an MP4. `base`: the model to stay with where its own is not here.

    Errors: Invalid for no picture or one without generation data, TooLarge.
    """
    found = data_of(file, name=name)
    if found is None:
        raise Invalid(f"{name or 'The file'}: {NOTHING}", code="no-generation-data")
    return _filled(db, user, found, "image", base)


def data_of(file: BinaryIO, *, name: str = "") -> Found | None:
    """The generation data in a picture or an MP4. Errors: Invalid for no picture, TooLarge."""
    with tempfile.TemporaryDirectory(prefix="bottega-picture-") as folder:
        source = Path(folder) / "source"
        save_bounded(file, source)
        picture = media_of(source) == "image"
        if picture:
            decode_apart(source, Path(folder), name or "The picture")  # what opens there is safe to open here
        # Of an MP4 the boxes are walked and nothing is decoded; other films say nothing.
        return read_file(source) if picture or is_movie(source) else None


def read_text(db: Session, user: User, text: str, *, base: str = "") -> Filled:
    """The form filled from pasted generation data. Errors: Invalid where there is none in it."""
    found = found_in(text)
    if found is None or not (found.info.settings or found.notes):
        raise Invalid("There is no generation data in this text.", code="no-generation-data")
    return _filled(db, user, found, "text", base)


def found_in(text: str) -> Found | None:
    """Generation data as text: an infotext, or what other programs write instead."""
    texts = Texts()
    texts.keep("parameters", text)
    texts.keep("prompt", text)  # a graph of ComfyUI
    return read_texts(texts)


def _filled(db: Session, user: User, found: Found, where: str, base: str) -> Filled:
    filled = Filled(notes=list(found.notes))
    missing = fill_from(db, user, found.info, filled)
    if filled.base is None:
        filled.base = one_choice(db, user, "Checkpoint", base)
    done = finish(db, user, filled)
    made = "" if found.tool in ("A1111", "Bottega") else f", made with {found.tool}"
    done.good = f"Filled from {where}{made}" + (f"; {missing}" if missing else "") + "."
    return done


def fill_from(db: Session, user: User, info: Infotext, filled: Filled) -> str:
    """Fill fields and cards; gives words for the LoRAs that are not here."""
    size = info.size
    filled.fields = {
        "prompt": info.prompt,
        "negative_prompt": info.negative_prompt,
        "sampler": info.sampler,
        "schedule": info.schedule,
        "steps": info.steps,
        "cfg_scale": info.cfg_scale,
        "seed": info.seed,
        "clip_skip": info.clip_skip,
        "width": size[0] if size else None,
        "height": size[1] if size else None,
        "frames": info.frames,
        "fps": info.fps,
        "shift": info.shift,
    }
    _second_pass(info, filled)
    missing = [words for each in resources_of(info) if (words := _resource(db, user, each, info, filled))]
    return f"{_count(len(missing))} not installed: {', '.join(missing)}" if missing else ""


def _second_pass(info: Infotext, filled: Filled) -> None:
    hires = info.hires
    if hires is None:
        if info.denoise is not None:
            filled.fields["denoise"] = info.denoise
            filled.notes.append("It was made from a start picture, which is not in it.")
        return
    scale = hires.scale
    if scale is None and hires.size and info.size and info.size[0]:
        scale = round(hires.size[0] / info.size[0], 2)
    upscaler = _upscaler(hires.upscaler)
    if hires.upscaler and upscaler != hires.upscaler:
        filled.notes.append(f"There is no upscaler {hires.upscaler[:40]} here; {upscaler} is used.")
    filled.fields |= {
        "hires": "on",
        "hires_scale": min(4.0, scale or 1.5),
        "hires_upscaler": upscaler,
        "hires_steps": hires.steps,
        "hires_denoise": hires.denoise,
    }


def _upscaler(written: str) -> str:
    """The nearest that there is: latents where it says so, else pixels."""
    if written in UPSCALERS or not written:
        return written or UPSCALERS[0]
    if written.lower().startswith("latent"):
        return "Latent (nearest)" if "nearest" in written.lower() else "Latent"
    return next((ours for part, ours in UPSCALER_WORDS if part in written.lower()), "Lanczos")


def _resource(db: Session, user: User, named: Resource, info: Infotext, filled: Filled) -> str:
    """One model that is named: found by hash, then by name. Gives the name of a LoRA that is not here."""
    match named.kind:
        case "lora":
            return _lora(db, user, named, info, filled)
        case "checkpoint":
            filled.base = _find(db, user, "Checkpoint", named)
            if filled.base is None:
                filled.notes.append(f"The model is not installed here: {_shown(named)}.")
        case "vae":
            found = _find(db, user, "VAE", named)
            filled.fields["vae_version_id"] = found.version_id if found else None
            if found is None:
                filled.notes.append(f"The VAE is not installed here: {_shown(named)}.")
        case _:
            if _find(db, user, "TextualInversion", named) is None:
                filled.notes.append(f"The embedding is not installed here: {_shown(named)}.")
    return ""


def _find(db: Session, user: User, kind: str, named: Resource) -> Choice | None:
    version = find_by_hash(db, user, named.hash) if named.hash else None
    found = one_choice(db, user, kind, version.id) if version else None
    if found is not None:
        return found
    wanted = named.name.lower().removesuffix(".safetensors")
    choices = list_choices(db, user, kind, limit=500) if wanted else []
    return next((c for c in choices if wanted in (c.file.lower(), c.name.lower())), None)


def _lora(db: Session, user: User, named: Resource, info: Infotext, filled: Filled) -> str:
    version = find_by_hash(db, user, named.hash) if named.hash else None
    if version is None:
        version = next(iter(find_loras(db, user, named.name)), None)
    choice = one_choice(db, user, "LORA", version.id) if version else None
    if choice is None:
        return _shown(named)
    apart = next((lora.text_encoder_strength for lora in info.loras if lora.name == named.name), None)
    filled.add(choice, _held(named.weight), _held(apart))
    filled.fields["prompt"] = without_tag(filled.fields["prompt"], named.name)
    return ""


def _held(number: float | None) -> float | None:
    return None if number is None else max(MIN_STRENGTH, min(MAX_STRENGTH, number))


def _count(number: int) -> str:
    return "1 LoRA" if number == 1 else f"{number} LoRAs"


def _shown(named: Resource) -> str:
    """`NAME (hash)`."""
    digits = f"({named.hash})" if named.hash and named.hash != named.name else ""
    return " ".join(part for part in (named.name[:80], digits) if part)
