"""Samplers for models that predict a flow: which noise levels a clip walks along, and by which rule.

Levels go from 1 (noise) to 0 (the clip), evenly apart and then moved by the shift k:
k · s / (1 + (k - 1) · s). The checkpoint's scheduler says its shift, or how it grows with the clip.
"""

from collections.abc import Mapping
from math import exp, inf
from typing import Any

import numpy as np
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from app.contract.samplers import FLOW_SAMPLERS, split_sampler
from worker.inference.errors import SettingsError

LEVELS = 1000
"""What models are told is the level × 1000."""
ALMOST_ONE = 1 - 1e-6
"""The multistep rules take a logarithm of what is not noise."""


def create_flow_scheduler(
    name: str, checkpoint: Mapping[str, Any], steps: int, *, shift: float | None = None, tokens: int = 0
) -> Any:
    """A fresh scheduler with its `timesteps` set, for one clip of so many `tokens`.

    `checkpoint` is the configuration of the scheduler that came with the model; `shift` replaces its own.
    SettingsError for a sampler that flows do not have, and for steps or a shift that are none.
    """
    name = check_flow_sampler(name)
    if steps < 1:
        raise SettingsError("Steps must be 1 or more.")
    moved = own_shift(checkpoint, tokens) if shift is None else shift
    if not 0 < moved < inf:
        raise SettingsError("The shift must be a number above 0.")
    levels = _stretched(_shifted(_even(name, steps), moved), checkpoint.get("shift_terminal"))
    scheduler = _FOLLOWING[name](levels)
    scheduler.set_begin_index(0)
    return scheduler


def check_flow_sampler(name: str, schedule: str = "Automatic") -> str:
    """The plain name. SettingsError where a flow has no such sampler or schedule."""
    plain, schedule = split_sampler(name, schedule)
    if plain not in FLOW_SAMPLERS:
        raise SettingsError(
            f"The sampler {name!r} does not work with this model. Use one of: {', '.join(FLOW_SAMPLERS)}."
        )
    known = FLOW_SAMPLERS[plain].schedules
    if schedule not in known:
        raise SettingsError(
            f"This model knows no schedule {schedule!r}. Use one of: {', '.join(known)}; the shift moves it."
        )
    return plain


def own_shift(checkpoint: Mapping[str, Any], tokens: int) -> float:
    """The checkpoint's shift: a number, or what its line over the tokens of a clip says."""
    if not checkpoint.get("use_dynamic_shifting"):
        return float(checkpoint.get("flow_shift") or checkpoint.get("shift") or 1.0)
    few, many = checkpoint.get("base_image_seq_len") or 256, checkpoint.get("max_image_seq_len") or 4096
    low, high = checkpoint.get("base_shift") or 0.5, checkpoint.get("max_shift") or 1.15
    mu = low + (high - low) * (tokens - few) / (many - few)
    return exp(mu) if checkpoint.get("time_shift_type", "exponential") == "exponential" else mu


Sigmas = np.ndarray[Any, np.dtype[np.float64]]


def _even(name: str, steps: int) -> Sigmas:
    """Where each step begins. The multistep rules end at 1/1000 instead of 0, as their papers do."""
    if name == "Euler":
        return np.linspace(1, 1 / steps, steps)
    return np.linspace(1, 1 / LEVELS, steps + 1)[:-1]


def _shifted(levels: Sigmas, shift: float) -> Sigmas:
    return shift * levels / (1 + (shift - 1) * levels)


def _stretched(levels: Sigmas, last: float | None) -> Sigmas:
    """The same, so that the last step begins at `last` where the checkpoint says so."""
    if not last or len(levels) < 2:
        return levels
    return 1 - (1 - levels) * (1 - last) / (1 - levels[-1])


def _euler(levels: Sigmas) -> Any:
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=LEVELS, shift=1.0)
    scheduler.set_timesteps(sigmas=levels.tolist())
    return scheduler


def _unipc(levels: Sigmas) -> Any:
    scheduler = UniPCMultistepScheduler(
        num_train_timesteps=LEVELS, prediction_type="flow_prediction", use_flow_sigmas=True
    )
    scheduler.set_timesteps(sigmas=levels.copy())
    return scheduler


def _dpm(levels: Sigmas) -> Any:
    """It takes no levels from outside, so they are put in their place."""
    scheduler = DPMSolverMultistepScheduler(
        num_train_timesteps=LEVELS, prediction_type="flow_prediction", use_flow_sigmas=True
    )
    scheduler.set_timesteps(len(levels))
    levels = np.minimum(levels, ALMOST_ONE)
    scheduler.sigmas = torch.from_numpy(np.append(levels, 0.0).astype(np.float32))
    scheduler.timesteps = torch.from_numpy((levels * LEVELS).astype(np.float32))
    return scheduler


_FOLLOWING = {"Euler": _euler, "UniPC": _unipc, "DPM++ 2M": _dpm}
