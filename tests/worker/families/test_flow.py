"""The line from clip to noise: levels, shift, densities, and each network's own part of it."""

from typing import Any

import pytest
import torch
from torch import Tensor

from worker.draws import Draws
from worker.families.base import Batch
from worker.families.flow import at_level, flow_loss, noise_levels, shifted, unshifted

SHAPE = (3, 2, 4, 4)


def batch(count: int = 2, **facts: Any) -> Batch:
    mean = torch.randn(count, *SHAPE, generator=torch.manual_seed(3))
    return Batch(mean=mean, std=None, cond={}, keys=[(n,) for n in range(count)], **facts)


def test_the_shift_by_hand() -> None:
    assert shifted(torch.tensor([0.0, 0.5, 0.7, 1.0]), 3.0).tolist() == pytest.approx([0, 0.75, 0.875, 1])
    levels = torch.linspace(0, 1, 11)
    assert torch.allclose(unshifted(shifted(levels, 5.0), 5.0), levels)
    assert torch.equal(shifted(levels, 1.0), levels)


def test_a_perfect_prediction_has_no_loss() -> None:
    one = batch(timesteps=torch.tensor([100, 900]), flow_shift=3.0)
    noise = Draws(5).normal("noise", one.keys, SHAPE)
    levels = shifted(torch.tensor([0.1, 0.9]), 3.0)

    def perfect(noisy: Tensor, told: Tensor) -> Tensor:
        assert torch.allclose(told, levels * 1000)
        assert torch.allclose(noisy, at_level(one.mean, noise, levels))
        return noise - one.mean

    assert flow_loss(one, Draws(5), perfect).tolist() == [0.0, 0.0]
    wrong = flow_loss(one, Draws(5), lambda noisy, _: torch.zeros_like(noisy))
    assert torch.allclose(wrong, (noise - one.mean).square().flatten(1).mean(1))


def test_the_posterior_is_drawn_anew_each_turn() -> None:
    plain = batch(timesteps=torch.tensor([500, 500]))
    spread = Batch(**(vars(plain) | {"std": torch.full_like(plain.mean, 0.5)}))
    seen: list[Tensor] = []

    def keep(noisy: Tensor, _told: Tensor) -> Tensor:
        seen.append(noisy)
        return noisy

    for one in (plain, spread, spread):
        flow_loss(one, Draws(5), keep)
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(seen[1], seen[2])


@pytest.mark.parametrize("density", ["uniform", "logit_normal"])
@pytest.mark.parametrize("part", [(0.0, 1.0), (0.875, 1.0), (0.0, 0.875)])
def test_levels_stay_in_their_part_and_fill_it(density: str, part: tuple[float, float]) -> None:
    levels = noise_levels(batch(4000, timestep_density=density, flow_shift=3.0), Draws(1), part)
    low, high = part
    assert low <= float(levels.min()) < low + 0.12
    assert high - 0.05 < float(levels.max()) <= high


@pytest.mark.parametrize(
    ("density", "shift", "middle"),
    [("uniform", 1.0, 0.5), ("uniform", 3.0, 0.75), ("logit_normal", 1.0, 0.5), ("logit_normal", 3.0, 0.75)],
)
def test_half_of_the_levels_lie_below_the_shifted_middle(density: str, shift: float, middle: float) -> None:
    levels = noise_levels(batch(4000, timestep_density=density, flow_shift=shift), Draws(1))
    assert float((levels < middle).float().mean()) == pytest.approx(0.5, abs=0.03)


def test_the_logistic_normal_trains_more_in_the_middle() -> None:
    def inner(density: str) -> float:
        levels = noise_levels(batch(4000, timestep_density=density), Draws(1))
        return float(((levels > 0.25) & (levels < 0.75)).float().mean())

    assert inner("uniform") == pytest.approx(0.5, abs=0.03)
    assert inner("logit_normal") == pytest.approx(0.728, abs=0.03)  # Φ(log 3) - Φ(-log 3)


def test_parts_share_the_draws_of_the_whole() -> None:
    """Conditional on its part, each network sees the very distribution that one network would see there."""
    whole = noise_levels(batch(8000, flow_shift=3.0), Draws(1))
    low = noise_levels(batch(8000, flow_shift=3.0), Draws(2), (0.0, 0.875))
    below = whole[whole < 0.875]
    for share in (0.25, 0.5, 0.75):
        assert float(low.quantile(share)) == pytest.approx(float(below.quantile(share)), abs=0.02)


def test_a_level_depends_on_its_key_alone() -> None:
    many = noise_levels(batch(5), Draws(1))
    two = Batch(mean=torch.zeros(2, *SHAPE), std=None, cond={}, keys=[(3,), (1,)])
    assert torch.equal(noise_levels(two, Draws(1)), many[[3, 1]])
