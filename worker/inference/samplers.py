"""The sampler names of the generator as diffusers schedulers.

A scheduler is built anew for every picture: multistep samplers keep state between steps. Of the
checkpoint's scheduler only what it was trained with is taken (`TRAINED_WITH`); how to solve it is
ours and always set, the three sigma flags included: `from_config` of another scheduler would
carry a stale Karras flag along.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    UniPCMultistepScheduler,
)

from app.contract.samplers import SAMPLERS
from worker.inference.errors import SettingsError

TRAINED_WITH = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
    "rescale_betas_zero_snr",
    "steps_offset",
)
MODEL_SIGMAS = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
KARRAS = MODEL_SIGMAS | {"use_karras_sigmas": True}


@dataclass(frozen=True)
class Sampler:
    scheduler: Any
    spacing: str
    """Time step spacing, unless the checkpoint asks for `trailing`, which zero terminal SNR always needs."""
    flags: Mapping[str, Any] = field(default_factory=dict)


TABLE: dict[str, Sampler] = {
    "Euler a": Sampler(EulerAncestralDiscreteScheduler, "linspace"),
    "DPM++ 2M Karras": Sampler(
        DPMSolverMultistepScheduler,
        "linspace",
        KARRAS | {"algorithm_type": "dpmsolver++", "solver_order": 2, "final_sigmas_type": "zero"},
    ),
    "DDIM": Sampler(DDIMScheduler, "leading", {"clip_sample": False, "set_alpha_to_one": False}),
    "UniPC": Sampler(
        UniPCMultistepScheduler,
        "linspace",
        MODEL_SIGMAS | {"solver_type": "bh2", "final_sigmas_type": "zero"},
    ),
}


def create_scheduler(name: str, checkpoint: Mapping[str, Any], steps: int) -> Any:
    """A fresh scheduler with its `timesteps` set, on the CPU, for one picture.

    `checkpoint` is the scheduler configuration that came with the checkpoint. SettingsError for a
    name outside `SAMPLERS` and for steps below 1.
    """
    if name not in TABLE:
        raise SettingsError(f"Unknown sampler {name!r}. Use one of: {', '.join(SAMPLERS)}.")
    if steps < 1:
        raise SettingsError("Steps must be 1 or more.")
    sampler = TABLE[name]
    trained = {key: checkpoint[key] for key in TRAINED_WITH if key in checkpoint}
    trailing = checkpoint.get("timestep_spacing") == "trailing" or checkpoint.get("rescale_betas_zero_snr")
    spacing = "trailing" if trailing else sampler.spacing
    scheduler = sampler.scheduler(**trained, **sampler.flags, timestep_spacing=spacing)
    scheduler.set_timesteps(steps)
    return scheduler
