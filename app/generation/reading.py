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
from app.generation.adopt import decode_apart, find_text, save_bounded
from app.generation.filled import Filled, finish, one_choice
from app.generation.names import find_loras
from app.generation.resolve import without_tag
from worker.inference import infotext

NOTHING = "There is no generation data in it. To start from the picture, drop it on “Start picture”."
UPSCALER_WORDS = (("nearest", "Nearest"), ("lanczos", "Lanczos"))


def read_picture(db: Session, user: User, file: BinaryIO, *, name: str, base: str) -> Filled:
    """The form filled from a picture. `base`: the model to stay with where the picture's is not here.

    Errors: Invalid for no picture or one without generation data, TooLarge.
    """
    with tempfile.TemporaryDirectory(prefix="bottega-picture-") as folder:
        source = Path(folder) / "source"
        save_bounded(file, source)
        decode_apart(source, Path(folder), name or "The picture")  # what opens there is safe to open here
        text = find_text(source)
    if not text:
        raise Invalid(f"{name or 'The picture'}: {NOTHING}", code="no-generation-data")
    return read_text(db, user, text, where="image", base=base)


def read_text(db: Session, user: User, text: str, *, where: str = "text", base: str = "") -> Filled:
    """The form filled from an infotext."""
    filled = Filled()
    missing = fill_from_text(db, user, text, filled)
    if filled.base is None:
        filled.base = one_choice(db, user, "Checkpoint", base)
    done = finish(db, user, filled)
    done.good = f"Filled from {where}" + (f"; {missing}" if missing else "") + "."
    return done


def fill_from_text(db: Session, user: User, text: str, filled: Filled) -> str:
    """Fill fields and cards; gives words for the LoRAs that are not here."""
    info = infotext.read(text)
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
    }
    _second_pass(info, filled)
    _model(db, user, info, filled)
    _vae(db, user, info, filled)
    return _loras(db, user, info, filled)


def _second_pass(info: infotext.Infotext, filled: Filled) -> None:
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


def _by_hash(db: Session, user: User, kind: str, digits: str | None) -> Choice | None:
    version = find_by_hash(db, user, digits) if digits else None
    return one_choice(db, user, kind, version.id) if version else None


def _by_name(db: Session, user: User, kind: str, name: str | None) -> Choice | None:
    """A model whose file or page is called so."""
    if not name:
        return None
    wanted = name.lower().removesuffix(".safetensors").removesuffix(".ckpt")
    choices = list_choices(db, user, kind, limit=500)
    return next((c for c in choices if wanted in (c.file.lower(), c.name.lower())), None)


def _model(db: Session, user: User, info: infotext.Infotext, filled: Filled) -> None:
    filled.base = _by_hash(db, user, "Checkpoint", info.model_hash)
    if filled.base is None:
        filled.base = _by_name(db, user, "Checkpoint", info.model)
    if filled.base is None and (info.model or info.model_hash):
        filled.notes.append(f"The model is not installed here: {_shown(info.model, info.model_hash)}.")
    elif filled.base is not None and not filled.base.family:
        filled.notes.append(f"{filled.base.name} cannot draw here yet.")
        filled.base = None


def _vae(db: Session, user: User, info: infotext.Infotext, filled: Filled) -> None:
    if not (info.vae or info.vae_hash):
        return
    found = _by_hash(db, user, "VAE", info.vae_hash) or _by_name(db, user, "VAE", info.vae)
    if found is not None:
        filled.fields["vae_version_id"] = found.version_id
    else:
        filled.notes.append(f"The VAE is not installed here: {_shown(info.vae, info.vae_hash)}.")


def _loras(db: Session, user: User, info: infotext.Infotext, filled: Filled) -> str:
    missing = []
    for lora in info.loras[:20]:
        choice = _by_hash(db, user, "LORA", lora.hash)
        if choice is None:
            named = find_loras(db, user, lora.name)
            choice = one_choice(db, user, "LORA", named[0].id) if named else None
        if choice is None:
            missing.append(_shown(lora.name, lora.hash))
            continue
        strength, apart = (_held(number) for number in (lora.strength, lora.text_encoder_strength))
        filled.add(choice, strength, apart)
        filled.fields["prompt"] = without_tag(filled.fields["prompt"], lora.name)
    return f"{_count(len(missing))} not installed: {', '.join(missing)}" if missing else ""


def _held(number: float | None) -> float | None:
    return None if number is None else max(-1.0, min(2.0, number))


def _count(number: int) -> str:
    return "1 LoRA" if number == 1 else f"{number} LoRAs"


def _shown(name: str | None, digits: str | None) -> str:
    """`NAME (hash)`."""
    return " ".join(part for part in ((name or "")[:80], f"({digits})" if digits else "") if part)
