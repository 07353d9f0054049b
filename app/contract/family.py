"""Facts about a model family that need no torch: what forms show, what requests may ask for.

Each family keeps one `FamilySpec` in `worker/families/<name>/spec.py`; the catalogue finds it.
Sizes are pixels, memory is bytes, rates are per optimizer step.
"""

from pydantic import BaseModel, ConfigDict

TrainingType = str
"""One of `style`, `character`, `concept`: text, checked by pydantic where it enters."""


class Frozen(BaseModel):
    """A value of the contract: immutable, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ParamLimits(Frozen):
    """What one training parameter may be, with the words that the form shows."""

    label: str
    help: str
    default: float | int | str | bool | None
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()
    nullable: bool = False


class Aspect(Frozen):
    name: str
    """`square`, `portrait` or `landscape`."""
    width: int
    height: int


class ClipRule(Frozen):
    """What a family can take: frames per second, and lengths of `step` · n + 1 frames."""

    fps: float
    step: int = 4


class ClipDefaults(Frozen):
    """How a family trains on clips and makes them. Lengths are legal ones, in frames at its rate."""

    rule: ClipRule
    window: int
    """Of a training, unless said otherwise."""
    max_window: int
    length: int
    """Of a clip that is drawn, unless said otherwise."""
    max_length: int
    shift: float
    """Of the noise schedule while drawing: more puts more steps where motion is decided."""
    max_shift: float = 20.0
    first_frame: bool = False
    """Whether a clip can go on from a picture."""
    experts: bool = False
    """Two networks share the steps (high and low noise); a LoRA then is two files."""


class GenerationDefaults(Frozen):
    sampler: str
    steps: int
    cfg_scale: float
    width: int
    height: int
    clip_skip: int = 1
    max_side: int = 1024
    min_side: int = 64
    multiple: int = 8
    max_steps: int = 60
    max_quantity: int = 8
    precision: dict[str, str] = {}
    """Of the weights, by kind of device (`cpu`, `cuda`): `fp32` where nothing is said, `bf16` or `fp16`."""


class DeviceMemory(Frozen):
    """What a training takes on one kind of device. Steps are told for each pixel of a batch."""

    measured_on: str = ""
    """The machine; empty = computed from the shapes of the models, so only about right."""
    overhead: int
    """Bytes of libraries and of what allocators hold back, whatever is trained."""
    step: dict[str, float]
    """Bytes a pixel that wait for the backward pass, by precision."""
    step_checkpointed: dict[str, float]
    """The same with gradient checkpointing."""
    encode: float
    """Bytes a pixel of one picture that the VAE reads."""
    draw: float
    """Bytes a pixel of one sample picture that is drawn."""


class TrainMemory(Frozen):
    """Sizes of a family's models in numbers, and what computing with them takes, by kind of device.

    Written by `./dev bench memory`, read from `memory.json` beside the spec.
    """

    model: int
    blocks: int = 0
    """Of `model`, what lies in blocks that can wait in host memory or be held as int8; 0 = nothing."""
    block: int = 0
    """In one of these blocks."""
    text: int
    """Of all text encoders."""
    vae: int
    rank: int
    """Numbers that an adapter has for each step of `network_dim`; likewise of `conv_dim` and for text."""
    rank_convolutions: int
    rank_text: int
    latent: float
    """Bytes a pixel of a cached picture: mean and deviation of its latents."""
    caption: int
    """Bytes of a cached caption's embeddings."""
    text_step: int
    """Bytes a caption takes in a step that trains the text encoders."""
    devices: dict[str, DeviceMemory]
    """By `cpu` and `cuda`."""


class FamilySpec(Frozen):
    """One model family as the web process and the forms know it."""

    name: str
    """Key used in jobs: `starter`, `sd1`, …"""
    title: str
    base_model: str
    """Civitai-style base model name, e.g. `SD 1.5`; the starter has its own."""
    air: str
    """Ecosystem part of the AIR, e.g. `sd1`."""
    ss_base_model_version: str
    modelspec_architecture: str
    modelspec_implementation: str
    licence: str
    media: tuple[str, ...] = ("image",)
    """What it trains on: `image`, `video` (then of pictures alone too, as clips of one frame)."""
    resolution: int
    bucket_multiple: int
    """Bucket sides are multiples of this many pixels."""
    token_limit: int = 75
    step_target: int
    """R of `repeats = ceil(R / images)`; samples seen in one epoch of the normal preset."""
    epochs: int = 10
    params: dict[str, ParamLimits]
    """Limits and defaults by name of `TrainParams` field."""
    by_type: dict[str, dict[str, float | int | str | bool | None]] = {}
    """Defaults that differ by training type (`style`, `character`, `concept`)."""
    generation: GenerationDefaults
    aspects: tuple[Aspect, ...]
    sample_negative_prompt: str = ""
    clips: ClipDefaults | None = None
    """None = it knows pictures only."""
    memory: TrainMemory | None = None
    """None = never measured nor computed: then nothing is said and nothing refused."""
