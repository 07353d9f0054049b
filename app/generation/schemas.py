"""What the generation routes take. What is left out or null is the family's default."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from app.training.schemas import Strict, Warned, WebhookIn

MAX_SEED = 2**32 - 1
DENOISE = 0.75
"""The default of `denoise`; without a start picture no other value is taken, because it would do nothing."""
MASK_BLUR = 4
MIN_STRENGTH, MAX_STRENGTH = -1.0, 2.0
MAX_DATA = 3 << 20
"""Characters of a picture that comes inside the request; a larger one goes by upload."""

AxisName = Literal["lora_strength", "epoch", "sampler", "steps", "cfg_scale", "seed", "prompt"]


class ResourceIn(Strict):
    """A LoRA, or a textual inversion whose name stands in a prompt (it has no strength)."""

    model_version_id: int
    strength: float | None = Field(default=None, ge=MIN_STRENGTH, le=MAX_STRENGTH)
    text_encoder_strength: float | None = Field(default=None, ge=MIN_STRENGTH, le=MAX_STRENGTH)


class EpochOf(Strict):
    """An epoch of a training of yours that is not published."""

    id: str
    epoch: int = Field(ge=1)
    strength: float | None = Field(default=None, ge=MIN_STRENGTH, le=MAX_STRENGTH)
    text_encoder_strength: float | None = Field(default=None, ge=MIN_STRENGTH, le=MAX_STRENGTH)


class SourceIn(Strict):
    """Where a picture comes from: one of a picture here, a complete upload, or a `data:` address."""

    image: int | None = None
    upload: str | None = Field(default=None, max_length=40)
    data: str | None = Field(default=None, max_length=MAX_DATA)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(value is not None for value in (self.image, self.upload, self.data)) != 1:
            raise ValueError("give one of image, upload and data")
        return self


def _source(value: Any) -> Any:
    """`7` and `"7"` are a picture, `"up_…"` an upload, `"data:image/png;base64,…"` the picture itself."""
    if isinstance(value, int) and not isinstance(value, bool):
        return {"image": value}
    if not isinstance(value, str):
        return value
    if value.isdigit():
        return {"image": int(value[:15])}
    return {"data": value} if value.startswith("data:") else {"upload": value}


Source = Annotated[SourceIn, BeforeValidator(_source)]


class HiresIn(Strict):
    """Draw small, then scale and refine. `steps` null = as many as the picture itself."""

    scale: float = Field(default=1.5, gt=1, le=4)
    upscaler: str = "Latent"
    denoise: float = Field(default=0.55, ge=0, le=1)
    steps: int | None = Field(default=None, ge=1, le=150)


class AxisIn(Strict):
    """What changes along one side of a grid, and its values: a list, or text such as `0.4-1.2 x5, 2`."""

    axis: AxisName
    values: list[float | int | str] | str = Field(max_length=2000)
    model_version_id: int | None = Field(
        default=None, description="Which LoRA, for lora_strength; may be left out where there is only one."
    )
    training: str | None = Field(default=None, description="Whose epochs, for epoch.")
    search: str | None = Field(
        default=None, max_length=200, description="What is replaced, for prompt; else the first value is."
    )


class GridIn(Strict):
    """An X/Y grid. `baseline` adds a column (or row) without the LoRA."""

    x: AxisIn
    y: AxisIn | None = None
    baseline: bool = False


class GenerationIn(Strict):
    model_version_id: int
    prompt: str = Field(max_length=6000)
    negative_prompt: str | None = Field(default=None, max_length=6000)
    resources: list[ResourceIn] = Field(default_factory=list, max_length=9)
    checkpoint_of_training: EpochOf | None = None
    vae_version_id: int | None = Field(default=None, description="A VAE instead of the checkpoint's own.")
    text_encoder_version_id: int | None = Field(
        default=None,
        description="A text encoder instead of the checkpoint's own, where its family takes one.",
    )
    sampler: str | None = Field(default=None, max_length=60)
    schedule: str | None = Field(default=None, max_length=40)
    steps: int | None = Field(default=None, ge=1, le=150)
    cfg_scale: float | None = Field(default=None, ge=1, le=30)
    width: int | None = Field(default=None, ge=16, le=2048)
    height: int | None = Field(default=None, ge=16, le=2048)
    frames: int | None = Field(default=None, ge=1, le=1000, description="Length of a clip.")
    fps: float | None = Field(default=None, ge=1, le=60, description="At which a clip is played.")
    shift: float | None = Field(
        default=None, description="Of a clip's noise levels: more puts more steps where motion is decided."
    )
    seed: int | None = Field(default=None, ge=-1, le=MAX_SEED)
    quantity: int | None = Field(default=None, ge=1, le=16)
    clip_skip: int | None = Field(default=None, ge=1, le=4)
    init_image: Source | None = Field(
        default=None,
        description="Start from this picture: its number, an upload's id, or {image}, {upload} or {data}.",
    )
    denoise: float | None = Field(
        default=None, ge=0, le=1, description="How much of init_image is drawn anew; 1 = all of it."
    )
    mask: Source | None = Field(
        default=None, description="Only where this picture is bright, init_image is drawn anew."
    )
    mask_blur: int | None = Field(default=None, ge=0, le=64, description="Pixels of the mask's soft edge.")
    mask_padding: int | None = Field(
        default=None, ge=0, le=256,
        description="Draw only the masked part and so many pixels around it, at full size; null = all of it.",
    )  # fmt: skip
    hires: HiresIn | None = None
    grid: GridIn | None = None
    webhook: WebhookIn | None = None


class GenerationEstimate(BaseModel):
    """The dry run. `eta_seconds` is null until a picture was drawn here."""

    pictures: int
    eta_seconds: float | None
    input: dict[str, Any]
    queue_position: int
    warnings: list[Warned]
