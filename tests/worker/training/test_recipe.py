from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from app.contract.events import Checkpoint, LogLine, Metric, Progress, ResumePoint, Sample
from app.contract.jobs import TrainJob
from tests.worker.tiny import tiny_files, tiny_job, tiny_pictures
from tests.worker.training.conftest import Trained, adapter_of, equal
from worker.families import catalog
from worker.inference.infotext import Infotext, UsedLora, find_text, read
from worker.reporter import NullReporter
from worker.training.checkpoint import EpochRecord
from worker.training.recipe import recommended, train

Run = Callable[..., Trained]


def events(reporter: NullReporter, kind: type) -> list[Any]:
    return [event for event in reporter.events if isinstance(event, kind)]


def test_every_file_that_is_reported_exists(plain_run: tuple[TrainJob, NullReporter, Path]) -> None:
    _, reporter, out = plain_run
    checkpoints = events(reporter, Checkpoint)
    assert [event.epoch for event in checkpoints] == [1, 2]
    assert [event.path for event in checkpoints] == [
        "epochs/tiny-000001.safetensors",
        "epochs/tiny-000002.safetensors",
    ]
    for event in checkpoints:
        assert (out / event.path).stat().st_size == event.size
    for event in events(reporter, ResumePoint):
        assert event.path.startswith("resume/step-")


def test_samples_come_before_training_and_with_each_epoch(
    plain_run: tuple[TrainJob, NullReporter, Path],
) -> None:
    job, reporter, out = plain_run
    samples = events(reporter, Sample)
    assert [(s.epoch, s.prompt_index, s.baseline) for s in samples] == [
        (0, 0, True), (0, 1, True), (1, 0, False), (1, 1, False), (2, 0, False), (2, 1, False),
    ]  # fmt: skip
    assert {s.seed for s in samples} == {prompt.seed for prompt in job.sample_prompts}
    for sample in samples:
        with Image.open(out / sample.path) as picture:
            assert picture.size == (sample.width, sample.height) == (64, 64)
    first, last = (out / sample.path for sample in (samples[0], samples[-2]))
    assert first.read_bytes() != last.read_bytes()


def test_samples_say_what_they_were_made_with(plain_run: tuple[TrainJob, NullReporter, Path]) -> None:
    job, reporter, out = plain_run
    pictures = {(s.epoch, s.prompt_index): out / s.path for s in events(reporter, Sample)}

    def told(epoch: int) -> Infotext:
        with Image.open(pictures[epoch, 0]) as picture:
            return read(find_text(picture) or "")

    assert told(0).prompt == job.sample_prompts[0].prompt
    assert told(0).loras == []
    hashes = [event.tensor_sha256[:12] for event in events(reporter, Checkpoint)]
    assert told(1).prompt == f"{job.sample_prompts[0].prompt} <lora:tiny-000001:1>"
    assert told(1).loras == [UsedLora("tiny-000001", 1.0, hashes[0])]
    assert told(2).loras == [UsedLora("tiny-000002", 1.0, hashes[1])]
    defaults = catalog.specs()["starter"].generation
    assert (told(1).seed, told(1).size, told(1).model) == (1, (64, 64), "tiny")
    assert (told(1).steps, told(1).sampler) == (defaults.steps, defaults.sampler)


def test_phases_are_told_in_order(plain_run: tuple[TrainJob, NullReporter, Path]) -> None:
    _, reporter, _ = plain_run
    phases = [event.phase for event in events(reporter, Progress)]
    changes = [phase for phase, before in zip(phases, [None, *phases], strict=False) if phase != before]
    assert changes == [
        "preparing", "caching", "sampling",
        "training", "sampling", "saving", "training", "sampling", "saving",
    ]  # fmt: skip
    assert events(reporter, Progress)[0].eta_seconds is None
    steps = events(reporter, Metric)
    assert [metric.step for metric in steps] == [1, 2, 3, 4]


def test_the_same_job_gives_the_same_bits_with_and_without_samples(run_tiny: Run, tmp_path: Path) -> None:
    run_tiny(out=tmp_path / "one")
    run_tiny(out=tmp_path / "two", prompts=1)
    assert equal(adapter_of(tmp_path / "one"), adapter_of(tmp_path / "two"))


def test_a_rate_that_teaches_nothing_is_no_success(run_tiny: Run) -> None:
    finished, _, _ = run_tiny(unet_lr=1e-12)
    assert finished.outcome == "failed"
    assert finished.code == "adapter-empty"
    assert finished.detail is not None
    assert finished.detail.startswith("It learned nothing")


def test_numbers_out_of_range_stop_the_run_and_keep_what_was_saved(run_tiny: Run, tmp_path: Path) -> None:
    finished, reporter, out = run_tiny(
        unet_lr=1e30, epochs=12, batch_size=4, lr_scheduler="linear", lr_warmup=0.0, optimizer="adafactor"
    )
    assert (finished.outcome, finished.code) == ("failed", "training-diverged")
    kept = events(reporter, Checkpoint)
    for event in kept:
        assert (out / event.path).exists()
    assert len(kept) < 12
    assert "lower learning rate" in (finished.detail or "")


def test_cancel_ends_at_once_and_pause_leaves_a_resume_point(run_tiny: Run, tmp_path: Path) -> None:
    finished, reporter, _ = run_tiny(out=tmp_path / "one", commands=["cancel"])
    assert finished.outcome == "canceled"
    assert not events(reporter, ResumePoint)
    whole, _, _ = run_tiny(out=tmp_path / "whole")
    paused, reporter, out = run_tiny(out=tmp_path / "two", commands=[None] * 6 + ["pause"])
    assert (whole.outcome, paused.outcome) == ("succeeded", "paused")
    assert 0 < events(reporter, ResumePoint)[-1].step < 4
    resumed, _, _ = run_tiny(out=out)
    assert resumed.outcome == "succeeded"
    assert equal(adapter_of(tmp_path / "whole"), adapter_of(out))


def test_samples_and_files_on_demand(run_tiny: Run) -> None:
    finished, reporter, out = run_tiny(
        prompts=1, commands=[None] * 12 + ["sample", "save"], epochs=1, repeats=4
    )
    assert finished.outcome == "succeeded"
    extra = [event for event in events(reporter, Checkpoint) if "step" in event.path]
    assert len(extra) == 1
    assert (out / extra[0].path).exists()
    assert any("/step" in sample.path for sample in events(reporter, Sample))


def test_a_broken_picture_is_named(base: Path, tmp_path: Path) -> None:
    pictures = tiny_pictures(tmp_path / "pictures", 2)
    job = tiny_job(pictures)
    files = tiny_files(base, pictures)
    pictures[1].write_bytes(pictures[1].read_bytes()[:60])
    finished = train(job, catalog.load("starter"), files, tmp_path / "out", NullReporter())
    assert (finished.outcome, finished.code) == ("failed", "image-unreadable")
    assert "001.png" in (finished.detail or "")


def test_a_base_that_is_no_checkpoint_is_refused_with_words(pictures: list[Path], tmp_path: Path) -> None:
    single = tmp_path / "model.safetensors"
    single.write_bytes(b"nothing")
    for family, words in (("starter", "model_index.json"), ("sd1", "Upload it again")):
        files = tiny_files(single, pictures)
        finished = train(tiny_job(pictures), catalog.load(family), files, tmp_path / "out", NullReporter())
        assert (finished.outcome, finished.code) == ("failed", "base-model-unusable")
        assert words in (finished.detail or "")


def test_a_full_disk_is_seen_before_writing(run_tiny: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.training.checkpoint.SPARE_BYTES", 2**60)
    finished, _, out = run_tiny()
    assert (finished.outcome, finished.code) == ("failed", "disk-full")
    assert not list(out.rglob("*.safetensors"))


def test_small_pictures_and_long_labels_are_told(base: Path, tmp_path: Path) -> None:
    pictures = tiny_pictures(tmp_path / "pictures", 2, ((40, 40), (64, 64)))
    job = tiny_job(pictures)
    long = job.items[1].model_copy(update={"label": "abcdefg, " * 30})
    job = job.model_copy(update={"items": (job.items[0], long)})
    reporter = NullReporter()
    train(job, catalog.load("starter"), tiny_files(base, pictures), tmp_path / "out", reporter)
    warnings = [event.message for event in events(reporter, LogLine) if event.level == "warning"]
    assert len(warnings) == 2
    assert "000.png" in warnings[0]
    assert "75 tokens" in warnings[1]


def test_training_goes_on_from_an_earlier_lora(
    run_tiny: Run, base: Path, pictures: list[Path], tmp_path: Path
) -> None:
    _, reporter, out = run_tiny(out=tmp_path / "first")
    path = out / events(reporter, Checkpoint)[-1].path
    from tests.worker.tiny import blob

    job = tiny_job(pictures, continue_from=blob(path), unet_lr=1e-7)
    files = tiny_files(base, pictures) | {blob(path).sha256: path}
    finished = train(job, catalog.load("starter"), files, tmp_path / "second", NullReporter())
    assert finished.outcome == "succeeded"
    before, after = adapter_of(tmp_path / "first"), adapter_of(tmp_path / "second")
    assert all((before[name] - after[name]).abs().max() < 1e-5 for name in before)

    rounded = tmp_path / "rounded.safetensors"  # as a run in bf16 would have written it
    halves = {name: tensor.half() for name, tensor in load_file(path).items()}
    save_file(halves | {n: t * 1.0004 for n, t in halves.items() if n.endswith("alpha")}, rounded)
    job = tiny_job(pictures, continue_from=blob(rounded))
    with_rounded = files | {blob(rounded).sha256: rounded}
    finished = train(job, catalog.load("starter"), with_rounded, tmp_path / "again", NullReporter())
    assert finished.outcome == "succeeded"

    other = tiny_job(pictures, continue_from=blob(path), network_dim=2)
    finished = train(other, catalog.load("starter"), files, tmp_path / "third", NullReporter())
    assert (finished.outcome, finished.code) == ("failed", "lora-base-mismatch")


def test_recommended_is_the_lowest_saved_loss_ties_to_the_earlier() -> None:
    def record(epoch: int, measured: float | None, saved: bool = True) -> EpochRecord:
        return EpochRecord(epoch, epoch, 1.0, measured, saved)

    history = [record(1, 0.5), record(2, 0.2), record(3, 0.1, saved=False), record(4, 0.2)]
    assert recommended(history) == (2, "validation")
    assert recommended([record(1, None), record(2, None)]) == (2, "last")


def test_an_overfitting_run_recommends_an_epoch_before_the_last(base: Path, tmp_path: Path) -> None:
    pictures = tiny_pictures(tmp_path / "pictures", 8)
    job = tiny_job(
        pictures, unet_lr=0.05, epochs=6, repeats=4, batch_size=8, network_dim=16, network_alpha=16.0,
        lr_scheduler="constant", caption_dropout=0.0,
    )  # fmt: skip
    reporter = NullReporter()
    finished = train(job, catalog.load("starter"), tiny_files(base, pictures), tmp_path / "out", reporter)
    assert finished.outcome == "succeeded"
    losses = [event.validation_loss for event in events(reporter, Checkpoint)]
    assert finished.recommended_reason == "validation"
    assert finished.recommended_epoch == losses.index(min(losses)) + 1
    assert finished.recommended_epoch < 6
    assert any("Kept out" in event.message for event in events(reporter, LogLine))
