"""What a LoRA on the small pipeline should do, computed apart from the reader in float64."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from tests.worker.inference.small import TEXT_LAYERS, UNET_LAYERS
from worker.inference.lora_files import LoraUse


def use(path: Path, unet: float = 1.0, text_encoder: float | None = None) -> LoraUse:
    strength = unet if text_encoder is None else text_encoder
    return LoraUse(path, hashlib.sha256(path.read_bytes()).hexdigest(), path.stem, unet, strength)


def weights(pipe: Any) -> dict[str, Tensor]:
    """Every parameter of the models that a LoRA may touch, copied."""
    return {
        f"{part}.{name}": tensor.clone()
        for part in ("unet", "text_encoder")
        for name, tensor in getattr(pipe, part).state_dict().items()
    }


def expected_deltas(tensors: dict[str, Tensor], strength: float) -> dict[str, np.ndarray]:
    """Independent: numpy in float64, loops over the kernel, names spelled out from the layer lists."""
    deltas = {}
    for prefix, layers, part in (
        ("lora_unet_", UNET_LAYERS, "unet."),
        ("lora_te_text_model_", TEXT_LAYERS, "text_encoder."),
    ):
        for layer in layers:
            name = prefix + layer.replace(".", "_")
            down = tensors[f"{name}.lora_down.weight"].double().numpy()
            up = tensors[f"{name}.lora_up.weight"].double().numpy()
            scale = strength * float(tensors[f"{name}.alpha"]) / down.shape[0]
            if down.ndim == 2:
                delta = np.einsum("or,ri->oi", up, down)
            else:
                delta = np.zeros((up.shape[0], *down.shape[1:]))
                for row, column in np.ndindex(down.shape[2:]):
                    delta[:, :, row, column] = up[:, :, 0, 0] @ down[:, :, row, column]
            deltas[f"{part}{layer}.weight"] = delta * scale
    return deltas
