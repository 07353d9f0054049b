"""LoRAs on a loaded pipeline: attach, switch, detach.

A LoRA is added to the weights themselves (computed in fp32), so a picture costs the same with and
without it, and the untouched weights are kept: detaching puts the same bits back. Switching starts
from the kept weights, so only the layers that some LoRA changes are written, each once.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from app.contract.events import Unplaced
from worker.device import free_memory, total_memory
from worker.inference.errors import LoraError
from worker.inference.lora_layers import Change, Delta, LowRank
from worker.inference.lora_read import LoraFile, PipelineLayers, read_lora

MIN_STRENGTH, MAX_STRENGTH = -1.0, 2.0
BLOCK = 2**18
"""Numbers."""


class LowNoise(NamedTuple):
    """A LoRA's file for low noise."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class LoraUse:
    """One LoRA file and how strongly it acts on the network and on the text encoder.

    With two networks `low` is the file for the second one; None = the same file acts on both.
    """

    path: Path
    sha256: str
    name: str
    unet: float
    text_encoder: float
    low: LowNoise | None = None

    @property
    def opened(self) -> list[tuple[str, Path, str]]:
        """sha256, path and name of what is read."""
        found = [(self.sha256, self.path, self.name)]
        return found + ([(self.low.sha256, self.low.path, f"{self.name} (low noise)")] if self.low else [])


class _Acting(NamedTuple):
    """A change and the strength with which it acts."""

    delta: Delta
    strength: float


@dataclass
class LoraSwitch:
    """The LoRAs of one pipeline. Not for several threads."""

    pipe: Any
    _kept: dict[str, Tensor] = field(default_factory=dict)
    """The checkpoint's own tensors, by layer and `weight` or `bias`, of those that are changed now."""
    _attached: tuple[LoraUse, ...] = ()
    _files: dict[str, LoraFile] = field(default_factory=dict)
    """Those attached, by sha256: another strength needs no reading."""

    @cached_property
    def _layers(self) -> PipelineLayers:
        return PipelineLayers.of(self.pipe)

    def attach(self, uses: Sequence[LoraUse]) -> list[str]:
        """Make exactly these LoRAs act; return notes for the user on layers without a place.

        LoraError where a file is unreadable, fits nothing, is named twice, or its strength is out of range:
        then no LoRA acts.
        """
        if tuple(uses) == self._attached:
            return self.notes
        try:
            _check(uses)
            before = self._files
            self._files = {
                sha256: before.get(sha256) or read_lora(path, name, self._layers)
                for use in uses
                for sha256, path, name in use.opened
            }
            self._write(self._acting(uses))
        except BaseException:
            self.detach()
            raise
        self._attached = tuple(uses)
        return self.notes

    def detach(self) -> None:
        """Put the checkpoint's own weights back, to the bit."""
        self._write({})
        self._files, self._attached = {}, ()

    @property
    def unplaced(self) -> list[Unplaced]:
        """What has no place in this checkpoint, of the LoRAs that are attached."""
        files = [self._files[sha256] for use in self._attached for sha256, *_ in use.opened]
        return [file.unplaced for file in files if file.unplaced]

    @property
    def notes(self) -> list[str]:
        return [unplaced.words for unplaced in self.unplaced]

    @property
    def kept_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self._kept.values())

    def _acting(self, uses: Sequence[LoraUse]) -> dict[str, list[_Acting]]:
        """What acts on each tensor, by layer and `weight` or `bias`."""
        found: dict[str, list[_Acting]] = {}
        for use in uses:
            for layer, change in self._changes(use):
                strength = use.text_encoder if layer.startswith("text_encoder") else use.unet
                for name, delta in (("weight", change.weight), ("bias", change.bias)):
                    if delta is not None and strength:
                        found.setdefault(f"{layer}.{name}", []).append(_Acting(delta, strength))
        return found

    def _changes(self, use: LoraUse) -> Iterator[tuple[str, Change]]:
        """What a LoRA does to which layer, the second network's too."""
        own = self._files[use.sha256].changes
        low = self._files[use.low.sha256].changes if use.low else own
        yield from own.items()
        for layer, change in low.items():
            if twin := self._layers.twin(layer):
                yield twin, change

    @torch.no_grad()
    def _write(self, acting: dict[str, list[_Acting]]) -> None:
        """Every tensor named gets its changes, every other one that was changed its own value back."""
        for name in self._kept.keys() - acting.keys():
            self._tensor(name).copy_(self._kept[name])
            del self._kept[name]
        with _exact_products():
            for name, changes in acting.items():
                tensor = self._tensor(name)
                fresh = name not in self._kept
                if fresh:
                    self._kept[name] = _copy_of(tensor)
                _merge(tensor, self._kept[name], changes, fresh=fresh)

    def _tensor(self, name: str) -> Tensor:
        layer, _, own = name.rpartition(".")
        return self._layers.modules[layer].get_parameter(own).detach()


@contextmanager
def _exact_products() -> Iterator[None]:
    """Products in true fp32: drawing allows TF32, which would round a change to 10 bits."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _copy_of(tensor: Tensor) -> Tensor:
    """Beside the weights where a quarter of the device is free: a switch moves nothing. Else on the CPU."""
    device = tensor.device
    roomy = device.type == "cpu" or free_memory(device) > total_memory(device) // 4
    return tensor.to(device if roomy else "cpu", copy=True)


def _merge(tensor: Tensor, own: Tensor, changes: Sequence[_Acting], *, fresh: bool) -> None:
    """Write `own` + what acts on it into `tensor`, which is `own` already where it is `fresh`."""
    in_place = tensor.dtype == torch.float32 and tensor.is_contiguous()
    pairs = [_Pair(*c.delta.factors(tensor.device), c.delta.scale * c.strength) for c in changes
             if isinstance(c.delta, LowRank)]  # fmt: skip
    others = [change for change in changes if not isinstance(change.delta, LowRank)]
    for rows in _blocks(tensor, whole=in_place or bool(others)):
        part = tensor[rows]
        if in_place:
            total = part if fresh else part.copy_(own[rows])
        else:
            total = own[rows].to(
                tensor.device, torch.float32, copy=True, memory_format=torch.contiguous_format
            )
        for pair in pairs:
            total.view(len(total), -1).addmm_(pair.up[rows], pair.down, alpha=pair.scale)
        for delta, strength in others:
            total.add_(delta.of(own.to(tensor.device)), alpha=strength)
        if not in_place:
            part.copy_(total)


class _Pair(NamedTuple):
    up: Tensor
    down: Tensor
    scale: float


def _blocks(tensor: Tensor, *, whole: bool) -> list[slice]:
    """Rows that are computed together: on a CPU so few that the fp32 copy of them stays in its cache."""
    rows = len(tensor)
    step = rows if whole or tensor.device.type != "cpu" else max(1, BLOCK * rows // max(1, tensor.numel()))
    return [slice(start, start + step) for start in range(0, rows, step)]


def _check(uses: Sequence[LoraUse]) -> None:
    seen: set[str] = set()
    for use in uses:
        if use.sha256 in seen:
            raise LoraError(f"The LoRA “{use.name}” is named twice. Remove one of them.")
        seen.add(use.sha256)
        for strength in (use.unet, use.text_encoder):
            if not MIN_STRENGTH <= strength <= MAX_STRENGTH:
                raise LoraError(f"The strength of the LoRA “{use.name}” must be between -1 and 2.")


def autov3(path: Path) -> str:
    """First 12 hex digits of the sha256 of everything after the header, as Civitai and A1111 count it."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little"))
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:12]
