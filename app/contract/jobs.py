"""What a worker is asked to do, and what it answers: frozen, versioned, a union by `kind`.

The job row's `input` column holds one of these as JSON; a Celery message carries none of it.
Keys name objects in storage (`blobs/<sha256>`); sizes are bytes, picture sides are pixels.
"""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from app.contract.family import Frozen

QUEUES = ("train", "generate", "files")
UPSCALERS = ("Latent", "Latent (nearest)", "Lanczos", "Nearest")
"""For `Hires`: in the latents, or of the pixels and encoded again."""
OPTIMIZERS = ("adamw", "prodigy", "adafactor")
DENSITIES = ("uniform", "logit_normal")
"""How the noise levels are spread that a flow is trained on."""
LR_SCHEDULERS = ("constant", "cosine", "cosine_with_restarts", "linear")
TRAINING_TYPES = ("style", "character", "concept")
PRESETS = ("quick", "normal", "best")


class BlobRef(Frozen):
    """One stored file. `sha256` is lower-case hex of all its bytes and is its address in storage."""

    sha256: str
    size: int
    name: str

    @property
    def key(self) -> str:
        return f"blobs/{self.sha256}"


class CheckpointRef(Frozen):
    """A base checkpoint: a zipped diffusers folder (`Diffusers`) or one `SafeTensor` file."""

    file: BlobRef
    format: str
    family: str
    name: str
    base_model: str
    model_version_id: int | None = None
    vae: BlobRef | None = None
    """A VAE to take instead of the checkpoint's own, as one safetensors file."""
    text_encoder: BlobRef | None = None
    """Of a family whose single files hold none."""
    low_noise: BlobRef | None = None
    """The second network of a family with `experts`, where `file` is the first alone."""


class LoraRef(Frozen):
    """A LoRA to attach. `name` is what `<lora:name:strength>` in a prompt calls it."""

    file: BlobRef
    name: str
    title: str = ""
    """Its model page's name, for people."""
    low_noise: BlobRef | None = None
    """Of a family with `experts`: `file` is for high noise, this one for low; None = `file` for both."""
    strength: float
    text_encoder_strength: float | None = None
    """Of its text encoder part; None = as `strength`."""
    base_model: str
    model_version_id: int | None = None
    autov3: str = ""
    """First 12 hex of the tensor hash, for `Lora hashes` in the infotext."""


class EmbeddingRef(Frozen):
    """A textual inversion. Its `name` in a prompt or negative prompt stands for its vectors."""

    file: BlobRef
    name: str
    title: str = ""
    base_model: str
    model_version_id: int | None = None
    autov3: str = ""


class TrainItem(Frozen):
    """One picture of the snapshot: normalised PNG or JPEG in storage and its label as typed.

    A clip is an H.264 MP4 of `frames` frames at the constant rate `fps`; a picture has one and no rate.
    """

    file: BlobRef
    width: int
    height: int
    label: str
    frames: int = 1
    fps: float | None = None


class TrainParams(Frozen):
    """All settings of a training, resolved: None only where it means "off" or "let the machine choose".

    Names as in Civitai's and kohya's forms. Steps are optimizer steps.
    """

    resolution: int
    epochs: int
    repeats: int
    max_steps: int | None = None
    batch_size: int
    gradient_accumulation: int = 1
    unet_lr: float
    text_encoder_lr: float = 0.0
    lr_scheduler: str = "cosine"
    lr_warmup: float = 0.05
    """Share of all steps, 0-1."""
    lr_cycles: int = 1
    optimizer: str = "adamw"
    network_dim: int
    network_alpha: float
    conv_dim: int | None = None
    conv_alpha: float | None = None
    noise_offset: float = 0.0
    min_snr_gamma: float = 5.0
    """0 = off."""
    enable_bucket: bool = True
    shuffle_tags: bool = False
    keep_tokens: int = 0
    caption_dropout: float = 0.05
    flip: bool = False
    clip_skip: int = 1
    gradient_checkpointing: bool = False
    precision: str = "fp32"
    """`fp32` or `bf16`."""
    seed: int = 42
    save_every_epochs: int = 1
    holdout: bool = True
    """Keep one picture in eight (from eight on) out of training to measure over-fitting."""
    clip_frames: int = 1
    """Length of the windows that clips are cut to, in frames at the family's rate."""
    clip_windows: str = "uniform"
    """How clips are cut: a mode of `app.contract.clips`."""
    clip_count: int = 4
    """Windows of a clip with `uniform`."""
    clip_stride: int | None = None
    """Frames between two windows with `sliding`; None = half a window."""
    flow_shift: float = 1.0
    """Of the noise levels that are trained on, where the family predicts a flow; 1 = none."""
    timestep_density: str = "uniform"
    """One of DENSITIES, before the shift."""


class SamplePrompt(Frozen):
    prompt: str
    negative_prompt: str = ""
    seed: int = 1
    width: int
    height: int
    frames: int = 1
    """More than one: a clip at the family's rate."""


class TrainJob(Frozen):
    """Train one LoRA. Everything that decides the result is in here, threads included."""

    kind: Literal["train"] = "train"
    version: Literal[1] = 1
    name: str
    output_name: str
    """File stem of the adapter: only [A-Za-z0-9_.-]."""
    type: str
    base: CheckpointRef
    items: tuple[TrainItem, ...]
    label_type: str = "tag"
    trigger_word: str = ""
    params: TrainParams
    sample_prompts: tuple[SamplePrompt, ...] = ()
    continue_from: BlobRef | None = None
    continue_low_noise: BlobRef | None = None
    """The second file of `continue_from`, of a family with `experts`; None = the first for both."""
    threads: int = 2
    sparing: bool = False
    """Draw samples with little memory: in tiles, text encoder outside the card. Changes nothing else."""
    streamed: bool = False
    """Weights of the network's blocks wait in host memory and come for their turn. Changes no number."""
    quantised: bool = False
    """Frozen weights of the blocks are held as int8, one scale a row: half of bf16, a little less exact."""


class StartPicture(Frozen):
    """Start from a picture instead of noise (img2img), or draw only a part of it anew (inpaint).

    `file` is a normalised PNG or JPEG of any size; it is scaled and cut to the job's. `mask` is a
    PNG whose bright parts are drawn anew; `mask_blur` softens its edge by so many pixels. With
    `mask_padding` only the masked part and so many pixels around it are drawn, in the job's full size, and
    put back: small things get as many pixels as a whole picture.
    """

    file: BlobRef
    denoise: float = 0.75
    """0 = the picture itself, 1 = nothing of it."""
    mask: BlobRef | None = None
    mask_blur: int = 4
    mask_padding: int | None = None
    """Pixels of the job's size; None = the whole picture is drawn."""


class Hires(Frozen):
    """Draw small first, then scale by `scale` and refine: large pictures without repeated subjects.

    `upscaler` is one of UPSCALERS; `steps` None takes the job's.
    """

    scale: float = 1.5
    upscaler: str = "Latent"
    denoise: float = 0.55
    steps: int | None = None


class Cell(Frozen):
    """One picture of a grid: its place, and what differs there from the job (None = nothing)."""

    x: int
    y: int
    seed: int | None = None
    prompt: str | None = None
    negative_prompt: str | None = None
    sampler: str | None = None
    schedule: str | None = None
    steps: int | None = None
    cfg_scale: float | None = None
    loras: tuple[LoraRef, ...] | None = None


class Grid(Frozen):
    """An X/Y grid: picture n of the job is `cells[n]`. Axis names and labels are words for people."""

    x_axis: str
    x_labels: tuple[str, ...]
    y_axis: str = ""
    y_labels: tuple[str, ...] = ("",)
    cells: tuple[Cell, ...]


class GenerateJob(Frozen):
    """Draw `len(seeds)` pictures; picture i uses `seeds[i]`, whatever the batch size.

    With `grid`, picture i is its cell i.
    """

    kind: Literal["generate"] = "generate"
    version: Literal[1] = 1
    base: CheckpointRef
    loras: tuple[LoraRef, ...] = ()
    embeddings: tuple[EmbeddingRef, ...] = ()
    prompt: str
    negative_prompt: str = ""
    sampler: str
    """A name of `app.contract.samplers`, joined or not."""
    schedule: str = "Automatic"
    steps: int
    cfg_scale: float
    width: int
    height: int
    seeds: tuple[int, ...]
    clip_skip: int = 1
    start: StartPicture | None = None
    hires: Hires | None = None
    grid: Grid | None = None
    frames: int = 1
    """More than one: clips instead of pictures; `start` is then their first frame."""
    fps: float | None = None
    """At which clips are played; None = the family's rate."""
    shift: float | None = None
    """Of the noise schedule of a family that predicts a flow; None = its own."""
    threads: int = 2


class FilesJob(Frozen):
    """Work on stored files that needs no model: `finalize_upload` or `import_zip`."""

    kind: Literal["files"] = "files"
    version: Literal[1] = 1
    task: str
    upload: str | None = None
    dataset: str | None = None


Job = Annotated[TrainJob | GenerateJob | FilesJob, Field(discriminator="kind")]
JOB: TypeAdapter[TrainJob | GenerateJob | FilesJob] = TypeAdapter(Job)
