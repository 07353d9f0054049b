"""Samplers are built from what the checkpoint was trained with, and from nothing else."""

import re
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, PNDMScheduler
from torch import Tensor

from app.contract.samplers import SAMPLERS, model_calls, resolve_schedule
from worker.inference.errors import SettingsError
from worker.inference.levels import Levels
from worker.inference.samplers import TABLE, create_scheduler, last_steps, step_options

SD1 = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "prediction_type": "epsilon",
}
SIGMA_FLAGS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 20])
def test_every_sampler_of_the_contract_has_time_steps(name: str, steps: int) -> None:
    timesteps = create_scheduler(name, SD1, steps).timesteps
    assert len(timesteps) == model_calls(name, steps)
    if name != "DPM2 a":  # it looks back half a step
        assert timesteps.tolist() == sorted(timesteps.tolist(), reverse=True)
    assert 0 <= timesteps.min() <= timesteps.max() <= 999


def test_table_is_the_contract() -> None:
    assert set(TABLE) == set(SAMPLERS)


def test_karras_only_where_it_is_asked_for() -> None:
    karras = create_scheduler("DPM++ 2M Karras", SD1, 20)
    assert [karras.config[flag] for flag in SIGMA_FLAGS] == [True, False, False]
    plain = create_scheduler("UniPC", SD1, 20)
    assert [plain.config[flag] for flag in SIGMA_FLAGS] == [False, False, False]


def test_sigmas_of_karras_follow_the_rho_7_ramp() -> None:
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alphas = torch.cumprod(1 - betas, 0)
    sigmas = ((1 - alphas) / alphas).sqrt()
    low, high = sigmas[0] ** (1 / 7), sigmas[-1] ** (1 / 7)
    expected = (high + torch.linspace(0, 1, 20, dtype=torch.float64) * (low - high)) ** 7
    found = create_scheduler("DPM++ 2M Karras", SD1, 20).sigmas
    assert torch.allclose(found[:-1].double(), expected, rtol=1e-4)
    assert found[-1] == 0


def stale_configs() -> list[Any]:
    """Configurations of schedulers that someone had switched to other sigmas before."""
    karras: Any = DPMSolverMultistepScheduler(
        **SD1, use_karras_sigmas=True, euler_at_final=True, solver_order=3
    )
    euler: Any = EulerDiscreteScheduler(**SD1, use_karras_sigmas=True)
    return [karras.config, euler.config]


def settings(scheduler: Any) -> dict[str, Any]:
    return {key: value for key, value in scheduler.config.items() if not key.startswith("_")}


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("stale", stale_configs())
def test_flags_of_another_sampler_are_not_inherited(name: str, stale: Any) -> None:
    found, clean = create_scheduler(name, stale, 10), create_scheduler(name, SD1, 10)
    assert settings(found) == settings(clean)
    assert torch.equal(found.timesteps, clean.timesteps)


@pytest.mark.parametrize("name", SAMPLERS)
def test_what_the_checkpoint_was_trained_with_is_kept(name: str) -> None:
    trained = SD1 | {"beta_end": 0.02, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    scheduler = create_scheduler(name, trained | {"timestep_spacing": "trailing"}, 10)
    assert scheduler.config.beta_end == 0.02
    assert scheduler.config.prediction_type == "v_prediction"
    assert scheduler.alphas_cumprod[-1] < 1e-7
    assert scheduler.config.get("timestep_spacing", "trailing") == "trailing"
    assert scheduler.timesteps[0] > 990


def test_spacing_is_the_samplers_own_where_the_checkpoint_names_the_usual_one() -> None:
    pndm: Any = PNDMScheduler(**SD1, skip_prk_steps=True)
    saved = pndm.config
    assert saved.timestep_spacing == "leading"
    assert create_scheduler("Euler a", saved, 4).timesteps.tolist() == [999, 666, 333, 0]
    assert create_scheduler("DDIM", saved, 4).timesteps.tolist() == [751, 501, 251, 1]


@pytest.mark.parametrize(
    ("name", "steps", "schedule", "words"),
    [
        ("Euler z", 20, "Automatic", "Euler a, Euler"),
        ("Euler a Karras", 20, "Automatic", "Euler a has no schedule"),
        ("DDIM", 20, "Beta", "Automatic, Normal"),
        ("DPM++ 2M Karras", 0, "Automatic", "1 or more"),
    ],
)
def test_refusals_say_what_is_possible(name: str, steps: int, schedule: str, words: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(words)):
        create_scheduler(name, SD1, steps, schedule)


@pytest.mark.parametrize(
    ("joined", "name", "schedule"),
    [
        ("DPM++ 2M Karras", "DPM++ 2M", "Karras"),
        ("DPM++ 2M", "DPM++ 2M", "Karras"),
        ("DPM++ 3M SDE", "DPM++ 3M SDE", "Exponential"),
        ("Euler Beta", "Euler", "Beta"),
        ("Heun", "Heun", "Normal"),
    ],
)
def test_old_names_and_automatic_mean_a_schedule(joined: str, name: str, schedule: str) -> None:
    old, new = create_scheduler(joined, SD1, 7), create_scheduler(name, SD1, 7, schedule)
    assert settings(old) == settings(new)
    assert torch.equal(old.sigmas, new.sigmas)


EVERY = [(name, schedule) for name, spec in SAMPLERS.items() for schedule in spec.schedules]
ROUGH = ("DDIM", "DEIS", "PLMS", "TCD")
"""They end at the model's own first noise level, which is not quite zero."""


def walk(scheduler: Any, levels: Levels, timesteps: Tensor, *, seed: int, from_picture: bool) -> Tensor:
    """Sample with a model that knows the picture: how far the end is from it, on average."""
    generator = torch.Generator().manual_seed(seed)
    picture = torch.randn((1, 4, 4, 4), generator=generator)
    noise = torch.randn(picture.shape, generator=generator)
    if from_picture:
        x = scheduler.add_noise(picture, noise, timesteps[:1])
    else:
        x = noise * scheduler.init_noise_sigma
    for call, timestep in enumerate(timesteps):
        options = step_options(scheduler, generator, call)
        given = scheduler.scale_model_input(x, timestep)
        x = scheduler.step(
            levels.prediction(picture, given, timestep), timestep, x, **options, return_dict=False
        )[0]
    return x - picture


@pytest.mark.parametrize(("name", "schedule"), EVERY)
def test_with_a_model_that_knows_the_picture_every_sampler_arrives_there(name: str, schedule: str) -> None:
    levels = Levels(DDPMScheduler(**SD1))
    found = []
    for _ in range(2):
        scheduler = create_scheduler(name, SD1, 6, schedule, seed=3)
        found.append(walk(scheduler, levels, scheduler.timesteps, seed=3, from_picture=False))
    meant = resolve_schedule(name, schedule)
    flags = [bool(scheduler.config.get(flag)) for flag in SIGMA_FLAGS]
    assert flags == [meant == kind for kind in ("Karras", "Exponential", "Beta")]
    assert torch.equal(*found)
    assert found[0].abs().mean() < (0.05 if name in ROUGH else 0.002)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_last_steps_begin_at_their_own_noise_level(name: str, steps: int) -> None:
    scheduler = create_scheduler(name, SD1, 8, seed=3)
    timesteps = last_steps(scheduler, steps)
    assert len(timesteps) == model_calls(name, steps)
    away = walk(scheduler, Levels(DDPMScheduler(**SD1)), timesteps, seed=3, from_picture=True)
    assert away.abs().mean() < (0.05 if name in ROUGH else 0.002)


def test_noise_of_dpm_sde_is_the_seeds() -> None:
    levels = Levels(DDPMScheduler(**SD1))
    ends = []
    for seed in (1, 2):
        scheduler = create_scheduler("DPM++ SDE", SD1, 3, seed=seed)
        # stopped before the end, where only the noise differs
        ends.append(walk(scheduler, levels, scheduler.timesteps[:2], seed=9, from_picture=False))
    assert not torch.equal(*ends)
