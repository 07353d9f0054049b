"""Optimizers from kept libraries, and the learning rate as a pure function of the step.

A pure function needs no state to be saved: after a resume the rate is what it would have been.
"""

import contextlib
import io
import math
from typing import Any

import torch
from prodigyopt import Prodigy
from transformers.optimization import Adafactor

from app.contract.jobs import TrainParams
from worker.training.lora import Adapter

MAX_GRAD_NORM = 1.0
ARGUMENTS: dict[str, dict[str, Any]] = {
    "adamw": {"weight_decay": 0.01, "betas": (0.9, 0.999), "eps": 1e-8},
    "prodigy": {"weight_decay": 0.01, "decouple": True, "betas": (0.9, 0.99), "safeguard_warmup": True},
    "adafactor": {"scale_parameter": False, "relative_step": False, "warmup_init": False},
}


def create_optimizer(adapter: Adapter, params: TrainParams) -> torch.optim.Optimizer:
    """One group a part, each with its `base_lr`. AdamW is the fused one."""
    rates = {
        "model": params.unet_lr,
        "model_2": params.unet_lr,
        "text_encoder": params.text_encoder_lr,
        "text_encoder_2": params.text_encoder_lr,
    }
    groups = [
        {"params": tensors, "lr": rate, "base_lr": rate}
        for part, rate in rates.items()
        if rate and (tensors := adapter.parameters(part))
    ]
    arguments = ARGUMENTS[params.optimizer]
    if params.optimizer == "adamw":
        return torch.optim.AdamW(groups, fused=True, **arguments)
    if params.optimizer == "adafactor":
        return Adafactor(groups, **arguments)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints, and stdout may be a pipe of events
        prodigy: torch.optim.Optimizer = Prodigy(groups, **arguments)
        return prodigy


def describe_optimizer(params: TrainParams) -> str:
    """As sd-scripts writes it: `module.Class(arguments)`."""
    kinds = {"adamw": torch.optim.AdamW, "prodigy": Prodigy, "adafactor": Adafactor}
    kind = kinds[params.optimizer]
    arguments = ",".join(f"{name}={value}" for name, value in ARGUMENTS[params.optimizer].items())
    return f"{kind.__module__}.{kind.__name__}({arguments})"


def warmup_steps(params: TrainParams, steps: int) -> int:
    return round(params.lr_warmup * steps)


def lr_factor(params: TrainParams, step: int, steps: int) -> float:
    """Share of the learning rate in `step` (from 0) of `steps`: never 0, so that no step is wasted."""
    warmup = warmup_steps(params, steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, steps - warmup)
    match params.lr_scheduler:
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * progress))
        case "cosine_with_restarts":
            return 0.5 * (1 + math.cos(math.pi * (progress * params.lr_cycles % 1.0)))
        case "linear":
            return 1 - progress
        case _:
            return 1.0


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Scale every group's rate; returns the first group's."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    return float(optimizer.param_groups[0]["lr"])
