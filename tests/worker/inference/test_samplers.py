"""Samplers are built from what the checkpoint was trained with, and from nothing else."""

from typing import Any

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler, PNDMScheduler

from app.contract.samplers import SAMPLERS
from worker.inference.errors import SettingsError
from worker.inference.samplers import TABLE, create_scheduler

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
    assert len(timesteps) == steps
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
    config = create_scheduler(name, trained | {"timestep_spacing": "trailing"}, 10).config
    assert config.beta_end == 0.02
    assert config.prediction_type == "v_prediction"
    assert config.rescale_betas_zero_snr is True
    assert config.timestep_spacing == "trailing"


def test_spacing_is_the_samplers_own_where_the_checkpoint_names_the_usual_one() -> None:
    pndm: Any = PNDMScheduler(**SD1, skip_prk_steps=True)
    saved = pndm.config
    assert saved.timestep_spacing == "leading"
    assert create_scheduler("Euler a", saved, 4).timesteps.tolist() == [999, 666, 333, 0]
    assert create_scheduler("DDIM", saved, 4).timesteps.tolist() == [751, 501, 251, 1]


@pytest.mark.parametrize(("name", "steps"), [("Euler", 20), ("DPM++ 2M Karras", 0)])
def test_refusals_say_what_is_possible(name: str, steps: int) -> None:
    with pytest.raises(SettingsError, match=r"Euler a, DPM|1 or more"):
        create_scheduler(name, SD1, steps)
