"""Memory that runs out while drawing: once more with less, then words. And models that are given back."""

from pathlib import Path
from typing import Any

import pytest
import torch

from app.contract.events import Finished, LogLine, Picture
from app.contract.jobs import CheckpointRef
from tests.worker.inference.small import checkpoint, job
from worker.inference.generate import run_generate
from worker.inference.pool import PipelinePool, load_pipeline
from worker.inference.sparing import TILE, sparing
from worker.keeping import Keeping, pool_budget
from worker.reporter import NullReporter
from worker.room import Room

A, B = checkpoint("aa"), checkpoint("bb")
CPU = torch.device("cpu")


def full() -> torch.OutOfMemoryError:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


class Loads:
    """The real loader; its pipelines decode only while `decodes` says so, and it loads while `loads` does."""

    def __init__(self, decodes: Any = lambda vae: True, loads: Any = lambda count: True) -> None:
        self.count, self.refused = 0, 0
        self._decodes, self._loads = decodes, loads

    def _check(self, may: bool) -> None:
        if not may:
            self.refused += 1
            raise full()

    def __call__(self, base: CheckpointRef, path: Path, dtype: torch.dtype) -> Any:
        self.count += 1
        self._check(self._loads(self.count))
        pipe = load_pipeline(base, path, dtype)
        decode = pipe.vae.decode

        def checked(latents: torch.Tensor) -> Any:
            self._check(self._decodes(pipe.vae))
            return decode(latents)

        pipe.vae.decode = checked
        return pipe


def draw(pool: PipelinePool, base_folder: Path, out: Path) -> tuple[Finished, list[Any]]:
    reporter = NullReporter()
    finished = run_generate(job(), {"ab" * 32: base_folder}, out, reporter, pool)
    return finished, reporter.events


def test_a_full_memory_is_met_by_unloading_and_tiles(base_folder: Path, tmp_path: Path) -> None:
    loads = Loads(decodes=lambda vae: vae.use_tiling)
    pool = PipelinePool(1 << 40, load=loads)
    finished, events = draw(pool, base_folder, tmp_path)
    assert (finished.outcome, finished.memory_retries) == ("succeeded", 1)
    assert (loads.count, loads.refused) == (2, 1)
    assert [event.index for event in events if isinstance(event, Picture)] == [0, 1]
    assert "The memory was full." in next(e.message for e in events if isinstance(e, LogLine))
    assert not pool.get(checkpoint(), base_folder).pipe.vae.use_tiling, "the next job draws as ever"


def test_pictures_that_were_done_are_told_once(base_folder: Path, tmp_path: Path) -> None:
    calls: list[int] = []

    def once_at_the_second(vae: Any) -> bool:
        calls.append(1)
        return len(calls) != 2

    finished, events = draw(PipelinePool(1 << 40, load=Loads(once_at_the_second)), base_folder, tmp_path)
    assert (finished.outcome, finished.memory_retries) == ("succeeded", 1)
    assert [event.index for event in events if isinstance(event, Picture)] == [0, 1]


def test_the_second_time_words_say_what_to_do(base_folder: Path, tmp_path: Path) -> None:
    loads = Loads(decodes=lambda vae: False)
    pool = PipelinePool(1 << 40, load=loads)
    finished, _ = draw(pool, base_folder, tmp_path)
    assert (finished.outcome, finished.code, loads.refused) == ("failed", "out-of-memory", 2)
    assert "Choose a smaller size." in (finished.detail or "")
    assert pool.warm == []


def test_tiles_are_half_a_kilopixel_at_most(pipe: Any) -> None:
    before = (pipe.vae.use_tiling, pipe.vae.tile_latent_min_size, pipe.vae.tile_sample_min_size)
    with sparing(pipe):
        assert pipe.vae.use_tiling
        assert pipe.vae.tile_latent_min_size <= TILE
        assert pipe.vae.tile_sample_min_size == 4 * pipe.vae.tile_latent_min_size
    assert (pipe.vae.use_tiling, pipe.vae.tile_latent_min_size, pipe.vae.tile_sample_min_size) == before


def test_a_pipeline_that_does_not_fit_beside_others_gets_their_room(base_folder: Path) -> None:
    loads = Loads(loads=lambda count: count != 2)
    pool = PipelinePool(1 << 40, load=loads)
    pool.get(A, base_folder)
    pool.get(B, base_folder)
    assert (pool.warm, loads.count) == ([B.file.sha256], 3)


def test_one_that_fits_nowhere_is_not_tried_for_ever(base_folder: Path) -> None:
    loads = Loads(loads=lambda count: False)
    with pytest.raises(torch.OutOfMemoryError):
        PipelinePool(1 << 40, load=loads).get(A, base_folder)
    assert loads.count == 1


def test_the_pool_s_budget_is_a_share_of_what_is_free() -> None:
    assert 0 < pool_budget(CPU, 0.25) < pool_budget(CPU, 0.75)


def test_models_are_unloaded_when_a_training_asks(base_folder: Path, tmp_path: Path) -> None:
    keeping, training = Keeping(tmp_path, "cpu", PipelinePool(1 << 40)), Room(tmp_path, "cpu")
    with keeping.at_work() as pool:
        pool.get(A, base_folder)
    assert pool.warm == [A.file.sha256], "nobody asks, so they stay"
    assert training.ask(patience=60.0)
    assert pool.warm == []
    with keeping.at_work():
        pool.get(A, base_folder)
        assert pool.warm
    assert pool.warm == [], "while the training runs, a job leaves nothing behind"
    training.close()
