"""From a LoRA file to changes of a pipeline's layers; what finds no place is told by name.

The loaded model is asked for its layers' names; the keys are taken apart where recognition does it too
(`app.recognition.lora_keys`). The header is read with recognition's caps first, and a tensor only
when its layer is known, so that a hostile file costs little.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from app.contract.events import Unplaced
from app.recognition.foreign import HeaderRefused
from app.recognition.header import Header, read_header
from app.recognition.lora_keys import APPLIED, NUMBERED, Scale, locate, numbering, said_scales, split_key
from app.recognition.transformer_names import LtxNames, WanNames
from app.recognition.unet_names import Names, UNetNames, numbered, spellings
from worker.inference.errors import LoraError
from worker.inference.lora_layers import Change, read_change

PARTS = ("unet", "text_encoder", "text_encoder_2")
NETWORK, SECOND = "transformer", "transformer_2"
"""Of pipelines that draw clips; the second one is the expert for low noise."""
MOST_NAMES = 50
"""So many names are told of what has no place; the rest is counted."""


@dataclass(frozen=True)
class PipelineLayers:
    """Everything with weights in a pipeline's network and text encoders, by `unet.<path>` and the like.

    Of pipelines that draw clips only the network, `transformer.<path>`: nobody trains their text encoders.
    """

    modules: dict[str, nn.Module]
    _spelled: dict[str, Mapping[str, str]]
    """By part, as `locate` calls it: every flat spelling → key of `modules`."""
    _counted: dict[tuple[str, tuple[str, ...]], list[str]] = field(default_factory=dict)

    @staticmethod
    def of(pipe: Any) -> "PipelineLayers":
        if (network := getattr(pipe, NETWORK, None)) is not None:
            return PipelineLayers._of_clips(network, getattr(pipe, SECOND, None))
        modules: dict[str, nn.Module] = {}
        spelled: dict[str, Mapping[str, str]] = {}
        names = UNetNames.of(pipe.unet.config)
        for part in PARTS:
            model = getattr(pipe, part, None)
            if model is None:
                continue
            inner = _with_weights(model)
            modules |= {f"{part}.{name}": module for name, module in inner.items()}
            told = part.replace("_", "-")
            spelled[told] = {f: f"{part}.{name}" for f, name in spellings(part, inner, names).items()}
        return PipelineLayers(modules, spelled)

    @staticmethod
    def _of_clips(network: nn.Module, second: nn.Module | None) -> "PipelineLayers":
        """Names of files mean the first network; `twin` finds the layer of the second."""
        inner = _with_weights(network)
        names: Names = WanNames() if "blocks" in dict(network.named_children()) else LtxNames()
        modules = {f"{NETWORK}.{name}": module for name, module in inner.items()}
        if second is not None:
            modules |= {f"{SECOND}.{name}": module for name, module in _with_weights(second).items()}
        spelled = {flat: f"{NETWORK}.{name}" for flat, name in spellings("unet", inner, names).items()}
        return PipelineLayers(modules, {"unet": spelled})

    def twin(self, layer: str) -> str | None:
        """The same layer of the second network."""
        name = SECOND + layer.removeprefix(NETWORK)
        return name if layer.startswith(f"{NETWORK}.") and name in self.modules else None

    def find(self, stem: str, classes: Mapping[str, tuple[str, ...]]) -> str | None:
        """The layer that a key's stem means; `classes` are those whose layers cloneofsimo counts, by part."""
        part, name = locate(stem)
        part = "unet" if part == "transformer" else part
        if not NUMBERED.fullmatch(stem):
            return self._spelled.get(part, {}).get(name)
        layers = self._in_order(part, classes[part])
        return layers[int(name)] if int(name) < len(layers) else None

    def _in_order(self, part: str, classes: tuple[str, ...]) -> list[str]:
        if (part, classes) not in self._counted:
            own = part.replace("-", "_") + "."
            inner = [key.removeprefix(own) for key in self.modules if key.startswith(own)]
            plain = {name.removeprefix("text_model."): own + name for name in inner}
            self._counted[part, classes] = [plain[name] for name in numbered(part, plain, classes)]
        return self._counted[part, classes]

    def shapes(self, layer: str) -> dict[str, torch.Size]:
        """Of the layer's own weight and bias."""
        found = self.modules[layer]
        return {name: tensor.shape for name, tensor in found.named_parameters(recurse=False)}


def _with_weights(model: nn.Module) -> dict[str, nn.Module]:
    return {n: m for n, m in model.named_modules() if isinstance(getattr(m, "weight", None), Tensor)}


@dataclass(frozen=True)
class LoraFile:
    """Changes by layer (keys of `PipelineLayers.modules`), and what has no place here."""

    changes: dict[str, Change]
    unplaced: Unplaced | None


@dataclass
class _Group:
    """The tensors of one layer in the file."""

    kinds: set[str] = field(default_factory=set)
    keys: dict[str, str] = field(default_factory=dict)
    """Part → the tensor's name."""


def read_lora(path: Path, name: str, layers: PipelineLayers) -> LoraFile:
    """Read a .safetensors file in any spelling for these layers.

    LoraError where it is no whole safetensors file, holds numbers that are not finite, or fits nothing.
    """
    header = _header(path, name)
    groups, unread = _grouped(header)
    try:
        with safe_open(path, framework="pt") as file:
            said = said_scales(header.metadata), numbering(header.metadata)
            changes, left = _changes(_Opened(file, name, *said), groups, layers)
    except (OSError, SafetensorError) as error:
        raise LoraError(f"The file of the LoRA “{name}” cannot be read.") from error
    if not changes:
        raise LoraError(f"The LoRA “{name}” fits no layer of this checkpoint: it needs another base model.")
    names = left + unread
    unplaced = Unplaced(lora=name, count=len(names), names=tuple(names[:MOST_NAMES])) if names else None
    return LoraFile(changes, unplaced)


def _header(path: Path, name: str) -> Header:
    try:
        with path.open("rb") as file:
            return read_header(file, path.stat().st_size)
    except HeaderRefused as error:
        raise LoraError(f"The file of the LoRA “{name}” cannot be read. {error}") from error
    except OSError as error:
        raise LoraError(f"The file of the LoRA “{name}” cannot be read.") from error


def _grouped(header: Header) -> tuple[dict[str, _Group], list[str]]:
    """Tensors by the layer's name in the file, and the names of those that are no adapter's."""
    groups: dict[str, _Group] = {}
    unread: list[str] = []
    for key in header.tensors:
        stem, kind, part = split_key(key)
        group = groups.setdefault(stem, _Group()) if kind else None
        if group is None or part in group.keys:
            unread.append(key)
            continue
        group.kinds.add(kind)
        group.keys[part] = key
    return groups, unread


class _Opened(NamedTuple):
    file: Any
    name: str
    scale: Scale
    classes: Mapping[str, tuple[str, ...]]

    def tensor(self, key: str) -> Tensor:
        """LoraError for numbers that are not finite."""
        tensor: Tensor = self.file.get_tensor(key)
        if not _is_finite(tensor):
            raise LoraError(
                f"The LoRA “{self.name}” is damaged: {key} holds numbers that are not finite (NaN or "
                "infinity). Take another epoch of it, or train it again with a lower learning rate."
            )
        return tensor


def _is_finite(tensor: Tensor) -> bool:
    """The least and the greatest tell it all, NaN too, and are found thirty times as fast."""
    if tensor.numel() == 0 or not tensor.is_floating_point():
        return True
    ends = torch.stack(torch.aminmax(tensor.float() if tensor.element_size() == 1 else tensor))
    return bool(torch.isfinite(ends).all())


def _changes(
    opened: _Opened, groups: dict[str, _Group], layers: PipelineLayers
) -> tuple[dict[str, Change], list[str]]:
    changes: dict[str, Change] = {}
    left: list[str] = []
    for stem, group in groups.items():
        layer = layers.find(stem, opened.classes)
        change = _change(opened, stem, group) if layer and layer not in changes else None
        if layer is None or change is None or not change.fits(layers.shapes(layer)):
            left.append(stem)
        else:
            changes[layer] = change
    return changes, left


def _change(opened: _Opened, stem: str, group: _Group) -> Change | None:
    if not group.kinds <= APPLIED:
        return None
    scale = partial(opened.scale, *locate(stem))
    return read_change(group.kinds, {p: opened.tensor(key) for p, key in group.keys.items()}, scale)
