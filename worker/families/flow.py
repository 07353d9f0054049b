"""Rectified flow: a straight line from the clip to noise, and the model tells its direction.

At noise level s, 0-1, the model sees (1 - s) · x0 + s · noise and should say noise - x0. The shift s' =
k · s / (1 + (k - 1) · s) moves levels towards noise, where motion is decided. Shapes: latents
[B, C, t, h, w], levels and losses [B].
"""

import torch
from torch import Tensor

from worker.draws import Draws
from worker.families.base import Batch
from worker.families.epsilon import Predict

WHOLE = (0.0, 1.0)
LEVELS = 1000
"""Steps of the schedule that `Batch.timesteps` count in; models are told level × 1000."""


def flow_loss(batch: Batch, rng: Draws, predict: Predict, part: tuple[float, float] = WHOLE) -> Tensor:
    """Mean squared error of each sample. All its randomness comes from `batch.keys`.

    `part`: only levels from … to … (shifted) are drawn; `predict` gets noisy latents and levels × 1000.
    """
    device, shape = batch.mean.device, batch.mean.shape[1:]
    latents = batch.mean
    if batch.std is not None:
        latents = latents + batch.std * rng.normal("posterior", batch.keys, shape).to(device)
    noise = rng.normal("noise", batch.keys, shape).to(device)
    levels = noise_levels(batch, rng, part).to(device)
    predicted = predict(at_level(latents, noise, levels), levels * LEVELS).float()
    return (predicted - (noise - latents)).square().flatten(1).mean(dim=1)


def noise_levels(batch: Batch, rng: Draws, part: tuple[float, float] = WHOLE) -> Tensor:
    """The shifted level of each sample: told by `batch.timesteps`, or drawn within `part`. fp32."""
    if batch.timesteps is not None:
        told = batch.timesteps.to("cpu", torch.float64) / LEVELS
        return shifted(told, batch.flow_shift).float()
    low, high = (_share_below(level, batch) for level in part)
    drawn = low + (high - low) * rng.uniform("timestep", batch.keys)
    if batch.timestep_density == "logit_normal":
        drawn = torch.special.expit(torch.special.ndtri(drawn))
    return shifted(drawn, batch.flow_shift).clamp(*part).float()


def _share_below(level: float, batch: Batch) -> float:
    """Share of all draws that end below this level."""
    plain = unshifted(torch.tensor(level, dtype=torch.float64), batch.flow_shift)
    if batch.timestep_density == "logit_normal":
        plain = torch.special.ndtr(torch.special.logit(plain))
    return float(plain)


def shifted(level: Tensor, shift: float) -> Tensor:
    return shift * level / (1 + (shift - 1) * level)


def unshifted(level: Tensor, shift: float) -> Tensor:
    return level / (shift - (shift - 1) * level)


def at_level(latents: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
    """Latents with as much noise as `levels` [B] say."""
    level = levels.view(-1, *[1] * (latents.dim() - 1))
    return (1 - level) * latents + level * noise
