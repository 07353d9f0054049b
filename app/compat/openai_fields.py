"""What OpenAI's picture routes take, by its names, and after them our own, which `extra_body` brings.

Fields that mean nothing here (quality, style, background, moderation, user, output_format) are ignored.
"""

import json
import re
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.compat.a1111_fields import Txt2Img, sampler_of, schedule_of
from app.core.errors import FieldError, Invalid
from app.generation.names import find_loras
from app.generation.schemas import MAX_STRENGTH, MIN_STRENGTH

MAX_PICTURES = 10
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")


class LoraIn(BaseModel):
    """By the number of its version, or by the name of its file or page. `weight` null = its own."""

    model_config = ConfigDict(extra="ignore")

    model_version_id: int | None = None
    name: str | None = Field(default=None, max_length=300)
    weight: float | None = Field(default=None, ge=MIN_STRENGTH, le=MAX_STRENGTH)

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        """A name alone, a number alone, and `strength` or `scale` for `weight`."""
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, int) and not isinstance(value, bool):
            return {"model_version_id": value}
        if isinstance(value, dict) and "weight" not in value:
            return value | {"weight": value.get("strength", value.get("scale"))}
        return value


class PicturesIn(BaseModel):
    """The fields of `images/generations`. `n` pictures of `size`, null = the model's own size."""

    model_config = ConfigDict(extra="ignore")

    prompt: str = Field(min_length=1)
    model: str | None = None
    n: int | None = Field(default=1, ge=1, le=MAX_PICTURES)
    size: str | None = None
    response_format: str | None = None
    stream: bool | None = False
    negative_prompt: str | None = None
    seed: int | None = None
    steps: int | None = None
    cfg_scale: float | None = None
    guidance_scale: float | None = None
    sampler: str | None = None
    scheduler: str | None = None
    clip_skip: int | None = None
    loras: list[LoraIn] | None = Field(default=None, max_length=9)
    strength: float | None = Field(default=None, description="Of an edit: how much is drawn anew, 0 to 1.")

    @model_validator(mode="before")
    @classmethod
    def _from_form(cls, value: Any) -> Any:
        """A form has texts only: `loras` is JSON there, and an empty field is none."""
        if not isinstance(value, dict):
            return value
        value = {name: part for name, part in value.items() if part != "" or name == "prompt"}
        if isinstance(value.get("loras"), str):
            try:
                value["loras"] = json.loads(value["loras"])
            except ValueError as error:
                raise ValueError('loras must be JSON: [{"name": …, "weight": …}]') from error
        return value


def fields_of(db: Session, user: User, wanted: PicturesIn) -> dict[str, Any]:
    """Fields of our own request. Errors: Invalid, NotFound for samplers."""
    if wanted.stream:
        words = "streaming is not possible here; leave stream out"
        raise Invalid(f"Please correct: {words}.", [FieldError("#/stream", words, "unsupported")])
    if wanted.response_format not in (None, "url", "b64_json"):
        words = "response_format must be url or b64_json"
        raise Invalid(f"Please correct: {words}.", [FieldError("#/response_format", words, "enum")])
    cfg = wanted.cfg_scale if wanted.cfg_scale is not None else wanted.guidance_scale
    return {
        "quantity": wanted.n or 1,
        "cfg_scale": cfg,
        "sampler": sampler_of(Txt2Img(sampler_name=wanted.sampler)),
        "schedule": schedule_of(wanted.scheduler),
        "resources": [_lora(db, user, n, lora) for n, lora in enumerate(wanted.loras or [])],
        **_size(wanted.size),
        **wanted.model_dump(include={"prompt", "negative_prompt", "seed", "steps", "clip_skip"}),
    }


def _size(text: str | None) -> dict[str, int]:
    if text in (None, "auto"):
        return {}
    sides = _SIZE.fullmatch(text or "")
    if sides is None:
        words = "size must be WIDTHxHEIGHT in pixels, or auto"
        raise Invalid(f"Please correct: {words}.", [FieldError("#/size", words, "enum")])
    return {"width": int(sides[1]), "height": int(sides[2])}


def _lora(db: Session, user: User, place: int, lora: LoraIn) -> dict[str, Any]:
    """A LoRA by number. Errors: Invalid for a name that nothing here has."""
    number = lora.model_version_id
    if number is None:
        found = find_loras(db, user, lora.name or "")
        if not found:
            words = f"There is no LoRA “{lora.name or ''}” here."
            raise Invalid(words, [FieldError(f"#/resources/{place}", words, "lora-unknown")])
        number = found[0].id
    return {"model_version_id": number, "strength": lora.weight}
