"""Samplers of flows: all of them arrive, along levels that the checkpoint's schedule and the shift decide."""

from math import exp
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UniPCMultistepScheduler

from app.contract.samplers import FLOW_SAMPLERS
from worker.inference.errors import SettingsError
from worker.inference.flow_samplers import check_flow_sampler, create_flow_scheduler, own_shift

PLAIN: dict[str, Any] = {"shift": 3.0}
GROWING: dict[str, Any] = {
    "use_dynamic_shifting": True, "base_shift": 0.95, "max_shift": 2.05, "base_image_seq_len": 1024,
    "max_image_seq_len": 4096, "shift_terminal": 0.1,
}  # fmt: skip


@pytest.mark.parametrize("name", FLOW_SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 5, 30])
@pytest.mark.parametrize("checkpoint", [PLAIN, GROWING], ids=["plain", "growing"])
def test_a_model_that_knows_the_clip_arrives_there(name: str, steps: int, checkpoint: dict[str, Any]) -> None:
    clip = torch.linspace(-2, 2, 240).view(1, 2, 3, 5, 8)
    latents = torch.randn(clip.shape, generator=torch.Generator().manual_seed(1))
    scheduler = create_flow_scheduler(name, checkpoint, steps, tokens=500)
    assert len(scheduler.timesteps) == steps
    for timestep, level in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        assert abs(float(timestep) - 1000 * float(level)) < 1.01
        latents = scheduler.step((latents - clip) / level, timestep, latents, return_dict=False)[0]
    torch.testing.assert_close(latents, clip, atol=2e-4, rtol=0)


def test_levels_are_even_and_then_shifted() -> None:
    levels = create_flow_scheduler("Euler", {"shift": 3.0}, 4).sigmas
    even = np.array([1, 0.75, 0.5, 0.25, 0])
    np.testing.assert_allclose(levels.numpy(), 3 * even / (1 + 2 * even), atol=1e-6)
    told = create_flow_scheduler("Euler", {"shift": 3.0}, 4, shift=1.0).sigmas
    np.testing.assert_allclose(told.numpy(), even, atol=1e-6)


def test_unipc_walks_as_wan_s_own_schedule() -> None:
    theirs: Any = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0
    )
    theirs.set_timesteps(12)
    ours = create_flow_scheduler("UniPC", theirs.config, 12)
    torch.testing.assert_close(ours.sigmas, theirs.sigmas)
    assert torch.equal(ours.timesteps, theirs.timesteps)


def test_the_shift_grows_with_the_clip_where_the_checkpoint_says_so() -> None:
    assert own_shift(GROWING, 1024) == pytest.approx(exp(0.95))
    assert own_shift(GROWING, 4096) == pytest.approx(exp(2.05))
    assert own_shift(GROWING | {"time_shift_type": "linear"}, 1024) == pytest.approx(0.95)
    assert own_shift({"flow_shift": 5.0, "shift": 1.0}, 1024) == 5.0
    assert own_shift({}, 1024) == 1.0


def test_the_last_step_begins_where_the_checkpoint_says() -> None:
    levels = create_flow_scheduler("Euler", GROWING, 8, tokens=1024).sigmas
    assert float(levels[-2]) == pytest.approx(0.1)
    assert create_flow_scheduler("Euler", GROWING, 1, tokens=1024).sigmas.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("shift", [0.0, -1.0, float("inf"), float("nan")])
def test_a_shift_that_is_none_is_refused(shift: float) -> None:
    with pytest.raises(SettingsError, match="shift"):
        create_flow_scheduler("Euler", PLAIN, 4, shift=shift)


@pytest.mark.parametrize(
    ("name", "schedule"),
    [("Euler a", "Automatic"), ("Euler", "Karras"), ("DPM++ 2M Karras", "Automatic"), ("", "Normal")],
)
def test_other_samplers_and_schedules_are_refused(name: str, schedule: str) -> None:
    with pytest.raises(SettingsError, match="Use one of"):
        check_flow_sampler(name, schedule)
    assert check_flow_sampler("UniPC", "Normal") == "UniPC"
