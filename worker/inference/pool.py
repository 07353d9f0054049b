"""Pipelines kept in memory between generations, least recently used out under a byte budget.

Loading a checkpoint costs seconds, a picture of a small one less: the warm child of the generate
worker holds one pool. LoRAs are switched on the warm pipeline (`Warm.loras`). Where memory runs out while
one is loaded, the others leave and it is tried once more. Blocks of a network that a card has no room for
wait in host memory. Not for several threads.
"""

import gc
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from app.contract.jobs import CheckpointRef
from app.recognition import HeaderRefused, read_header
from worker.device import DTYPES, free_memory, is_out_of_memory
from worker.families import catalog
from worker.families.base import NOTHING, CheckpointRefused, Chosen
from worker.families.checkpoints import find_text
from worker.families.memory import weight_ways
from worker.families.streaming import stream
from worker.inference.lora_files import LoraSwitch
from worker.ram import free_ram

Load = Callable[..., Any]
"""Arguments of `load_pipeline`."""
MODELS = ("unet", "transformer", "transformer_2", "text_encoder", "text_encoder_2", "vae")
RESIDENT_SHARE = 0.75
"""Of what is free on a card: the rest is for the clip that is drawn."""


@dataclass(frozen=True)
class Warm:
    """A loaded pipeline and its LoRAs."""

    pipe: Any
    loras: LoraSwitch

    @property
    def nbytes(self) -> int:
        """Weights, and those kept aside while LoRAs act."""
        return sum(map(model_bytes, models_of(self.pipe))) + self.loras.kept_bytes


def load_pipeline(base: CheckpointRef, path: Path, dtype: torch.dtype, chosen: Chosen = NOTHING) -> Any:
    """The checkpoint's pipeline by its family's adapter."""
    return catalog.load(base.family).pipeline(path, dtype, chosen)


def models_of(pipe: Any) -> list[Any]:
    return [model for name in MODELS if (model := getattr(pipe, name, None)) is not None]


class PipelinePool:
    """`budget` is in bytes of weights. The pipeline in use stays, even where it alone is larger.

    `dtype` None takes what the family's spec says for this device.
    """

    def __init__(
        self,
        budget: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        load: Load = load_pipeline,
    ) -> None:
        self.budget = budget
        self.device, self._dtype, self._load = torch.device(device), dtype, load
        self._warm: OrderedDict[str, Warm] = OrderedDict()

    def get(
        self, base: CheckpointRef, path: Path, chosen: Chosen = NOTHING, *, sparing: bool = False
    ) -> Warm:
        """The pipeline of `base`, whose files lie at `path`; loaded, after making room, unless it is warm.

        `chosen` is where the other files lie that `base` names. `sparing`: memory ran out with it before.
        """
        key = "+".join(
            blob.sha256 for blob in (base.file, base.vae, base.text_encoder, base.low_noise) if blob
        )
        if key not in self._warm:
            dtype = self._dtype or self._usual_dtype(base)
            text = [find_text(chosen.text_encoder) / "text_encoder"] if chosen.text_encoder else []
            more = [*text, *([chosen.low_noise] if chosen.low_noise else [])]
            self._make_room(sum(weights_bytes(file, dtype) for file in (path, *more)))
            pipe = self._loaded(base, path, chosen, sparing=sparing)
            if pipe is None:  # outside the handler, whose traceback keeps what was loaded so far
                self.clear()
                pipe = self._open(base, path, chosen, sparing=sparing)
            self._warm[key] = Warm(pipe, LoraSwitch(pipe))
        self._warm.move_to_end(key)
        return self._warm[key]

    def _loaded(self, base: CheckpointRef, path: Path, chosen: Chosen, *, sparing: bool) -> Any:
        """The pipeline, or None where memory ran out and unloading others may help."""
        try:
            return self._open(base, path, chosen, sparing=sparing)
        except (RuntimeError, MemoryError) as error:
            if not self._warm or not is_out_of_memory(error):
                raise
        return None

    def _open(self, base: CheckpointRef, path: Path, chosen: Chosen, *, sparing: bool) -> Any:
        more = {"chosen": chosen} if chosen != NOTHING else {}
        pipe = self._load(base, path, self._dtype or self._usual_dtype(base), **more)
        for model in models_of(pipe):
            model.eval().requires_grad_(False)
        if self._blocks_wait(base, pipe, sparing=sparing):
            spread(pipe, self.device)
            return pipe
        return pipe.to(self.device)

    def _blocks_wait(self, base: CheckpointRef, pipe: Any, *, sparing: bool) -> bool:
        if "streamed" not in weight_ways(catalog.specs()[base.family], self.device.type):
            return False
        needed = sum(map(model_bytes, models_of(pipe)))
        return blocks_wait(needed, free_memory(self.device), free_ram(), sparing=sparing)

    def _usual_dtype(self, base: CheckpointRef) -> torch.dtype:
        return DTYPES[catalog.specs()[base.family].generation.precision.get(self.device.type, "fp32")]

    def _make_room(self, needed: int) -> None:
        dropped = False
        while self._warm and self.nbytes + needed > self.budget:
            self._warm.popitem(last=False)
            dropped = True
        if dropped:
            self._give_back()

    def clear(self) -> None:
        """Forget all pipelines and give their memory back."""
        self._warm.clear()
        self._give_back()

    def _give_back(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @property
    def nbytes(self) -> int:
        return sum(warm.nbytes for warm in self._warm.values())

    @property
    def warm(self) -> list[str]:
        """sha256 of the checkpoints in memory (+ what was chosen for them), least recently used first."""
        return list(self._warm)


def spread(pipe: Any, device: torch.device) -> None:
    """All models on the device, but for the networks' blocks, which wait in host memory."""
    networks = [pipe.transformer, getattr(pipe, "transformer_2", None)]
    for model in models_of(pipe):
        if any(model is network for network in networks):
            stream(model, device)
        else:
            model.to(device)


def blocks_wait(needed: int, free: int, host: int, *, sparing: bool) -> bool:
    """Whether blocks stay outside of a card with `free` bytes, of models that take `needed`.

    They do where drawing would be left no room, or had none, and the host has room for them twice: LoRAs
    change them in place, and keep what they were.
    """
    return (sparing or needed > RESIDENT_SHARE * free) and 2 * needed < host


def model_bytes(model: torch.nn.Module) -> int:
    return sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()])


def weights_bytes(path: Path, dtype: torch.dtype) -> int:
    """Bytes that the weights at `path` (folder or one file) take as `dtype`, from the headers alone.

    CheckpointRefused where a file is no safetensors file.
    """
    files = [path] if path.is_file() else sorted(path.rglob("*.safetensors"))
    return sum(_elements(file) for file in files) * dtype.itemsize


def _elements(path: Path) -> int:
    try:
        with path.open("rb") as file:
            tensors = read_header(file, path.stat().st_size).tensors
    except HeaderRefused as error:
        raise CheckpointRefused(f"The checkpoint's file {path.name} is damaged. Upload it again.") from error
    return sum(tensor.elements for name, tensor in tensors.items() if not name.startswith("model_ema."))
