"""Adapter names of video transformers as ComfyUI and diffusers read them, and the way back.

`diffusion_model.<path>.lora_A.weight` and `….lora_B.weight`, alpha multiplied into the second: nobody
who reads such a file asks for it. Back comes any spelling, also musubi's `lora_unet_…` with alphas.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from app.recognition.lora_keys import split_key
from app.recognition.unet_names import Names
from worker.families.kohya_keys import PARTS, from_any, split_name

_DOWN, _UP, _ALPHA = PARTS


def to_diffusion_model(state: Mapping[str, Tensor], names: Names) -> dict[str, Tensor]:
    """The tensors of one network (`model.…`) under the names of published files. Contiguous, on the CPU."""
    written: dict[str, Tensor] = {}
    for name, tensor in state.items():
        module, part = split_name(name)
        if part == _ALPHA:
            continue
        stem = f"diffusion_model.{names.name(module.removeprefix('model.'))}"
        if part == _UP:
            rank = tensor.shape[1]
            tensor = tensor * (float(state.get(f"{module}.{_ALPHA}", rank)) / rank)
        ending = "lora_A" if part == _DOWN else "lora_B"
        written[f"{stem}.{ending}.weight"] = tensor.detach().cpu().contiguous()
    return written


def from_diffusion_model(
    tensors: Mapping[str, Tensor], modules: Sequence[str], names: Names, metadata: Mapping[str, str]
) -> dict[str, Tensor]:
    """As `kohya_keys.from_any`. An alpha that was multiplied in is taken out again, if metadata names it."""
    found = from_any(tensors, modules, names, metadata)
    said = _said_alpha(metadata)
    if said is None or any(split_key(key).part == "alpha" for key in tensors):
        return found
    for module in modules:
        rank = found[f"{module}.{_DOWN}"].shape[0]
        found[f"{module}.{_UP}"] = found[f"{module}.{_UP}"].float() * (rank / said)
        found[f"{module}.{_ALPHA}"] = torch.tensor(said)
    return found


def _said_alpha(metadata: Mapping[str, str]) -> float | None:
    try:
        alpha = float(metadata.get("ss_network_alpha", ""))
    except ValueError:
        return None
    return alpha if 0 < alpha < float("inf") and "lora_adapter_metadata" not in metadata else None
