"""Between what the model says and the picture that it means, at any noise level.

All in variance-preserving scale, which is what the model is given: noisy = signal · origin + spread ·
noise with signal² + spread² = 1. So it serves every sampler alike.
"""

from typing import Any

import torch
from torch import Tensor

SMALLEST = 2.0**-24
"""Of signal²: with zero terminal SNR there is none at the first step."""


class Levels:
    """`checkpoint` is a scheduler of the checkpoint: its `alphas_cumprod` and prediction type are read."""

    def __init__(self, checkpoint: Any) -> None:
        alphas: Tensor = checkpoint.alphas_cumprod
        self._logs = alphas.double().clamp(SMALLEST, 1 - SMALLEST).log().cpu()
        self._velocity = checkpoint.config.prediction_type == "v_prediction"

    def shares(self, timestep: Tensor) -> tuple[float, float]:
        """Signal and spread at a time step, which need not be whole."""
        place = min(max(float(timestep), 0.0), len(self._logs) - 1.0)
        below = int(place)
        above = min(below + 1, len(self._logs) - 1)
        alpha = float(torch.lerp(self._logs[below], self._logs[above], place - below).exp())
        return alpha**0.5, (1 - alpha) ** 0.5

    def origin(self, predicted: Tensor, noisy: Tensor, timestep: Tensor) -> Tensor:
        """The latents without noise that a prediction for `noisy` means."""
        signal, spread = self.shares(timestep)
        if self._velocity:
            return signal * noisy - spread * predicted
        return (noisy - spread * predicted) / signal

    def prediction(self, origin: Tensor, noisy: Tensor, timestep: Tensor) -> Tensor:
        """The way back: what the model would have said to mean `origin`."""
        signal, spread = self.shares(timestep)
        noise = (noisy - signal * origin) / spread
        return signal * noise - spread * origin if self._velocity else noise
