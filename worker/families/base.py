"""What a model family must be able to do: few verbs, no inheritance.

`recipe.train` knows only this protocol. Shared maths and formats are functions in the modules
beside this one (epsilon, flow, clip_unet, wan_clips, kohya_keys); an adapter puts them together. Families of
clips have a time axis behind the channels everywhere: a picture is a clip of one frame.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from app.contract.family import FamilySpec
from app.contract.jobs import CheckpointRef
from worker.draws import Draws, Key

Cond = dict[str, Tensor]
"""What the model is conditioned on: tensors by name, first dimension = caption."""


class CheckpointRefused(ValueError):
    """This base checkpoint cannot be used; the message says why and what to bring instead."""


@dataclass(frozen=True)
class Chosen:
    """What is taken in place of the checkpoint's own, or for what it lacks."""

    vae: Path | None = None
    """One .safetensors file."""
    text_encoder: Path | None = None
    """A folder with the folders text_encoder and tokenizer."""
    low_noise: Path | None = None
    """The second network of a family with experts, as one .safetensors file."""

    @classmethod
    def of(cls, base: CheckpointRef, files: Mapping[str, Path]) -> "Chosen":
        """What `base` names, from the job's files by sha256."""
        named = (base.vae, base.text_encoder, base.low_noise)
        return cls(*(files[blob.sha256] if blob else None for blob in named))


NOTHING = Chosen()


@dataclass
class Parts:
    """The pieces of a loaded checkpoint. The encoders are None while they are freed."""

    base: Path
    device: torch.device
    model: Any
    """The network that predicts: a U-Net or a transformer."""
    tokenizer: Any
    scheduler: Any
    """Only its configuration and `alphas_cumprod` are read."""
    text_encoder: Any = None
    vae: Any = None
    tokenizer_2: Any = None
    text_encoder_2: Any = None
    """SDXL has two."""
    model_2: Any = None
    """The network for low noise, where `model` is for high noise only."""
    factors: tuple[int, int] = (1, 1)
    """Frames and pixels a latent, of families of clips."""
    boundary: float = 1.0
    """Noise level from which on `model` is asked and below which `model_2`."""
    chosen: Chosen = NOTHING
    """What was taken in place of the checkpoint's own."""
    notes: Sequence[str] = ()
    """What the owner should know of the checkpoint."""

    def free_encoders(self, *, keep_text_encoder: bool) -> None:
        """Drop what only encodes: `Family.load_encoders` brings it back for samples."""
        self.vae = None
        if not keep_text_encoder:
            self.text_encoder = self.text_encoder_2 = None

    def move_text(self, device: torch.device | str) -> None:
        """Put the text encoders elsewhere, where there is room for them."""
        for encoder in (self.text_encoder, self.text_encoder_2):
            if encoder is not None:
                encoder.to(device)

    @property
    def networks(self) -> dict[str, Any]:
        """The networks that learn, by the names that their layers' names begin with."""
        return {"model": self.model} | ({"model_2": self.model_2} if self.model_2 is not None else {})

    def checkpoint_gradients(self) -> None:
        """Compute again in the backward pass what is not kept for it: less memory, slower steps."""
        for model in self.networks.values():
            model.enable_gradient_checkpointing()
            model.train()


class Latents(NamedTuple):
    """Mean and standard deviation of the VAE's posterior, scaled as the model wants them: [B, C, h, w],
    of clips [B, C, t, h, w]."""

    mean: Tensor
    std: Tensor


@dataclass(frozen=True)
class LoraTargets:
    """Names of the modules that get an adapter, relative to `parts.model`, `parts.text_encoder`, …"""

    model: tuple[str, ...]
    convolutions: tuple[str, ...]
    """Adapted only with `conv_dim`."""
    text_encoder: tuple[str, ...]
    text_encoder_2: tuple[str, ...] = ()


@dataclass(frozen=True)
class Batch:
    """Samples of one size. `keys` seed the draws of each sample; all tensors are on the device.

    `std` None takes the mean itself. `timesteps` None draws them.
    """

    mean: Tensor
    std: Tensor | None
    cond: Cond
    keys: Sequence[Key]
    timesteps: Tensor | None = None
    min_snr_gamma: float = 0.0
    noise_offset: float = 0.0
    clip_skip: int = 1
    """Used where the text encoder is trained and runs within the loss."""
    frames: Tensor | None = None
    """How each picture was cut, [B, 6] in pixels: height and width as it was, top and left of the cut,
    height and width of the cut."""
    flow_shift: float = 1.0
    timestep_density: str = "uniform"
    turn: int = 0
    """Number of the step: a family with two networks trains them in turns."""


class Family(Protocol):
    @property
    def spec(self) -> FamilySpec: ...

    def load(self, base: Path, device: torch.device, dtype: torch.dtype, chosen: Chosen = NOTHING) -> Parts:
        """All parts, frozen; the model in `dtype` and still on the CPU, where it waits while the
        encoders need the room; these in fp32, T5 as the model. Raises CheckpointRefused.

        `base` is a diffusers folder or one .safetensors file.
        """
        ...

    def load_encoders(self, parts: Parts) -> None:
        """Put freed encoders back into `parts`."""
        ...

    def latent_factor(self, parts: Parts) -> int:
        """Pixels a latent, along one side."""
        ...

    def encode_images(self, parts: Parts, pixels: Tensor) -> Latents:
        """Pixels [B, 3, H, W] in -1…1 → scaled posterior [B, C, H/f, W/f], fp32.

        Of clips: [B, 3, T, H, W] → [B, C, t, H/f, W/f].
        """
        ...

    def encode_captions(self, parts: Parts, captions: Sequence[str], clip_skip: int, *, live: bool) -> Cond:
        """Captions → conditioning. `live`: tokens only, the text encoder runs within the loss."""
        ...

    def count_tokens(self, parts: Parts, caption: str) -> int:
        """Tokens of a caption without start and end, before anything is cut off."""
        ...

    def lora_targets(self, parts: Parts) -> LoraTargets: ...

    def loss(self, parts: Parts, batch: Batch, rng: Draws) -> Tensor:
        """Weighted loss of each sample: [B], fp32."""
        ...

    def prediction_type(self, parts: Parts) -> str:
        """`epsilon`, `v_prediction` or `flow`."""
        ...

    def export_keys(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Adapter state (see `worker.training.lora`) under the names that other programs read.

        Of two networks only `model` is exported: the other one's state is given in its own call as `model.…`.
        """
        ...

    def import_keys(
        self, tensors: Mapping[str, Tensor], modules: Sequence[str], metadata: Mapping[str, str]
    ) -> dict[str, Tensor]:
        """The way back, for `modules`, from any spelling. ValueError for tensors that fit none of them."""
        ...

    def assemble(self, parts: Parts) -> Any:
        """A diffusers pipeline around the loaded parts, adapters included."""
        ...

    def pipeline(self, base: Path, dtype: torch.dtype, chosen: Chosen = NOTHING) -> Any:
        """A fresh diffusers pipeline of this checkpoint, on the CPU."""
        ...


def modules_of(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> list[str]:
    """Names of all sub-modules of these kinds, in the model's order."""
    return [name for name, module in model.named_modules() if isinstance(module, kinds)]
