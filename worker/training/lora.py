"""The adapter: PEFT's LoRA layers put into the model's own modules, and their tensors by name.

State names: `model.<path>`, `model_2.<path>`, `text_encoder.<path>` or `text_encoder_2.<path>` +
`.lora_down.weight`, `.lora_up.weight`, `.alpha`. A delta is alpha / rank · up · down. Adapter weights are
fp32 always.
"""

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from app.contract.jobs import TrainParams
from worker.draws import Draws
from worker.families.base import LoraTargets, Parts
from worker.training.errors import TrainingError
from worker.training.frozen_weights import whole

NAME = "default"
LEARNED = 1e-6
"""An adapter whose largest relative change of a module is below this has learnt nothing."""
ALPHA_TOLERANCE = 1e-3
"""Relative: an alpha that was written with 16 bits is the one that was asked for."""


@dataclass
class Adapter:
    """All adapted modules by name, in the order in which they were put in."""

    layers: dict[str, Any] = field(default_factory=dict)

    def parameters(self, part: str) -> list[nn.Parameter]:
        """Trainable tensors of `model`, `model_2`, `text_encoder` or `text_encoder_2`."""
        return [
            tensor
            for name, layer in self.layers.items()
            if name.startswith(f"{part}.")
            for tensor in (layer.lora_A[NAME].weight, layer.lora_B[NAME].weight)
        ]

    def state(self) -> dict[str, Tensor]:
        """Detached tensors by name. They share memory with the adapter."""
        named: dict[str, Tensor] = {}
        for name, layer in self.layers.items():
            named[f"{name}.lora_down.weight"] = layer.lora_A[NAME].weight.detach()
            named[f"{name}.lora_up.weight"] = layer.lora_B[NAME].weight.detach()
            named[f"{name}.alpha"] = torch.tensor(float(layer.lora_alpha[NAME]))
        return named

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over the tensors of `state`. TrainingError where ranks, alphas or modules differ."""
        mine = self.state()
        for name, tensor in mine.items():
            other = state.get(name)
            if other is not None and _same_rows(other, tensor):
                other = other.reshape(tensor.shape)  # a convolution of one pixel, written as a matrix
            if other is None or other.shape != tensor.shape:
                detail = "The LoRA to go on from has another dim or other layers. Use its own settings."
                raise TrainingError("lora-base-mismatch", detail)
            if name.endswith(".alpha") and not math.isclose(other, tensor, rel_tol=ALPHA_TOLERANCE):
                detail = f"The LoRA to go on from has alpha {float(other):g}. Set network_alpha to that."
                raise TrainingError("lora-base-mismatch", detail)
            if not name.endswith(".alpha"):
                tensor.copy_(other)

    @torch.no_grad()
    def relative_change(self) -> float:
        """max over modules of ‖ΔW‖ / ‖W‖ (Frobenius)."""
        changes = [
            layer.get_delta_weight(NAME).float().norm()
            / whole(layer.get_base_layer().weight).float().norm().clamp(min=1e-12)
            for layer in self.layers.values()
        ]
        return float(torch.stack(changes).max())

    def is_finite(self) -> bool:
        return all(bool(torch.isfinite(tensor).all()) for tensor in self.state().values())

    @contextmanager
    def switched_off(self) -> Iterator[None]:
        """The model as it was without the adapter."""
        for layer in self.layers.values():
            layer.enable_adapters(False)
        try:
            yield
        finally:
            for layer in self.layers.values():
                layer.enable_adapters(True)


def _same_rows(other: Tensor, tensor: Tensor) -> bool:
    """As many numbers in as many rows; a single number may have sides or none."""
    rows = other.shape[:1] == tensor.shape[:1] or tensor.dim() == 0
    return rows and other.numel() == tensor.numel()


def inject(parts: Parts, targets: LoraTargets, params: TrainParams, rng: Draws) -> Adapter:
    """Put fresh LoRA layers into `parts`. Only what has a learning rate gets any; `up` starts at 0."""
    adapter = Adapter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.number("lora"))
        if params.unet_lr > 0:
            for part, model in parts.networks.items():
                _inject(adapter, part, model, _config(targets, params))
        if params.text_encoder_lr > 0:
            for part in ("text_encoder", "text_encoder_2"):
                if names := getattr(targets, part):
                    config = LoraConfig(
                        r=params.network_dim, lora_alpha=params.network_alpha, target_modules=list(names)
                    )
                    _inject(adapter, part, getattr(parts, part), config)
    return adapter


def _config(targets: LoraTargets, params: TrainParams) -> LoraConfig:
    """Rank and alpha of the U-Net's layers; convolutions have their own and only with `conv_dim`."""
    extra = targets.convolutions if params.conv_dim else ()
    ranks = {f"^{re.escape(name)}": params.conv_dim for name in extra}
    alphas = dict.fromkeys(ranks, params.conv_alpha or params.conv_dim)
    return LoraConfig(
        r=params.network_dim,
        lora_alpha=params.network_alpha,
        target_modules=[*targets.model, *extra],
        rank_pattern=ranks,
        alpha_pattern=alphas,
    )


def _inject(adapter: Adapter, part: str, module: nn.Module, config: LoraConfig) -> None:
    inject_adapter_in_model(config, module, NAME)
    for name, layer in module.named_modules():
        if hasattr(layer, "lora_A") and NAME in layer.lora_A:
            layer.lora_A[NAME].to(torch.float32)
            layer.lora_B[NAME].to(torch.float32)
            adapter.layers[f"{part}.{name}"] = layer
