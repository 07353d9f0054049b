"""What the training routes take and give. Names as in Civitai's wizard and in docs of the REST API."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from app.gallery.schemas import spread_permissions
from app.images.schemas import Rating

TrainingType = Literal["style", "character", "concept"]
Preset = Literal["quick", "normal", "best"]


class Strict(BaseModel):
    """A request body: a field that is not known is a 422 that names it, and null is as good as left out."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def drop_nulls(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {
            name: value for name, value in values.items() if value is not None or name not in cls.model_fields
        }


class BaseIn(Strict):
    """The base checkpoint, named in exactly one way, and a VAE or text encoder to use instead of its own."""

    model_version_id: int | None = None
    air: str | None = None
    file_sha256: str | None = None
    vae_version_id: int | None = None
    text_encoder_version_id: int | None = None

    @model_validator(mode="after")
    def exactly_one(self) -> "BaseIn":
        if sum(v is not None for v in (self.model_version_id, self.air, self.file_sha256)) != 1:
            raise ValueError("give exactly one of model_version_id, air and file_sha256")
        return self


class SamplePromptIn(Strict):
    """A picture or clip to draw after each saved epoch. What is left out is the family's default."""

    prompt: str = Field(min_length=1, max_length=2000)
    negative_prompt: str | None = Field(default=None, max_length=2000)
    seed: int | None = Field(default=None, ge=0, le=2**32 - 1)
    width: int | None = Field(default=None, ge=64, le=2048)
    height: int | None = Field(default=None, ge=64, le=2048)
    frames: int | None = Field(default=None, ge=1, le=1000)
    """At the family's rate; 1 is a picture."""


class WebhookIn(Strict):
    url: str = Field(max_length=2000, pattern=r"^https?://")
    events: list[Literal["started", "progress", "sample", "succeeded", "failed", "canceled"]] = [
        "succeeded",
        "failed",
        "canceled",
    ]


class ContinueFrom(Strict):
    training: str
    epoch: int = Field(ge=1)


class TrainingIn(Strict):
    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=60)]
    type: TrainingType
    dataset: str
    base: BaseIn
    trigger_word: str = Field(default="", max_length=60, pattern=r"^[^,()\[\]:<>|\\\n]*$")
    preset: Preset = "normal"
    params: dict[str, Any] = Field(default_factory=dict, max_length=40)
    sample_prompts: list[SamplePromptIn] | None = Field(default=None, max_length=8)
    webhook: WebhookIn | None = None
    continue_from: ContinueFrom | None = None


class Warned(BaseModel):
    code: str
    detail: str


class MemoryChange(BaseModel):
    """A default that was changed so that the training fits, and why."""

    field: str
    before: Any
    after: Any
    detail: str


class MemoryPlan(BaseModel):
    """What the training takes on the best machine that is online; null where none is.

    `measured` is false where the need was only computed from the model's shapes.
    """

    needed_bytes: int
    available_bytes: int | None
    device: str | None
    measured: bool
    changes: list[MemoryChange]


class CutPlan(BaseModel):
    """How the clips of the set are cut for the training; frames are those of the family's rate."""

    pieces: int
    """Single pictures among the clips are one each."""
    frames: int
    """Of the longest piece."""
    fps: float
    total_frames: int
    unused_frames: int
    """Of `total_frames`: what no piece shows."""
    detail: str


class TrainingPlan(BaseModel):
    """The dry run. A figure that was never measured on this installation is null; `cut` without clips."""

    steps: int
    samples_seen: int
    eta_seconds: float | None
    eta_basis: Literal["history", "calibration"] | None
    memory_bytes: int | None
    memory: MemoryPlan | None
    cut: CutPlan | None
    disk_bytes: int
    queue_position: int
    params: dict[str, Any]
    warnings: list[Warned]


class SampleOut(BaseModel):
    prompt_index: int
    prompt: str
    seed: int
    url: str
    baseline: bool
    width: int
    height: int
    media: Literal["image", "video"] = "image"
    frames: int = 1
    fps: float | None = None
    poster_url: str | None = None
    """Of a clip: its middle frame."""


class SampleRow(SampleOut):
    """A cell of the grid: rows are epochs, columns are prompts; epoch 0 is the row without the LoRA."""

    epoch: int
    step: int
    thumb_url: str


class LowNoiseOut(BaseModel):
    """The second file of a family with two experts; the first is for high noise."""

    size_bytes: int
    sha256: str
    download_url: str


class CheckpointOut(BaseModel):
    epoch: int
    step: int
    size_bytes: int
    sha256: str
    download_url: str
    low_noise: LowNoiseOut | None = None
    samples: list[SampleOut]
    loss: float | None
    validation_loss: float | None
    recommended: bool
    recommended_reason: Literal["validation", "last"] | None
    created_at: datetime


class PermissionsIn(Strict):
    spread = model_validator(mode="before")(spread_permissions)
    allow_no_credit: bool = True
    allow_commercial_use: list[Literal["Image", "RentCivit", "Rent", "Sell"]] = [
        "Image",
        "RentCivit",
        "Rent",
        "Sell",
    ]
    allow_derivatives: bool = True
    allow_different_license: bool = True


class PublishIn(Strict):
    checkpoint: int = Field(ge=1, description="The epoch.")
    name: str | None = Field(default=None, min_length=1, max_length=100)
    version_name: str | None = Field(default=None, min_length=1, max_length=100)
    model_id: int | None = Field(default=None, description="Add a version to this model of yours.")
    description: str = Field(default="", max_length=50_000)
    tags: list[str] = Field(default_factory=list, max_length=20)
    visibility: Literal["private", "unlisted", "public"] = "private"
    rating: Rating = 1
    permissions: PermissionsIn = PermissionsIn()
    trained_words: list[str] | None = Field(default=None, max_length=20)
    strength: float = Field(default=0.8, ge=-1, le=2)
