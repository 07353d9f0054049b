"""What recognition answers: one frozen value that REST, pages and the command line show alike."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Kind = Literal[
    "checkpoint", "lora", "vae", "text-encoder", "image-encoder", "embedding", "controlnet", "adapter",
    "motion-module", "upscaler", "other", "unknown",
]  # fmt: skip
"""`adapter` is what steers by a picture (IP-Adapter, T2I-Adapter); `other` is known and of no use alone."""
Algorithm = Literal["LoRA", "LoCon", "LoHa", "LoKr", "DoRA", "GLoRA", "OFT", "IA3", "full difference"]
Naming = Literal[
    "kohya", "kohya-sgm", "diffusers", "diffusers-old", "peft", "cloneofsimo", "original", "onetrainer",
    "lycoris", "unknown",
]  # fmt: skip
"""`kohya` has diffusers' block names, `kohya-sgm` those of the single file; `diffusers` writes lora_A and
lora_B, `diffusers-old` up and down; `original` is what ai-toolkit and ComfyUI write (diffusion_model.…)."""
Prediction = Literal["epsilon", "v", "edm", "edm-v", "flow"]
MODEL_TYPES: dict[str, tuple[str, ...]] = {
    "checkpoint": ("Checkpoint", "UNet"),
    "lora": ("LORA", "LoCon", "DoRA"),
    "vae": ("VAE",),
    "text-encoder": ("TextEncoder",),
    "image-encoder": ("CLIPVision",),
    "embedding": ("TextualInversion",),
    "controlnet": ("Controlnet",),
    "adapter": ("Controlnet", "Other"),
    "motion-module": ("MotionModule",),
    "upscaler": ("Upscaler",),
    "other": ("Other",),
}
"""Which of Civitai's model types a file of this kind may be called; the first is the usual one."""
WORDS = {
    "checkpoint": "a checkpoint", "lora": "a LoRA", "vae": "a VAE", "text-encoder": "a text encoder",
    "image-encoder": "an image encoder", "embedding": "an embedding (textual inversion)",
    "controlnet": "a ControlNet", "adapter": "an adapter for reference pictures",
    "motion-module": "a motion module", "upscaler": "an upscaler", "other": "a part of another model",
    "unknown": "something that is not known here",
}  # fmt: skip


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AdapterFacts(Frozen):
    """A LoRA and its relatives."""

    algorithm: Algorithm
    naming: Naming
    rank: int | None = None
    """The commonest one; None where nothing has a rank."""
    ranks: tuple[int, ...] = ()
    """All of them, smallest first."""
    conv_rank: int | None = None
    alpha: float | None = None
    """As the metadata says; None = not said there (each module's own value is in the weights)."""
    modules: int
    acts_on: tuple[str, ...]
    """`unet`, `transformer`, `text-encoder`, `text-encoder-2`, `text-encoder-3`."""
    unplaced: int = 0
    """Layers and tensors that have no place in the base model and will do nothing."""
    unplaced_names: tuple[str, ...] = ()
    """The first 50 of them, as they stand in the file."""


class EmbeddingFacts(Frozen):
    vectors: int
    width: int
    """Numbers of one vector; of the first text encoder where there are several."""


class Recognised(Frozen):
    """What a file is, from its header alone. None means: the header does not say."""

    kind: Kind
    file_format: Literal["SafeTensor", "Diffusers"] = "SafeTensor"
    """Civitai's words for one safetensors file and for a zipped diffusers folder."""
    model_type: str | None = None
    """Civitai's word: `Checkpoint`, `LORA`, `LoCon`, `DoRA`, `VAE`, …"""
    architecture: str | None = None
    """Key in `bases.BASES`: `sd1`, `sdxl`, `flux1`, …"""
    base_model: str | None = None
    """In Civitai's words: `SD 1.5`, `SDXL 1.0`, `Flux.1 D`, … and our own `Starter 1`."""
    family: str | None = None
    """Name of the family that can run it here; None where none can."""
    variant: str = "base"
    """`base`, `inpaint`, `refiner`, `pix2pix`, `depth`, `upscale`, `control`, `i2v`, …"""
    prediction: Prediction | None = None
    """What the denoiser predicts, as its marks, its metadata or its architecture say."""
    zero_terminal_snr: bool = False
    distilled: str | None = None
    """`turbo`, `lcm`, `lightning` or `hyper`: made for few steps."""
    layout: str | None = None
    """How the weights are named: `ldm` (single file), `diffusers`, `original`."""
    precision: str | None = None
    """`fp32`, `fp16`, `bf16`, `fp8`, …: what most numbers are."""
    quantised: str | None = None
    pruned: Literal["full", "pruned"] | None = None
    has_vae: bool = False
    text_encoders: tuple[str, ...] = ()
    component: str | None = None
    """What a file that is only a part is, e.g. `CLIP ViT-L/14`."""
    adapter: AdapterFacts | None = None
    embedding: EmbeddingFacts | None = None
    trained_words: tuple[str, ...] = ()
    title: str | None = None
    tensors: int
    parameters: int
    why: str
    """How it was told, in one sentence."""
    notes: tuple[str, ...] = ()
    """What its owner should know: what could not be told, what cannot be done with it here."""

    @property
    def words(self) -> str:
        """`a LoRA for SDXL 1.0`, for sentences."""
        name = f" for {self.base_model}" if self.kind != "checkpoint" else f" ({self.base_model})"
        return WORDS[self.kind] + (name if self.base_model else "")
