"""Time budgets, learning rates and checkpoints of the training stages.

The stages share two cores with whatever else runs, so their schedules follow the clock,
not a step count: a stage ends on time with its rate at zero however slow the machine is.
"""

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch


@dataclass
class Budget:
    """A stage's wall-clock allowance in seconds; `spent` carries over from a resumed run."""

    seconds: float
    spent: float = 0.0
    _started: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        """Seconds used so far, earlier runs included."""
        return self.spent + time.monotonic() - self._started

    @property
    def progress(self) -> float:
        """Share of the allowance that is used, 0-1."""
        return min(1.0, self.elapsed / self.seconds)


def rate_share(progress: float, step: int) -> float:
    """Share of the peak rate: 50 steps of warm-up, then a cosine that ends at zero."""
    warm = min(1.0, (step + 1) / 50)
    return warm * 0.5 * (1 + math.cos(math.pi * progress))


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Written aside and renamed, so that a kill never leaves half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The saved state, or None for a fresh start."""
    return torch.load(path, weights_only=True) if path.exists() else None
