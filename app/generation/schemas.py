"""What the generation routes take. What is left out or null is the family's default."""

from typing import Any

from pydantic import BaseModel, Field

from app.training.schemas import Strict, WebhookIn

MAX_SEED = 2**32 - 1
DENOISE = 0.75
"""The default of `denoise`; without a start picture no other value is taken, because it would do nothing."""


class ResourceIn(Strict):
    model_version_id: int
    strength: float | None = Field(default=None, ge=-1, le=2)


class EpochOf(Strict):
    """An epoch of a training of yours that is not published."""

    id: str
    epoch: int = Field(ge=1)
    strength: float | None = Field(default=None, ge=-1, le=2)


class GenerationIn(Strict):
    model_version_id: int
    prompt: str = Field(max_length=6000)
    negative_prompt: str | None = Field(default=None, max_length=6000)
    resources: list[ResourceIn] = Field(default_factory=list, max_length=9)
    sampler: str | None = None
    steps: int | None = Field(default=None, ge=1, le=150)
    cfg_scale: float | None = Field(default=None, ge=1, le=30)
    width: int | None = Field(default=None, ge=64, le=2048)
    height: int | None = Field(default=None, ge=64, le=2048)
    seed: int | None = Field(default=None, ge=-1, le=MAX_SEED)
    quantity: int | None = Field(default=None, ge=1, le=16)
    clip_skip: int | None = Field(default=None, ge=1, le=4)
    checkpoint_of_training: EpochOf | None = None
    init_image: None = Field(default=None, description="Not available yet: leave it out or null.")
    denoise: float | None = Field(default=None, ge=0, le=1, description="Has a meaning only with init_image.")
    hires: None = Field(default=None, description="Not available yet: leave it out or null.")
    webhook: WebhookIn | None = None


class GenerationEstimate(BaseModel):
    """The dry run. `eta_seconds` is null until a picture was drawn here."""

    eta_seconds: float | None
    input: dict[str, Any]
    queue_position: int
