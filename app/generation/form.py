"""The generator's form and the request: one set of field names, read in one place.

`start` and `mask` are `image:7` or `upload:up_…`; a LoRA's strength is `lora-<version>`, its text
encoder's `lora-te-<version>`; what belongs to a part that is switched off is left out.
"""

import re
from typing import Any

from pydantic import ValidationError

from app.core.errors import FieldError, Invalid
from app.generation.grid import AXES
from app.generation.schemas import GenerationIn
from app.web.forms import plain_words

LORA = re.compile(r"lora-([0-9]{1,9})")
PLAIN = (
    "model_version_id", "prompt", "negative_prompt", "sampler", "schedule", "steps", "cfg_scale", "seed",
    "quantity", "clip_skip", "vae_version_id", "text_encoder_version_id", "frames", "fps",
    "shift",
)  # fmt: skip
WORDS = {
    "cfg_scale": "CFG", "clip_skip": "CLIP skip", "negative_prompt": "negative prompt",
    "frames": "length", "fps": "rate", "quantity": "pictures", "init_image": "start picture",
    "model_version_id": "model", "text_encoder_version_id": "text encoder",
}  # fmt: skip


def body_of(form: dict[str, str]) -> GenerationIn:
    """The form as the REST body. Errors: Invalid with words for the field."""
    fields = {name: form.get(name) for name in PLAIN}
    fields |= _size(form) | {"resources": _used(form), "checkpoint_of_training": _epoch(form)}
    fields |= _start(form) | {"hires": _hires(form), "grid": _grid(form)}
    if fields["grid"]:
        fields["quantity"] = None
    try:
        given = {name: value for name, value in fields.items() if value not in (None, "")}
        return GenerationIn.model_validate({"prompt": "", **given})
    except ValidationError as error:
        wrong = [
            FieldError("#/" + "/".join(str(p) for p in e["loc"]), plain_words(e)) for e in error.errors()
        ]
        listed = "; ".join(f"{_called(e.pointer)}: {e.detail}" for e in wrong[:4])
        raise Invalid(f"Please correct: {listed}.", wrong) from error


def _called(pointer: str) -> str:
    """A field as a person knows it: `hires scale`, `second axis values`."""
    parts = [WORDS.get(part, part) for part in pointer[2:].split("/") if not part.isdigit()]
    return " ".join(parts)


def _size(form: dict[str, str]) -> dict[str, Any]:
    aspect = form.get("aspect", "")
    if "x" not in aspect:
        return {"width": form.get("width"), "height": form.get("height")}
    width, _, height = aspect.partition("x")
    return {"width": width, "height": height}


def loras_of(form: dict[str, str]) -> list[dict[str, Any]]:
    """One entry for each LoRA card, in the order of the page."""
    cards = ((match[1], value) for key, value in form.items() if (match := LORA.fullmatch(key)))
    return [
        {
            "model_version_id": version,
            "strength": value,
            "text_encoder_strength": form.get(f"lora-te-{version}") or None,
        }
        for version, value in cards
    ]


def _used(form: dict[str, str]) -> list[dict[str, Any]]:
    """Those that are not switched off and fit the model."""
    left_out = {key.rpartition("-")[2] for key in form if key.startswith(("lora-off-", "lora-unfit-"))}
    return [lora for lora in loras_of(form) if lora["model_version_id"] not in left_out]


def _epoch(form: dict[str, str]) -> dict[str, Any] | None:
    if not form.get("training"):
        return None
    return {
        "id": form["training"],
        "epoch": form.get("epoch"),
        "strength": form.get("epoch_strength") or None,
        "text_encoder_strength": form.get("epoch_te") or None,
    }


def source_of(value: str) -> dict[str, str] | None:
    """`image:7` → {"image": "7"}."""
    kind, _, which = value.partition(":")
    return {kind: which} if which else None


def _start(form: dict[str, str]) -> dict[str, Any]:
    start = source_of(form.get("start", ""))
    if start is None:
        return {}
    mask = source_of(form.get("mask", ""))
    return {
        "init_image": start,
        "denoise": form.get("denoise"),
        "mask": mask,
        "mask_blur": form.get("mask_blur") if mask else None,
        "mask_padding": (form.get("mask_padding") or None) if mask else None,
    }


def _hires(form: dict[str, str]) -> dict[str, Any] | None:
    if not form.get("hires"):
        return None
    names = ("scale", "upscaler", "denoise", "steps")
    return {name: form[f"hires_{name}"] for name in names if form.get(f"hires_{name}")}


def _grid(form: dict[str, str]) -> dict[str, Any] | None:
    if not form.get("compare"):
        return None
    grid = {side: axis for side in "xy" if (axis := _axis(form, side))}
    return grid | {"baseline": bool(form.get("baseline"))}


def _axis(form: dict[str, str], side: str) -> dict[str, Any] | None:
    axis = form.get(f"{side}_axis", "")
    if axis not in AXES:
        return None
    own = {"lora_strength": ("lora", "model_version_id"), "epoch": ("training", "training"),
           "prompt": ("search", "search")}  # fmt: skip
    found: dict[str, Any] = {"axis": axis, "values": form.get(f"{side}_values", "")}
    if axis in own:
        name, field = own[axis]
        found[field] = form.get(f"{side}_{name}") or None
    return found
