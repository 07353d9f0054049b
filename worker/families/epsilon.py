"""Diffusion with a variance-preserving noise schedule: noise, target and loss weight.

Serves epsilon and v prediction. Shapes: latents [B, C, h, w], timesteps [B], losses [B].
Min-SNR weights as in Hang et al. 2023: min(SNR, gamma) / SNR, and / (SNR + 1) for v.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from worker.draws import Draws
from worker.families.base import Batch

SMALLEST_SNR = 1e-8

Predict = Callable[[Tensor, Tensor], Tensor]
"""(noisy latents, timesteps) → the model's output."""


def denoising_loss(
    batch: Batch, rng: Draws, alphas_cumprod: Tensor, prediction_type: str, predict: Predict
) -> Tensor:
    """Weighted mean squared error of each sample. All its randomness comes from `batch.keys`."""
    device, shape = batch.mean.device, batch.mean.shape[1:]
    latents = batch.mean
    if batch.std is not None:
        latents = latents + batch.std * rng.normal("posterior", batch.keys, shape).to(device)
    noise = rng.normal("noise", batch.keys, shape).to(device)
    if batch.noise_offset:
        noise = noise + batch.noise_offset * rng.normal("offset", batch.keys, (shape[0], 1, 1)).to(device)
    timesteps = batch.timesteps
    if timesteps is None:
        timesteps = rng.below("timestep", batch.keys, len(alphas_cumprod)).to(device)
    alpha = alphas_cumprod.to(device)[timesteps]
    predicted = predict(add_noise(latents, noise, alpha), timesteps).float()
    goal = target(latents, noise, alpha, prediction_type)
    losses = (predicted - goal).square().mean(dim=(1, 2, 3))
    return losses * min_snr_weights(alpha / (1 - alpha), batch.min_snr_gamma, prediction_type)


def add_noise(latents: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """Latents at noise level `alpha` = cumulated product of alphas, [B]."""
    signal = alpha.sqrt()[:, None, None, None]
    spread = (1 - alpha).sqrt()[:, None, None, None]
    return signal * latents + spread * noise


def target(latents: Tensor, noise: Tensor, alpha: Tensor, prediction_type: str) -> Tensor:
    """What the model should have said."""
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "v_prediction":
        signal = alpha.sqrt()[:, None, None, None]
        spread = (1 - alpha).sqrt()[:, None, None, None]
        return signal * noise - spread * latents
    raise ValueError(f"Unknown prediction type {prediction_type!r}.")


def min_snr_weights(snr: Tensor, gamma: float, prediction_type: str) -> Tensor:
    """Weight of each sample from its signal-to-noise ratio; gamma 0 weighs all alike.

    Without any signal (zero terminal SNR) epsilon's weight is the limit, 1.
    """
    if not gamma:
        return torch.ones_like(snr)
    snr = snr.clamp(min=SMALLEST_SNR)
    divisor = snr + 1 if prediction_type == "v_prediction" else snr
    return snr.clamp(max=gamma) / divisor
