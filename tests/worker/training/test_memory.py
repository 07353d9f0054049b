"""Memory that runs out in the middle of a run: once it begins again with less, then it says what to do."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from app.contract.events import Checkpoint, Finished, LogLine, Sample
from app.contract.jobs import TrainJob
from tests.worker.tiny import tiny_files, tiny_job
from tests.worker.training.conftest import adapter_of, equal
from worker.families import catalog
from worker.reporter import NullReporter
from worker.training.again import difference
from worker.training.recipe import train


@dataclass
class Full:
    """A family on a card that is full: where a field says so, it raises as the allocator does."""

    breaks: Callable[[Any, Any], bool] = lambda parts, batch: False
    encodes: Callable[[Any], bool] = lambda parts: False
    draws: Callable[[Any], bool] = lambda pipe: False
    family: Any = field(default_factory=lambda: catalog.load("starter"))
    raised: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.family, name)

    def _check(self, full: bool) -> None:
        if full:
            self.raised += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def loss(self, parts: Any, batch: Any, rng: Any) -> Any:
        self._check(torch.is_grad_enabled() and self.breaks(parts, batch))
        return self.family.loss(parts, batch, rng)

    def encode_images(self, parts: Any, pixels: Any) -> Any:
        self._check(self.encodes(parts))
        return self.family.encode_images(parts, pixels)

    def assemble(self, parts: Any) -> Any:
        pipe = self.family.assemble(parts)
        decode = pipe.vae.decode

        def checked(latents: Any) -> Any:
            self._check(self.draws(pipe))
            return decode(latents)

        pipe.vae.decode = checked
        return pipe


def checkpointed(parts: Any) -> bool:
    return bool(parts.model.is_gradient_checkpointing)


def at_step(number: int, full: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """Full from the given call on."""
    calls: list[int] = []

    def breaks(parts: Any, batch: Any) -> bool:
        calls.append(1)
        return len(calls) >= number and full(parts, batch)

    return breaks


Trained = tuple[Finished, list[Any], Path]


@pytest.fixture
def run(base: Path, pictures: list[Path], tmp_path: Path) -> Callable[..., Trained]:
    def run(family: Any, *, out: str = "out", job: TrainJob | None = None, **changes: Any) -> Trained:
        job = job or tiny_job(pictures, **changes)
        reporter = NullReporter()
        finished = train(job, family, tiny_files(base, pictures), tmp_path / out, reporter)
        return finished, reporter.events, tmp_path / out

    return run


def told(events: list[Any]) -> list[str]:
    return [event.message for event in events if isinstance(event, LogLine) and event.level == "warning"]


def test_a_full_card_is_trained_on_with_gradient_checkpointing(run: Callable[..., Trained]) -> None:
    full = Full(at_step(3, lambda parts, _: not checkpointed(parts)))
    finished, events, out = run(full)
    assert (finished.outcome, finished.memory_retries, full.raised) == ("succeeded", 1, 1)
    assert "with less: gradient checkpointing on." in told(events)[0]
    assert "Goes on from step 2." in [event.message for event in events if isinstance(event, LogLine)]
    with safe_open(out / "epochs" / "tiny-000002.safetensors", framework="pt") as file:
        assert file.metadata()["ss_gradient_checkpointing"] == "True"
    assert [event.epoch for event in events if isinstance(event, Checkpoint)] == [1, 2]


def test_what_was_learnt_does_not_depend_on_the_remedy(run: Callable[..., Trained]) -> None:
    """Recomputing gives the same bits on a CPU, so the adapter is the one of an undisturbed run."""
    _, _, out = run(Full(at_step(2, lambda parts, _: not checkpointed(parts))))
    _, _, plain = run(Full(), out="plain")
    assert equal(adapter_of(out), adapter_of(plain))


def test_with_checkpointing_on_the_batch_is_halved_and_made_up_for(run: Callable[..., Trained]) -> None:
    full = Full(lambda _, batch: len(batch.mean) > 1)
    finished, events, _ = run(full, gradient_checkpointing=True)
    assert (finished.outcome, finished.steps) == ("succeeded", 4)
    assert "batch size 1 and gradient accumulation 2" in told(events)[0]


def test_the_second_time_it_ends_with_words(run: Callable[..., Trained]) -> None:
    full = Full(lambda *_: True)
    finished, events, _ = run(full)
    assert (finished.outcome, finished.code) == ("failed", "out-of-memory")
    assert (full.raised, finished.memory_retries) == (2, 1)
    assert "The memory was full while training" in (finished.detail or "")
    assert events[-1] == finished


def test_where_nothing_is_left_to_save_on_it_ends_at_once(run: Callable[..., Trained]) -> None:
    full = Full(lambda *_: True)
    finished, _, _ = run(full, gradient_checkpointing=True, batch_size=1)
    assert (finished.code, full.raised, finished.memory_retries) == ("out-of-memory", 1, 0)


def test_samples_that_do_not_fit_are_drawn_in_tiles(run: Callable[..., Trained]) -> None:
    full = Full(draws=lambda pipe: not pipe.vae.use_tiling)
    finished, events, out = run(full, prompts=1, epochs=1)
    assert (finished.outcome, full.raised) == ("succeeded", 1)
    assert "samples are drawn in tiles" in told(events)[0]
    assert len([event for event in events if isinstance(event, Sample)]) == 2
    _, _, plain = run(Full(), out="plain", epochs=1)
    assert equal(adapter_of(out, 1), adapter_of(plain, 1))


def test_a_set_that_does_not_fit_is_encoded_without_the_text_encoder_beside(
    run: Callable[..., Trained],
) -> None:
    full = Full(encodes=lambda parts: full.raised == 0)
    finished, events, _ = run(full)
    assert (finished.outcome, full.raised) == ("succeeded", 1)
    assert "The memory was full while caching" in told(events)[0]
    assert "the text encoder waits outside" in told(events)[0]


def test_a_run_that_was_lowered_and_paused_goes_on_lowered(
    base: Path, pictures: list[Path], tmp_path: Path
) -> None:
    job, files, out = tiny_job(pictures, epochs=3), tiny_files(base, pictures), tmp_path / "out"
    full = Full(lambda _, batch: len(batch.mean) > 1)
    job = job.model_copy(update={"params": job.params.model_copy(update={"gradient_checkpointing": True})})
    paused = train(job, full, files, out, NullReporter([None] * 16 + ["pause"]))
    assert (paused.outcome, full.raised) == ("paused", 1)
    reporter = NullReporter()
    finished = train(job, full, files, out, reporter)
    assert (finished.outcome, full.raised, finished.memory_retries) == ("succeeded", 1, 0)
    whole = train(job, Full(lambda _, batch: len(batch.mean) > 1), files, tmp_path / "whole", NullReporter())
    assert whole.outcome == "succeeded"
    assert equal(adapter_of(out, 3), adapter_of(tmp_path / "whole", 3))


def test_other_errors_are_no_reason_to_begin_again(run: Callable[..., Trained]) -> None:
    @dataclass
    class Broken(Full):
        def loss(self, parts: Any, batch: Any, rng: Any) -> Any:
            self.raised += 1
            raise RuntimeError("a defect of this program")

    broken = Broken()
    with pytest.raises(RuntimeError, match="a defect"):
        run(broken)
    assert broken.raised == 1


def test_only_what_differs_is_kept(pictures: list[Path]) -> None:
    job = tiny_job(pictures)
    assert difference(job, job) == {}
    assert difference(job, job.model_copy(update={"sparing": True})) == {"sparing": True}


def test_a_run_whose_process_was_killed_for_memory_begins_with_less(
    base: Path, pictures: list[Path], tmp_path: Path
) -> None:
    job, files, reporter = tiny_job(pictures), tiny_files(base, pictures), NullReporter()
    full = Full(lambda parts, _: not checkpointed(parts))
    finished = train(job, full, files, tmp_path / "out", reporter, full_while="training")
    assert (finished.outcome, full.raised, finished.memory_retries) == ("succeeded", 0, 1)
    assert "gradient checkpointing on" in told(reporter.events)[0]
