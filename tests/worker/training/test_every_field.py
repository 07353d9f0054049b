"""Every setting is used: changing it alone changes the adapter, or has the effect named here."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from app.contract.events import Checkpoint
from app.contract.jobs import TrainParams
from tests.worker.tiny import tiny_files, tiny_job, tiny_pictures
from tests.worker.training.conftest import adapter_of, equal
from worker.draws import Draws
from worker.families import catalog
from worker.families.params import UNUSED
from worker.reporter import NullReporter
from worker.training.dataset import Stream
from worker.training.monitor import Monitor
from worker.training.recipe import prepare, train
from worker.training.run import Task
from worker.training.step import train_step

SHUFFLED = {"shuffle_tags": True}
RESTARTS = {"lr_scheduler": "cosine_with_restarts"}
CONVOLUTIONS = {"conv_dim": 4, "conv_alpha": 2.0}
CHANGES: dict[str, tuple[Any, dict[str, Any]]] = {
    "resolution": (96, {}),
    "epochs": (3, {}),
    "repeats": (2, {}),
    "max_steps": (3, {}),
    "batch_size": (2, {}),
    "gradient_accumulation": (2, {}),
    "unet_lr": (2e-3, {}),
    "text_encoder_lr": (1e-3, {}),
    "lr_scheduler": ("linear", {}),
    "lr_warmup": (0.5, {}),
    "lr_cycles": (2, RESTARTS),
    "optimizer": ("adafactor", {}),
    "network_dim": (2, {}),
    "network_alpha": (4.0, {}),
    "conv_dim": (2, CONVOLUTIONS),
    "conv_alpha": (1.0, CONVOLUTIONS),
    "noise_offset": (0.2, {}),
    "min_snr_gamma": (1.0, {}),
    "enable_bucket": (False, {}),
    "shuffle_tags": (True, {}),
    "keep_tokens": (2, SHUFFLED),
    "caption_dropout": (1.0, {}),
    "flip": (True, {}),
    "clip_skip": (2, {}),
    "precision": ("bf16", {}),
    "seed": (43, {}),
    "holdout": (False, {}),
}
"""field: (changed value, what else the two runs have)."""


class Runs:
    """Runs over eight pictures; those that serve several tests are made once."""

    def __init__(self, base: Path, folder: Path) -> None:
        self.base, self.folder = base, folder
        self.pictures = tiny_pictures(folder / "pictures", 8, ((64, 64), (120, 60)))
        self._made: dict[str, tuple[dict[str, Tensor], NullReporter]] = {}

    def get(self, **changes: Any) -> tuple[dict[str, Tensor], NullReporter]:
        """The last adapter and what was reported."""
        key = repr(sorted(changes.items()))
        if key not in self._made:
            job = tiny_job(self.pictures, **({"batch_size": 4, "network_alpha": 2.0} | changes))
            out = self.folder / f"run-{len(self._made)}"
            reporter = NullReporter()
            files = tiny_files(self.base, self.pictures)
            assert train(job, catalog.load("starter"), files, out, reporter).outcome == "succeeded"
            self._made[key] = adapter_of(out, job.params.epochs), reporter
        return self._made[key]


@pytest.fixture(scope="module")
def runs(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(base, tmp_path_factory.mktemp("runs"))


def test_every_field_is_covered() -> None:
    elsewhere = {"gradient_checkpointing", "save_every_epochs"} | set(UNUSED[False])
    assert set(CHANGES) | elsewhere == set(TrainParams.model_fields)


@pytest.mark.parametrize("name", CHANGES)
def test_changing_a_field_changes_the_adapter(name: str, runs: Runs) -> None:
    value, common = CHANGES[name]
    before, _ = runs.get(**common)
    after, _ = runs.get(**(common | {name: value}))
    assert not equal(before, after)


def test_save_every_epochs_decides_which_files_there_are(runs: Runs) -> None:
    saved = [
        [event.epoch for event in runs.get(epochs=3, **changes)[1].events if isinstance(event, Checkpoint)]
        for changes in ({}, {"save_every_epochs": 2})
    ]
    assert saved == [[1, 2, 3], [2, 3]]


def test_gradient_checkpointing_keeps_less_and_learns_the_same(runs: Runs) -> None:
    def kept(checkpointing: bool) -> tuple[int, float]:
        """Bytes that one step keeps for its backward pass, and its loss."""
        job = tiny_job(runs.pictures, gradient_checkpointing=checkpointing, batch_size=4)
        out = runs.folder / f"checkpointing-{checkpointing}"
        files = tiny_files(runs.base, runs.pictures)
        monitor = Monitor(NullReporter(), 1, 1)
        task = Task(job, catalog.load("starter"), files, out, monitor, torch.device("cpu"), Draws(0))
        run = prepare(task)
        sizes = []

        def pack(tensor: Tensor) -> Tensor:
            sizes.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss, _ = train_step(run, Stream(run.trained, 4, 4, run.rng).take(0, 4), 1.0)
        return sum(sizes), float(loss)

    (much, loss), (little, same) = kept(False), kept(True)
    assert little < much * 0.6
    assert same == pytest.approx(loss, rel=1e-5)
