"""`./dev bench switch [FAMILY …] [--dtype …]`: changing the LoRA of a warm pipeline, at true size.

Only the layers that the LoRAs change get memory (random weights); the rest of the models stays empty.
The two LoRAs are of rank 16 over all attention layers and text encoders, half precision, as people have
them. Each time holds reading the file, all changes and, on an accelerator, waiting for them.
"""

import argparse
import hashlib
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.bench.report import write_section
from tests.worker.families.single import empty_models, layout_of, true_modules
from worker import device as devices
from worker.families import catalog
from worker.inference.lora_files import LoraSwitch, LoraUse

RANK, ROUNDS = 16, 5
TARGET = 0.3
PARTS = {"model": "unet", "text_encoder": "text_encoder", "text_encoder_2": "text_encoder_2"}


def models(family: str, device: torch.device, dtype: torch.dtype) -> tuple[Any, dict[str, Tensor]]:
    """The family's models with memory for what a LoRA changes, and a LoRA's tensors for it."""
    found = empty_models(layout_of(family))
    tensors: dict[str, Tensor] = {}
    names = [name for name in true_modules(family, found) if _is_adapted(name)]
    for name in names:
        part, _, path = name.partition(".")
        layer = found[PARTS[part]].get_submodule(path)
        shape = layer.weight.shape
        weight = torch.randn(shape, dtype=dtype, device=device) * 0.02
        layer.weight = torch.nn.Parameter(weight, requires_grad=False)
        ones = [1] * (len(shape) - 2)
        tensors[f"{name}.lora_down.weight"] = torch.randn(RANK, *shape[1:]).half()
        tensors[f"{name}.lora_up.weight"] = (torch.randn(shape[0], RANK, *ones) * 0.01).half()
        tensors[f"{name}.alpha"] = torch.tensor(RANK / 2).half()
    adapter: Any = catalog.load(family)
    return SimpleNamespace(**found), adapter.export_keys(tensors)


def _is_adapted(name: str) -> bool:
    return not name.startswith("model.") or ".attentions." in name


def uses(tensors: dict[str, Tensor], folder: Path) -> list[LoraUse]:
    """Two files with the same layers and other numbers."""
    found = []
    for number, factor in enumerate((1.0, -0.5)):
        path = folder / f"lora{number}.safetensors"
        save_file({name: t * factor if t.dim() else t for name, t in tensors.items()}, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        found.append(LoraUse(path, digest, path.stem, 0.8, 0.8))
    return found


def timed(device: torch.device, work: Callable[[], Any]) -> float:
    begun = time.monotonic()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic() - begun


def measure(family: str, device: torch.device, dtype: torch.dtype, folder: Path) -> list[tuple[str, str]]:
    """Rows for the report: the first attachment, switches, a change of strength, and the way back."""
    pipe, tensors = models(family, device, dtype)
    one, other = uses(tensors, folder)
    switch = LoraSwitch(pipe)
    stronger = LoraUse(one.path, one.sha256, one.name, 1.0, 1.0)
    first = timed(device, lambda: switch.attach([one]))
    kept = switch.kept_bytes
    both = [timed(device, partial(switch.attach, [use])) for use in (other, one) * ROUNDS]
    strengths = [timed(device, partial(switch.attach, [use])) for use in (stronger, one) * ROUNDS]
    two = timed(device, lambda: switch.attach([one, other]))
    back = timed(device, switch.detach)
    layers = sum(name.endswith(".alpha") for name in tensors)
    return [
        (f"layers changed, rank {RANK}", f"{layers}, {kept / dtype.itemsize / 1e6:.0f} M numbers"),
        ("first LoRA, weights kept aside", f"{first:.2f} s, {kept / 1e9:.2f} GB kept"),
        (f"another LoRA (target {TARGET} s)", f"{median(both):.3f} s (slowest {max(both):.3f} s)"),
        ("another strength", f"{median(strengths):.3f} s"),
        ("a second LoRA besides", f"{two:.3f} s"),
        ("no LoRA", f"{back:.3f} s"),
    ]


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="./dev bench switch")
    parser.add_argument("families", nargs="*", default=["sd1"])
    parser.add_argument(
        "--dtype", choices=list(devices.DTYPES), help="default: what the family draws with here"
    )
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    device = devices.choose_device()
    devices.prepare(device, options.threads)
    for family in options.families:
        spec = catalog.specs()[family]
        dtype = options.dtype or spec.generation.precision.get(device.type, "fp32")
        with tempfile.TemporaryDirectory() as folder:
            rows = measure(family, device, devices.DTYPES[dtype], Path(folder))
        write_section(
            f"switch-{family}-{dtype}",
            f"Changing the LoRA of a warm pipeline: {spec.title}, {dtype}",
            f"./dev bench switch {family} --dtype {dtype}",
            rows,
            text="Random weights, only of the layers that change. Each time includes reading the file.",
        )
