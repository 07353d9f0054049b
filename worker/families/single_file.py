"""One .safetensors file that holds a whole checkpoint, as most people have it.

The file is mapped, never read as a whole: weights that keep their precision stay in it until they
are touched, and what a card takes is copied piece by piece. Each tensor that a model needs is looked
for by name (`ldm_keys`), so that nothing stays random in silence; what nobody asked for is told too.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import PreTrainedModel

from app.recognition import HeaderRefused, prediction_of, read_header
from worker.families.base import CheckpointRefused
from worker.families.ldm_keys import Names, Place

KNOWN_LEFTOVERS = re.compile(
    r"^model_ema\.|\.position_ids$|\.logit_scale$|(^|\.)v_pred$|(^|\.)ztsnr$|^first_stage_model\.loss\."
    r"|^(log_|sqrt_)?(one_minus_|recip_|recipm1_)?alphas_cumprod(_prev)?$|^betas$|^posterior_|^logvar$"
    r"|per_channel_statistics\.(channel|mean-of-stds)|^denoiser\.|^loss\.|^global_step$|^scale_factor$"
)
"""What checkpoints carry along and nobody needs: averages of the training, its schedule, marks."""
OLD_TEXT_NAMES = re.compile(r"^(.*\.transformer\.)(embeddings|encoder|final_layer_norm)\.")
"""CLIP as some early files have it, without `text_model.`."""
COMPRESSED = (".scale_weight", ".weight_scale", "scaled_fp8", ".quant_state.bitsandbytes__nf4", ".absmax")


def fill_positions(model: Any) -> None:
    """What is no weight and so not in a file: the places of CLIP's tokens."""
    for name, buffer in list(model.named_buffers()):
        if buffer.is_meta:
            owner = model.get_submodule(name.rpartition(".")[0])
            owner.position_ids = torch.arange(buffer.shape[-1]).expand(buffer.shape)


@dataclass(frozen=True)
class Part:
    """One model of a checkpoint: its class, and where a single file keeps its tensors."""

    name: str
    kind: Any
    prefixes: tuple[str, ...]
    names: Names
    lacking: str = ""
    """What to say where the file has nothing of it."""
    spare: str = r"(?!)"
    """Names of tensors that some files leave out because nothing reads them."""
    complete: Callable[[Any], None] = fill_positions
    """Computes what is no weight."""
    our_mark: str = ""
    """A tensor that only files with our own names have; "" = no file is written with them."""


TRAINED_ALIKE = {None: "epsilon", "epsilon": "epsilon", "v": "v_prediction"}
"""What recognition says → diffusers' word."""


class Marks(NamedTuple):
    """What the checkpoint learnt to predict, as its own marks say."""

    prediction_type: str = "epsilon"
    zero_terminal_snr: bool = False


@dataclass
class SingleFile:
    """An opened file. CheckpointRefused where it cannot be read or is compressed."""

    path: Path
    shapes: dict[str, tuple[int, ...]] = field(init=False)
    """By name; early files' names are brought up to date."""
    metadata: dict[str, str] = field(init=False)
    _used: set[str] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        try:
            self._open: Any = safe_open(self.path, framework="pt")
            keys = self._open.keys()
            self._keys = {OLD_TEXT_NAMES.sub(r"\1text_model.\2.", key): key for key in keys}
            self.shapes = {
                name: tuple(self._open.get_slice(key).get_shape()) for name, key in self._keys.items()
            }
        except (OSError, SafetensorError) as error:
            raise CheckpointRefused(
                f"{self.path.name} is damaged or no .safetensors file. Upload it again."
            ) from error
        self.metadata = self._open.metadata() or {}
        if any(key.endswith(COMPRESSED) for key in self.shapes):
            raise CheckpointRefused(
                f"The weights in {self.path.name} are compressed with scales of their own. "
                "Bring the fp16 or bf16 form of this checkpoint."
            )

    def read_marks(self) -> Marks:
        """From marker tensors and metadata; epsilon where nothing is said. CheckpointRefused for EDM."""
        try:
            with self.path.open("rb") as file:
                said, zero_terminal_snr = prediction_of(read_header(file, self.path.stat().st_size))
        except HeaderRefused as error:
            raise CheckpointRefused(error.detail) from error
        if said not in TRAINED_ALIKE:
            raise CheckpointRefused(
                f"{self.path.name} learnt with a noise schedule (EDM) that cannot be used here yet."
            )
        return Marks(TRAINED_ALIKE[said], zero_terminal_snr)

    def load(self, part: Part, config: Mapping[str, Any], dtype: torch.dtype) -> Any:
        """The model with all its weights, on the CPU. CheckpointRefused names what is absent or misshapen."""
        model = empty_model(part.kind, config)
        exact = tuple(getattr(part.kind, "_keep_in_fp32_modules", None) or ())
        part = self._spelled(part)
        wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        prefix = self._prefix(part, config, next(iter(wanted)))
        weights: dict[str, Tensor] = {}
        missing = []
        for name, shape in wanted.items():
            place = part.names(name, config)
            place = place._replace(key=prefix + place.key)
            if place.key in self.shapes:
                kept = any(word in exact for word in name.split("."))
                weights[name] = self._tensor(place, shape).to(torch.float32 if kept else dtype)
            elif re.search(part.spare, name):
                weights[name] = torch.zeros(shape, dtype=dtype)
            else:
                missing.append(place.key)
        if missing:
            raise CheckpointRefused(f"{self.path.name} lacks {len(missing)} tensors: {few(missing)}.")
        model.load_state_dict(weights, assign=True)
        part.complete(model)
        return model.eval()

    def shape(self, part: Part, names: tuple[str, ...]) -> tuple[int, ...]:
        """Of the first of these tensors of `part` that the file has; () where it has none."""
        keys = (prefix + name for name in names for prefix in part.prefixes)
        return next((self.shapes[key] for key in keys if key in self.shapes), ())

    def _spelled(self, part: Part) -> Part:
        """With our own names where the file is written with them."""
        ours = part.our_mark and any(prefix + part.our_mark in self.shapes for prefix in part.prefixes)
        return replace(part, names=as_it_is) if ours else part

    def _prefix(self, part: Part, config: Mapping[str, Any], first: str) -> str:
        for prefix in part.prefixes:
            if prefix + part.names(first, config).key in self.shapes:
                return prefix
        raise CheckpointRefused(f"{self.path.name} {part.lacking}")

    def _tensor(self, place: Place, shape: tuple[int, ...]) -> Tensor:
        """The tensor in the shape that the model wants; sides of 1 come and go (1x1 convolutions)."""
        tensor: Tensor = self._open.get_tensor(self._keys[place.key])
        self._used.add(place.key)
        if place.transposed:
            tensor = tensor.T.contiguous()
        if place.third is not None and len(tensor) % 3 == 0:
            tensor = tensor.chunk(3)[place.third]
        if [side for side in tensor.shape if side != 1] != [side for side in shape if side != 1]:
            raise CheckpointRefused(
                f"{place.key} in {self.path.name} has the shape {_shape(self.shapes[place.key])}, where "
                f"{_shape(shape)} is wanted: it is a checkpoint of another kind."
            )
        return tensor.reshape(shape)

    def unplaced(self) -> list[str]:
        """Tensors that no model took, without those that are known to be of no use."""
        return [key for key in self.shapes if key not in self._used and not KNOWN_LEFTOVERS.search(key)]


def empty_model(kind: Any, config: Mapping[str, Any]) -> Any:
    """The model without memory for its weights, and without the time to make them up."""
    with torch.device("meta"):
        if issubclass(kind, PreTrainedModel):
            return kind(kind.config_class(**config))
        return kind.from_config(dict(config))


def as_it_is(name: str, _config: Mapping[str, Any]) -> Place:
    return Place(name)


def _shape(sides: tuple[int, ...]) -> str:
    return " × ".join(map(str, sides)) or "a single number"


def few(names: list[str]) -> str:
    """The first three of many names."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
