"""Everything that belongs to one training, under one name: first the task, then the running run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from app.contract.jobs import TrainJob
from worker.draws import Draws
from worker.families.base import Family, Parts
from worker.training.checkpoint import RunState
from worker.training.dataset import Example
from worker.training.latents import Cache
from worker.training.lora import Adapter
from worker.training.monitor import Monitor


@dataclass
class Task:
    """What was asked for, and where. `files` maps sha256 to local paths; output lies under `out`."""

    job: TrainJob
    family: Family
    files: Mapping[str, Path]
    out: Path
    monitor: Monitor
    device: torch.device
    rng: Draws
    asked: TrainJob | None = field(default=None, kw_only=True)
    """The job as it was asked for, where `job` does with less memory."""
    lowered: dict[str, Any] = field(default_factory=dict, kw_only=True)
    """What `job` has otherwise than `asked`."""

    @property
    def original(self) -> TrainJob:
        return self.asked or self.job


@dataclass
class Run(Task):
    """A task with all that was loaded for it."""

    parts: Parts
    examples: list[Example]
    cache: Cache
    adapter: Adapter
    optimizer: torch.optim.Optimizer
    state: RunState = field(default_factory=RunState)

    @cached_property
    def trained(self) -> list[Example]:
        return [example for example in self.examples if not example.held_out]

    @cached_property
    def held_out(self) -> list[Example]:
        return [example for example in self.examples if example.held_out]

    @property
    def live_text(self) -> bool:
        """Whether the text encoder learns, and so runs in every step."""
        return self.job.params.text_encoder_lr > 0
