"""Killed with -9 in the middle and started again, a run ends with the same bits as one that was not."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from app.contract.events import Checkpoint, Event, Sample
from tests.worker.tiny import tiny_files, tiny_job
from tests.worker.training.conftest import adapter_of, equal
from worker.families import catalog
from worker.reporter import NullReporter
from worker.training.checkpoint import find_resume, read_resume
from worker.training.recipe import train
from worker.training.saving import job_key

CHILD = """
import os, signal, sys
from pathlib import Path
from app.contract.events import Metric
from worker.cli import read_job
from worker.families import catalog
from worker.training.recipe import train

class KilledAt:
    def __init__(self, step):
        self.step = step
    def report(self, event):
        if isinstance(event, Metric) and event.step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)
    def command(self):
        return None

job, files = read_job(Path(sys.argv[1]))
for word in sys.argv[3:]:
    if (pid := os.fork()) == 0:
        train(job, catalog.load("starter"), files, Path(sys.argv[2]), KilledAt(int(word)), resume_seconds=0.0)
        os._exit(0)
    print(os.waitpid(pid, 0)[1], flush=True)
"""
"""Trains in one process after the other, each killed at the step that its word names (0 = never)."""

HARD: dict[str, Any] = {
    "text_encoder_lr": 1e-3, "conv_dim": 2, "conv_alpha": 1.0, "flip": True, "caption_dropout": 0.3,
    "shuffle_tags": True, "noise_offset": 0.1, "epochs": 4, "repeats": 3, "batch_size": 2,
    "gradient_accumulation": 2, "prompts": 1,
}  # fmt: skip


def test_three_kills_and_the_same_bits(base: Path, pictures: list[Path], tmp_path: Path) -> None:
    job = tiny_job(pictures, **HARD)
    files = tiny_files(base, pictures)
    path = tmp_path / "job.json"
    named = {digest: str(file) for digest, file in files.items()}
    path.write_text(json.dumps({"job": job.model_dump(mode="json"), "files": named}))
    whole = train(job, catalog.load("starter"), files, tmp_path / "whole", NullReporter())
    assert whole.steps == 12

    out = tmp_path / "killed"
    steps = sorted(random.Random(time.time_ns()).sample(range(2, 12), 3))
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD, str(path), str(out), *map(str, steps), "0"],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ended.stdout.split() == [str(signal.SIGKILL.value)] * 3 + ["0"], ended.stderr
    assert read_resume(find_resume(out)[0], job_key(job)) is not None

    for epoch in range(1, 5):
        assert equal(adapter_of(tmp_path / "whole", epoch), adapter_of(out, epoch)), (steps, epoch)
    assert (tmp_path / "whole/samples/000004-0.png").read_bytes() == (
        out / "samples/000004-0.png"
    ).read_bytes()


@pytest.mark.parametrize("optimizer", ["adamw", "prodigy", "adafactor"])
def test_every_optimizer_resumes_to_the_bit_in_another_folder(
    optimizer: str, base: Path, pictures: list[Path], tmp_path: Path
) -> None:
    rate: dict[str, Any] = {"unet_lr": 1.0} if optimizer == "prodigy" else {}
    job = tiny_job(pictures, optimizer=optimizer, epochs=3, **rate)
    files = tiny_files(base, pictures)
    family = catalog.load("starter")
    train(job, family, files, tmp_path / "whole", NullReporter())
    wishes: list[Any] = [None] * 6 + ["pause"]
    paused = train(job, family, files, tmp_path / "one", NullReporter(wishes))
    assert paused.outcome == "paused"
    (point,) = find_resume(tmp_path / "one")[:1]
    train(job, family, files, tmp_path / "two", NullReporter(), resume=point)
    assert equal(adapter_of(tmp_path / "whole", 3), adapter_of(tmp_path / "two", 3))
    assert not (tmp_path / "two" / "cache").exists()


class PauseAtSample(NullReporter):
    """Wishes a pause as soon as the first sample of an epoch is there."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self._epoch = epoch

    def report(self, event: Event) -> None:
        super().report(event)
        if isinstance(event, Sample) and (event.epoch, event.prompt_index) == (self._epoch, 0):
            self._commands.append("pause")


@pytest.mark.parametrize("epoch", [1, 2])
def test_samples_that_a_pause_cut_short_are_drawn_after_it(
    epoch: int, base: Path, pictures: list[Path], tmp_path: Path
) -> None:
    job, files, family = tiny_job(pictures, prompts=2), tiny_files(base, pictures), catalog.load("starter")
    whole, paused, resumed = NullReporter(), PauseAtSample(epoch), NullReporter()
    train(job, family, files, tmp_path / "whole", whole)
    assert train(job, family, files, tmp_path / "two", paused).outcome == "paused"
    assert train(job, family, files, tmp_path / "two", resumed).outcome == "succeeded"

    def samples(*reporters: NullReporter) -> set[tuple[int, int]]:
        return {(e.epoch, e.prompt_index) for r in reporters for e in r.events if isinstance(e, Sample)}

    def losses(*reporters: NullReporter) -> dict[int, float | None]:
        return {e.epoch: e.loss for r in reporters for e in r.events if isinstance(e, Checkpoint)}

    assert (epoch, 1) not in samples(paused)
    assert samples(paused, resumed) == samples(whole)
    assert losses(paused, resumed) == losses(whole)
    assert equal(adapter_of(tmp_path / "whole"), adapter_of(tmp_path / "two"))


def test_the_time_of_all_attempts_counts(base: Path, pictures: list[Path], tmp_path: Path) -> None:
    job, files, family = tiny_job(pictures), tiny_files(base, pictures), catalog.load("starter")
    train(job, family, files, tmp_path, NullReporter())
    for point in find_resume(tmp_path):
        with safe_open(point, framework="pt") as opened:
            metadata = opened.metadata()
        state = json.loads(metadata["state"]) | {"run_seconds": 5000.0}
        save_file(load_file(point), point, metadata | {"state": json.dumps(state)})
    finished = train(job, family, files, tmp_path, NullReporter())
    assert finished.run_seconds is not None
    assert finished.run_seconds > 5000


def test_a_damaged_resume_point_is_passed_over(base: Path, pictures: list[Path], tmp_path: Path) -> None:
    job, files, family = tiny_job(pictures), tiny_files(base, pictures), catalog.load("starter")
    train(job, family, files, tmp_path, NullReporter())
    newest, older = find_resume(tmp_path)
    newest.write_bytes(newest.read_bytes()[:100])
    before = adapter_of(tmp_path)
    reporter = NullReporter()
    train(job, family, files, tmp_path, reporter)
    messages = [event.message for event in reporter.events if event.kind == "log"]
    assert messages == ["Goes on from step 2."]
    assert equal(before, adapter_of(tmp_path))
    assert read_resume(older, "another job") is None


def test_a_finished_run_ends_at_once_when_started_again(
    base: Path, pictures: list[Path], tmp_path: Path
) -> None:
    job, files, family = tiny_job(pictures), tiny_files(base, pictures), catalog.load("starter")
    first = train(job, family, files, tmp_path, NullReporter())
    reporter = NullReporter()
    again = train(job, family, files, tmp_path, reporter)
    assert again.recommended_epoch == first.recommended_epoch
    assert not [event for event in reporter.events if event.kind == "metric"]


def test_threads_are_those_of_the_job(base: Path, pictures: list[Path], tmp_path: Path) -> None:
    torch.set_num_threads(2)
    job = tiny_job(pictures, threads=1, epochs=1)
    train(job, catalog.load("starter"), tiny_files(base, pictures), tmp_path, NullReporter())
    assert torch.get_num_threads() == 1
