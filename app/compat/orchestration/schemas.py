"""What the orchestration routes take, in Civitai's names. What they do not know is ignored, as there."""

import math
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

STEP_NAME = r"^[\w.\-$]{1,60}$"
MAX_STEPS, MAX_TAGS = 20, 50
MAX_DEPTH = 50


def _plain(value: Any) -> Any:
    """What is nested deeper than any program needs, or is no number, would break whoever reads it."""
    level = [value]
    for _ in range(MAX_DEPTH):
        if any(isinstance(each, float) and not math.isfinite(each) for each in level):
            raise ValueError("holds a number that JSON does not have")
        level = [part for each in level for part in _parts(each)]
        if not level:
            return value
    raise ValueError(f"is nested too deeply: at most {MAX_DEPTH} levels")


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


AnyJson = Annotated[Any, BeforeValidator(_plain)]
Json = Annotated[dict[str, Any], BeforeValidator(_plain)]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=100)]
EVENT = (
    r"^(workflow|step|job):(\*|unassigned|preparing|scheduled|processing|succeeded|failed|expired|canceled)$"
)


class Lenient(BaseModel):
    """Names in camel case; null is as good as left out, and so is what is not known."""

    model_config = ConfigDict(extra="ignore", alias_generator=to_camel, populate_by_name=True)


def _networks(value: Any) -> Any:
    """`{air: strength}` and `[{air, strength}]` are the same as `{air: {"strength": …}}`."""
    if isinstance(value, list):
        value = {each.get("air", ""): each for each in value if isinstance(each, dict)}
    if not isinstance(value, dict):
        return value or {}
    plain = (int, float)
    return {
        air: {"strength": told} if isinstance(told, plain) else (told or {}) for air, told in value.items()
    }


class NetworkIn(Lenient):
    strength: float | None = None
    trigger_word: str | None = None
    type: str | None = None


Networks = Annotated[dict[str, NetworkIn], BeforeValidator(_networks), Field(max_length=20)]


class PictureIn(Lenient):
    """What both steps that draw have in common."""

    model: str = Field(min_length=1, max_length=300)
    prompt: str = Field(max_length=10_000)
    negative_prompt: str | None = None
    control_nets: list[Any] | None = None
    steps: int | None = None
    cfg_scale: float | None = None
    width: int | None = None
    height: int | None = None
    seed: int | None = None
    clip_skip: int | None = None
    quantity: Annotated[int, Field(ge=1, le=16)] | None = None
    output_format: str | None = None


class TextToImageIn(PictureIn):
    additional_networks: Networks = {}
    scheduler: str | None = None
    batch_size: Annotated[int, Field(ge=1, le=16)] | None = None
    source_image: str | None = None
    source_image_denoise_strenght: float | None = None  # so it is spelled there


class ImageGenIn(PictureIn):
    engine: Literal["sdcpp", "comfy"]
    ecosystem: str | None = None
    operation: Literal["createImage", "createVariant"] = "createImage"
    loras: Networks = {}
    vae_model: str | None = None
    embeddings: list[str] | None = Field(default=None, max_length=20)
    sample_method: str | None = None
    schedule: str | None = None
    sampler: str | None = None
    scheduler: str | None = None
    image: str | None = None
    strength: float | None = None
    denoise_strength: float | None = None


class TrainingDataIn(Lenient):
    type: Literal["zip"] = "zip"
    source_url: str = Field(max_length=3000)
    count: int | None = Field(default=None, ge=0)


class SamplesIn(Lenient):
    prompts: list[str] | None = Field(default=None, max_length=8)
    negative_prompt: str | None = None


class AiToolkitIn(Lenient):
    """Input of the step `training`."""

    engine: Literal["ai-toolkit"]
    ecosystem: str | None = None
    model: str | None = None
    training_data: TrainingDataIn
    samples: SamplesIn | None = None
    steps: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    text_encoder_lr: float | None = None
    train_text_encoder: bool | None = None
    lr_scheduler: str | None = None
    optimizer_type: str | None = None
    network_dim: int | None = None
    network_alpha: float | None = None
    noise_offset: float | None = None
    min_snr_gamma: float | None = None
    flip_augmentation: bool | None = None
    shuffle_tokens: bool | None = None
    keep_tokens: int | None = None
    trigger_word: str | None = None
    continue_from: str | None = None
    lora_name: str | None = None


class KohyaIn(Lenient):
    """Input of the step `imageResourceTraining`."""

    engine: Literal["kohya"] = "kohya"
    model: str = Field(min_length=1, max_length=300)
    training_data: str = Field(max_length=3000)
    training_data_images_count: int | None = Field(default=None, ge=0)
    lora_name: str | None = None
    sample_prompts: list[str] | None = Field(default=None, max_length=8)
    negative_prompt: str | None = None
    max_train_epochs: int | None = None
    num_repeats: int | None = None
    train_batch_size: int | None = None
    resolution: int | None = None
    enable_bucket: bool | None = None
    shuffle_caption: bool | None = None
    keep_tokens: int | None = None
    clip_skip: int | None = None
    flip_augmentation: bool | None = None
    unet_lr: float | None = Field(default=None, alias="unetLR")
    text_encoder_lr: float | None = Field(default=None, alias="textEncoderLR")
    lr_scheduler: str | None = None
    lr_scheduler_num_cycles: int | None = None
    min_snr_gamma: float | None = None
    network_dim: int | None = None
    network_alpha: float | None = None
    noise_offset: float | None = None
    optimizer_type: str | None = None


class StepIn(Lenient):
    type: str = Field(alias="$type", max_length=60)
    input: Json
    name: str | None = Field(default=None, pattern=STEP_NAME)
    metadata: Json | None = None
    priority: str | None = None
    timeout: str | None = Field(default=None, max_length=40)
    retries: int | None = None


class CallbackIn(Lenient):
    url: str = Field(max_length=2000, pattern=r"^https?://")
    type: list[Annotated[str, StringConstraints(pattern=EVENT)]] = Field(min_length=1, max_length=20)
    detailed: bool | None = None


class WorkflowIn(Lenient):
    """A workflow as it is submitted. `externalId` makes it safe to send twice."""

    steps: list[StepIn] = Field(min_length=1, max_length=MAX_STEPS)
    metadata: Json | None = None
    tags: list[Tag] | None = Field(default=None, max_length=MAX_TAGS)
    arguments: Json | None = None
    callbacks: list[CallbackIn] | None = Field(default=None, max_length=5)
    external_id: str | None = Field(default=None, min_length=1, max_length=255)


class WorkflowPatch(Lenient):
    """PUT of a workflow; `status` can only be `canceled`. What is left out stays as it is."""

    status: str | None = None
    metadata: Json | None = None
    tags: list[Tag] | None = Field(default=None, max_length=MAX_TAGS)


class StepPatch(Lenient):
    metadata: Json


class PatchOperation(Lenient):
    """One operation of a JSON Patch (RFC 6902)."""

    op: Literal["add", "remove", "replace", "test"]
    path: str = Field(max_length=500)
    value: AnyJson = None


class JobIn(Lenient):
    """A job of version 1, of either kind."""

    type: Literal["textToImage", "imageResourceTraining"] = Field(alias="$type")
    model: str
    params: Json = {}
    additional_networks: Json | list[Any] | None = None
    control_nets: list[Any] | None = None
    training_data: str | None = None
    quantity: Annotated[int, Field(ge=1, le=16)] | None = None
    batch_size: Annotated[int, Field(ge=1, le=16)] | None = None
    callback_url: str | None = Field(default=None, max_length=2000, pattern=r"^https?://")
    properties: Json | None = None


class JobQuery(Lenient):
    cursor: str | None = None
    job_type: str | None = None
    properties: Json | None = None


class TaintIn(Lenient):
    """A mark on results that are not good. It stays with the job; nothing else follows from it."""

    reason: str | None = Field(default=None, max_length=1000)
    context: Json | None = None
    properties: Json | None = None
