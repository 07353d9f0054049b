"""The sampler names of the generator as diffusers schedulers.

A scheduler is built anew for every picture: multistep samplers keep state between steps. Of the
checkpoint's scheduler only what it was trained with is taken (`TRAINED_WITH`); how to solve it is
ours and always set, the three sigma flags included: `from_config` of another scheduler would
carry a stale Karras flag along.
"""

import copy
import inspect
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

import diffusers
import torch
from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr
from torch import Tensor

from app.contract.samplers import SAMPLERS, resolve_schedule, split_sampler
from worker.inference.errors import SettingsError

# The noise of DPM++ SDE is asked for beyond its first and last level by a rounding error: it is held there.
warnings.filterwarnings("ignore", "Should have t[ab]", UserWarning, "torchsde")

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
SCHEDULE_FLAGS: dict[str, dict[str, Any]] = {
    "Normal": {},
    "Karras": {"use_karras_sigmas": True},
    "Exponential": {"use_exponential_sigmas": True, "timestep_spacing": "linspace"},
    "Beta": {"use_beta_sigmas": True, "timestep_spacing": "linspace"},
    "SGM Uniform": {"timestep_spacing": "trailing"},
    "Simple": {"timestep_spacing": "trailing"},
}
LAST_SIGNAL = 2.0**-24
"""Stands for a signal of zero at the last step where a scheduler divides by it; diffusers' own number."""


@dataclass(frozen=True)
class Sampler:
    scheduler: Any
    """Name of the class in diffusers; they are imported when they are used."""
    spacing: str = "linspace"
    """Time step spacing, unless the checkpoint asks for `trailing`, which zero terminal SNR always needs."""
    flags: Mapping[str, Any] = field(default_factory=dict)


def _multistep(kind: str, order: int = 2, **flags: Any) -> Sampler:
    usual = {"algorithm_type": kind, "solver_order": order, "final_sigmas_type": "zero"}
    return Sampler("DPMSolverMultistepScheduler", flags=usual | flags)


SDE = "sde-dpmsolver++"
TABLE: dict[str, Sampler] = {
    "Euler a": Sampler("EulerAncestralDiscreteScheduler"),
    "Euler": Sampler("EulerDiscreteScheduler"),
    "DPM++ 2M": _multistep("dpmsolver++"),
    "DPM++ 2M SDE": _multistep(SDE),
    "DPM++ SDE": Sampler("DPMSolverSDEScheduler"),
    "Heun": Sampler("HeunDiscreteScheduler"),
    "UniPC": Sampler("UniPCMultistepScheduler", flags={"solver_type": "bh2", "final_sigmas_type": "zero"}),
    "DDIM": Sampler("DDIMScheduler", "leading", {"clip_sample": False, "set_alpha_to_one": False}),
    "LCM": Sampler("LCMScheduler", flags={"clip_sample": False}),
    "LMS": Sampler("LMSDiscreteScheduler"),
    "DPM2": Sampler("KDPM2DiscreteScheduler"),
    "DPM2 a": Sampler("KDPM2AncestralDiscreteScheduler"),
    "DPM++ 2S a": Sampler(
        "DPMSolverSinglestepScheduler",
        flags={"solver_order": 2, "lower_order_final": True, "final_sigmas_type": "zero"},
    ),
    "DPM++ 2M SDE Heun": _multistep(SDE, solver_type="heun"),
    "DPM++ 3M SDE": _multistep(SDE, 3),
    "DEIS": Sampler("DEISMultistepScheduler"),
    "PLMS": Sampler("PNDMScheduler", "leading", {"skip_prk_steps": True}),
    "TCD": Sampler("TCDScheduler", flags={"clip_sample": False}),
}
LMS_ORDER = 4
DISTILLED_STEPS = 50
"""LCM and TCD walk on so many levels at least, which their models were trained on."""


def create_scheduler(
    name: str,
    checkpoint: Mapping[str, Any],
    steps: int,
    schedule: str = "Automatic",
    *,
    seed: int = 0,
) -> Any:
    """A fresh scheduler with its `timesteps` set, on the CPU, for one picture.

    `name` may be joined ("DPM++ 2M Karras"). `checkpoint` is the scheduler configuration that came with
    the checkpoint; `seed` is for samplers with noise of their own. SettingsError for an unknown name,
    a schedule that the sampler does not know, and steps below 1.
    """
    name, schedule = check_sampler(name, schedule)
    if steps < 1:
        raise SettingsError("Steps must be 1 or more.")
    sampler = TABLE[name]
    kind = getattr(diffusers, sampler.scheduler)
    wanted: dict[str, Any] = {**MODEL_SIGMAS, "timestep_spacing": sampler.spacing}
    wanted |= SCHEDULE_FLAGS[resolve_schedule(name, schedule)]
    if checkpoint.get("timestep_spacing") == "trailing" or checkpoint.get("rescale_betas_zero_snr"):
        wanted |= {"timestep_spacing": "trailing"}
    if name in ("LCM", "TCD"):
        wanted |= {"original_inference_steps": max(DISTILLED_STEPS, steps)}
    wanted |= _trained_with(kind, checkpoint)
    known = _parameters(kind)
    flags = {key: value for key, value in wanted.items() if key in known} | dict(sampler.flags)
    scheduler = copy.deepcopy(_pristine(sampler.scheduler, json.dumps(flags)))
    if "noise_sampler_seed" in known:
        scheduler.noise_sampler_seed = seed
    scheduler.set_timesteps(steps)
    begin_at(scheduler, 0)
    return scheduler


@lru_cache(maxsize=64)
def _pristine(kind: str, flags: str) -> Any:
    """A scheduler before its first step: some take a fifth of a second to build."""
    return getattr(diffusers, kind)(**json.loads(flags))


def begin_at(scheduler: Any, index: int) -> None:
    """Say where in its time steps it begins: looked up by time, steps rounded alike would be confused."""
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(index)


def last_steps(scheduler: Any, steps: int) -> Tensor:
    """Time steps of the last `steps` steps of a fresh scheduler, which then begins there."""
    timesteps: Tensor = scheduler.timesteps
    skipped = int(scheduler.num_inference_steps) - steps
    if skipped == 0:
        return timesteps
    if isinstance(scheduler, diffusers.PNDMScheduler):  # it takes its first step twice
        own = torch.cat([timesteps[:1], timesteps[2:]])[skipped:]
        return torch.cat([own[:2], own[1:]])
    begin_at(scheduler, skipped * scheduler.order)
    return timesteps[skipped * scheduler.order :]


def step_options(scheduler: Any, generator: torch.Generator, call: int) -> dict[str, Any]:
    """What `scheduler.step` is told at its call number `call` (from 0) besides the prediction."""
    known = inspect.signature(scheduler.step).parameters
    options: dict[str, Any] = {"generator": generator} if "generator" in known else {}
    if isinstance(scheduler, diffusers.LMSDiscreteScheduler):  # it counts from the schedule's first step
        options["order"] = min(call + 1, LMS_ORDER)
    return options


def check_sampler(name: str, schedule: str) -> tuple[str, str]:
    """Plain sampler and schedule of a name that may be joined. SettingsError where there is no such thing."""
    plain, schedule = split_sampler(name, schedule)
    if plain not in TABLE:
        raise SettingsError(f"Unknown sampler {name!r}. Use one of: {', '.join(SAMPLERS)}.")
    if schedule not in SAMPLERS[plain].schedules:
        known = ", ".join(SAMPLERS[plain].schedules)
        raise SettingsError(f"The sampler {plain} has no schedule {schedule!r}. Use one of: {known}.")
    return plain, schedule


@cache
def _parameters(kind: Any) -> frozenset[str]:
    return frozenset(inspect.signature(kind.__init__).parameters)


def _trained_with(kind: Any, checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What of the checkpoint's configuration a scheduler must know.

    A class without a flag for zero terminal SNR is given the rescaled betas themselves.
    """
    trained = {key: checkpoint[key] for key in TRAINED_WITH if key in checkpoint}
    if trained.get("rescale_betas_zero_snr") and "rescale_betas_zero_snr" not in _parameters(kind):
        trained["trained_betas"] = _zero_snr_betas(trained)
    return trained


def _zero_snr_betas(trained: Mapping[str, Any]) -> list[float]:
    known = {key: trained[key] for key in TRAINED_WITH[:5] if trained.get(key) is not None}
    betas = rescale_zero_terminal_snr(diffusers.DDPMScheduler(**known).betas).double()
    before_last = float(torch.cumprod(1 - betas[:-1], 0)[-1])
    betas[-1] = 1 - LAST_SIGNAL / before_last
    found: list[float] = betas.tolist()
    return found
