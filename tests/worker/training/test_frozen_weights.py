"""Frozen weights that wait in host memory or are held as int8: same numbers, few copies, files as ever."""

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchao.quantization import Int8Tensor

from app.contract.events import Checkpoint, LogLine, Sample
from app.contract.jobs import TrainJob
from tests.worker.families.test_families import reload
from tests.worker.tiny import tiny_base
from tests.worker.training.conftest import equal
from tests.worker.training.test_clips import EXPERTS, Set, check_same_files, hard, metadata_of
from worker.draws import Draws
from worker.families import catalog, streaming
from worker.families.memory import remedies
from worker.families.streaming import Outside
from worker.reporter import NullReporter
from worker.training import again
from worker.training.checkpoint import find_resume
from worker.training.dataset import Stream
from worker.training.frozen_weights import whole
from worker.training.monitor import Monitor
from worker.training.run import Run, Task
from worker.training.saving import job_key
from worker.training.step import train_step, validation_loss

CPU = torch.device("cpu")
HELD: dict[str, dict[str, bool]] = {
    "streamed": {"streamed": True},
    "quantised": {"quantised": True},
    "both": {"streamed": True, "quantised": True},
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Set:
    return Set(tmp_path_factory.mktemp("set"))


def held(job: TrainJob, name: str) -> TrainJob:
    return job.model_copy(update=HELD[name])


def steps(run: Run, count: int = 2) -> list[float]:
    """Losses of so many steps, both experts in turn."""
    stream, losses = Stream(run.trained, 4 * count, 2, run.rng), []
    for step in range(1, count + 1):
        run.state.step = step
        losses.append(float(train_step(run, stream.take(2 * step - 2, 2), 1.0)[0]))
    return losses


def blocks(run: Run) -> Iterator[nn.Module]:
    for network in run.parts.networks.values():
        for part in network.children():
            if isinstance(part, nn.ModuleList):
                yield from part


def streams(block: nn.Module) -> bool:
    return "forward" in vars(block)


def frozen(block: nn.Module) -> list[Tensor]:
    return [tensor for tensor in block.parameters() if not tensor.requires_grad]


def largest(run: Run) -> int:
    """Bytes of the block with most frozen weights."""
    return max(sum(tensor.nbytes for tensor in frozen(block)) for block in blocks(run))


@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize(("family", "precision"), [("wan", "fp32"), (EXPERTS, "bf16"), ("ltx", "bf16")])
def test_streamed_blocks_learn_the_same_to_the_bit(
    family: str, precision: str, checkpointing: bool, clips: Set, tmp_path: Path
) -> None:
    job = clips.job(family, precision=precision, gradient_checkpointing=checkpointing)
    plain = clips.prepare(job, tmp_path / "plain", family)
    streamed = clips.prepare(held(job, "streamed"), tmp_path / "streamed", family)
    assert [streams(block) for block in blocks(plain)] == [False] * len(list(blocks(plain)))
    assert all(streams(block) for block in blocks(streamed))
    assert steps(plain) == steps(streamed)
    assert equal(plain.adapter.state(), streamed.adapter.state())
    assert plain.adapter.relative_change() == streamed.adapter.relative_change()


class Living:
    """Copies of weights that are alive, in bytes, and the most there were at a time."""

    def __init__(self) -> None:
        self.now = self.most = self.made = 0

    def brought(self, tensor: Tensor, device: torch.device) -> Tensor:
        copy = BROUGHT(tensor, device)
        assert copy.data_ptr() != tensor.data_ptr()
        assert not tensor.requires_grad
        size = copy.untyped_storage().nbytes()
        self.now, self.made = self.now + size, self.made + 1
        self.most = max(self.most, self.now)
        weakref.finalize(copy.untyped_storage(), self._gone, size)
        return copy

    def _gone(self, size: int) -> None:
        self.now -= size


BROUGHT = streaming.brought


def test_one_block_is_on_the_device_at_a_time(
    clips: Set, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = held(clips.job("wan", gradient_checkpointing=True), "streamed")
    run = clips.prepare(job, tmp_path, "wan")
    living = Living()
    monkeypatch.setattr(streaming, "brought", living.brought)
    steps(run, 1)
    assert living.made == 2 * sum(len(frozen(block)) for block in blocks(run))  # and again backwards
    assert living.most == largest(run)
    assert living.now == 0


def test_without_checkpointing_all_blocks_wait_on_the_device_for_the_backward_pass(
    clips: Set, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why the plan streams only with gradient checkpointing."""
    job = held(clips.job("wan", gradient_checkpointing=False), "streamed")
    run = clips.prepare(job, tmp_path, "wan")
    living = Living()
    monkeypatch.setattr(streaming, "brought", living.brought)
    steps(run, 1)
    assert living.most > 1.1 * largest(run)
    assert living.now == 0


def test_weights_outside_lie_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "PIECE", 4096)
    outside = Outside(pinned=False)
    numbers = [
        torch.randn(shape).to(torch.bfloat16) for shape in ((), (0, 4), (3, 5), (300,), (40, 70), (9,))
    ]
    placed = [outside.put(tensor) for tensor in numbers]
    assert all(torch.equal(one, other) for one, other in zip(numbers, placed, strict=True))
    pieces = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in placed}
    assert list(pieces.values()) == [4096, 8192]


def test_quantised_blocks_are_half_as_large_and_nearly_the_same(clips: Set, tmp_path: Path) -> None:
    job = clips.job("wan", precision="bf16", gradient_checkpointing=True)
    plain = clips.prepare(job, tmp_path / "plain", "wan")
    small = clips.prepare(held(job, "quantised"), tmp_path / "small", "wan")
    for name, layer in small.adapter.layers.items():
        weight = layer.get_base_layer().weight
        assert isinstance(weight, Int8Tensor), name
        assert weight.qdata.dtype == torch.int8
        assert not weight.requires_grad
        before = plain.adapter.layers[name].get_base_layer().weight
        assert float((whole(weight) - before).abs().max()) < float(before.abs().max()) / 100
    assert not isinstance(small.parts.model.proj_out.weight, Int8Tensor)
    assert steps(small) == pytest.approx(steps(plain), rel=0.02)
    assert small.adapter.relative_change() == pytest.approx(plain.adapter.relative_change(), rel=0.2)


@pytest.mark.parametrize("name", HELD)
@pytest.mark.parametrize("family", ["wan", "ltx"])
def test_the_loss_falls(name: str, family: str, clips: Set, tmp_path: Path) -> None:
    job = clips.job(family, gradient_checkpointing=True, unet_lr=2e-2, lr_scheduler="constant", epochs=8)
    run = clips.prepare(held(job, name), tmp_path, family)
    run.held_out, stream = run.examples[:1], Stream(run.trained, 64, 2, run.rng)
    before = validation_loss(run)
    for step in range(12):
        train_step(run, stream.take(2 * step, 2), 1.0)
    after = validation_loss(run)
    assert before
    assert after
    assert after < 0.99 * before


@pytest.mark.parametrize("name", ["streamed", "quantised"])
def test_what_is_written_reloads_and_samples_are_drawn(name: str, clips: Set, tmp_path: Path) -> None:
    job = held(clips.job("wan", epochs=1, prompts=1, gradient_checkpointing=True), name)
    reporter = NullReporter()
    assert clips.train(job, tmp_path, "wan", reporter).outcome == "succeeded"
    assert [type(event) for event in reporter.events].count(Sample) == 2
    (checkpoint,) = [event for event in reporter.events if isinstance(event, Checkpoint)]
    base = tiny_base(clips.folder / "base-wan", "wan")
    reload(catalog.load("wan"), base, tmp_path / checkpoint.path, "model")
    told = metadata_of(tmp_path / checkpoint.path)
    assert told.get("bottega_base_weights") == ("int8" if name == "quantised" else None)
    logged = " ".join(event.message for event in reporter.events if isinstance(event, LogLine))
    assert ("wait in the machine's own memory" in logged) == (name == "streamed")
    assert ("8 bits a weight" in logged) == (name == "quantised")


@pytest.mark.parametrize("name", ["streamed", "quantised"])
def test_a_paused_run_ends_with_the_same_bits(name: str, clips: Set, tmp_path: Path) -> None:
    job = held(hard(clips, "wan"), name)
    job = job.model_copy(update={"params": job.params.model_copy(update={"gradient_checkpointing": True})})
    clips.train(job, tmp_path / "whole", "wan")
    wishes: list[Any] = [None] * 9 + ["pause"]
    assert clips.train(job, tmp_path / "two", "wan", NullReporter(wishes)).outcome == "paused"
    assert 0 < int(find_resume(tmp_path / "two")[0].stem.removeprefix("step-")) < 6
    assert clips.train(job, tmp_path / "two", "wan").outcome == "succeeded"
    check_same_files(tmp_path / "whole", tmp_path / "two", 2)


def test_a_card_that_ran_full_streams_where_the_host_has_room(
    clips: Set, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = clips.job("wan", gradient_checkpointing=True, batch_size=1)
    monitor = Monitor(NullReporter(), 1, 1)
    task = Task(job, catalog.load("wan"), {}, tmp_path, monitor, torch.device("cuda"), Draws(0))
    monkeypatch.setattr(again, "free_ram", lambda: 2**40)
    assert again.ways_left(task) == ("streamed",)
    cure, _ = next(remedies(job, ways=again.ways_left(task)))
    assert again.difference(job, cure) == {"streamed": True}
    again.lower(task, {"streamed": True})
    assert task.job == cure
    monkeypatch.setattr(again, "free_ram", lambda: 2**20)
    assert again.ways_left(task) == ()
    task.device = CPU
    assert again.ways_left(task) == ()


def test_where_weights_wait_changes_no_resume_point(clips: Set) -> None:
    job = clips.job("wan")
    assert job_key(job) == job_key(held(job, "streamed"))
    assert job_key(job) != job_key(held(job, "quantised"))
