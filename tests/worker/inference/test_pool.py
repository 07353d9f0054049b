"""Pipelines stay warm as long as the byte budget allows, the least recently used leaves first."""

from pathlib import Path
from typing import Any

import pytest
import torch

from app.contract.jobs import CheckpointRef
from tests.worker.inference.small import checkpoint, kohya_lora, save_lora
from worker.families.base import CheckpointRefused
from worker.inference.lora_files import LoraUse
from worker.inference.pool import PipelinePool, load_pipeline, model_bytes, weights_bytes

A, B, C = (checkpoint(digits) for digits in ("aa", "bb", "cc"))


class Loads:
    """The real loader, which keeps account of what it loaded."""

    def __init__(self) -> None:
        self.of: list[str] = []

    def __call__(self, base: CheckpointRef, path: Path, dtype: torch.dtype) -> Any:
        self.of.append(base.file.sha256[:2])
        return load_pipeline(base, path, dtype)


@pytest.fixture
def size(base_folder: Path) -> int:
    return weights_bytes(base_folder, torch.float32)


def test_size_from_the_headers_is_the_size_in_memory(pipe: Any, base_folder: Path, size: int) -> None:
    parameters = [p for model in (pipe.unet, pipe.text_encoder, pipe.vae) for p in model.parameters()]
    assert size == sum(4 * parameter.numel() for parameter in parameters)
    assert weights_bytes(base_folder, torch.bfloat16) == size // 2
    assert weights_bytes(base_folder / "unet" / "diffusion_pytorch_model.safetensors", torch.float32) == sum(
        4 * parameter.numel() for parameter in pipe.unet.parameters()
    )


def test_a_warm_pipeline_is_not_loaded_again(base_folder: Path, size: int) -> None:
    loads = Loads()
    pool = PipelinePool(3 * size, load=loads)
    first = pool.get(A, base_folder)
    assert pool.get(A, base_folder) is first
    assert loads.of == ["aa"]
    assert not first.pipe.unet.training
    assert not any(parameter.requires_grad for parameter in first.pipe.unet.parameters())


def test_the_least_recently_used_leaves_first(base_folder: Path, size: int) -> None:
    loads = Loads()
    pool = PipelinePool(int(2.5 * size), load=loads)
    for base in (A, B, A, C, A, B):
        pool.get(base, base_folder)
        assert pool.nbytes <= pool.budget
    assert loads.of == ["aa", "bb", "cc", "bb"]
    assert pool.warm == [A.file.sha256, B.file.sha256]


def test_room_is_made_before_the_next_is_loaded(base_folder: Path, size: int) -> None:
    held: list[int] = []

    def load(base: CheckpointRef, path: Path, dtype: torch.dtype) -> Any:
        held.append(pool.nbytes)
        return load_pipeline(base, path, dtype)

    pool = PipelinePool(int(1.5 * size), load=load)
    pool.get(A, base_folder)
    pool.get(B, base_folder)
    assert held == [0, 0]


def test_one_larger_than_the_budget_is_used_alone(base_folder: Path, size: int) -> None:
    pool = PipelinePool(size // 2)
    pool.get(A, base_folder)
    pool.get(B, base_folder)
    assert pool.warm == [B.file.sha256]


def test_weights_kept_aside_for_loras_count(base_folder: Path, tmp_path: Path, size: int) -> None:
    pool = PipelinePool(3 * size)
    warm = pool.get(A, base_folder)
    before = pool.nbytes
    path = save_lora(tmp_path / "ink.safetensors", kohya_lora(warm.pipe))
    warm.loras.attach([LoraUse(path, "f" * 64, "ink", 1.0, 1.0)])
    assert pool.nbytes - before == warm.loras.kept_bytes > 0


def test_clear_forgets_everything(base_folder: Path) -> None:
    pool = PipelinePool(1 << 40)
    pool.get(A, base_folder)
    pool.clear()
    assert (pool.warm, pool.nbytes) == ([], 0)


def test_dtype_is_the_one_asked_for(base_folder: Path, size: int) -> None:
    pipe = PipelinePool(1 << 40, dtype=torch.bfloat16).get(A, base_folder).pipe
    assert {pipe.unet.dtype, pipe.text_encoder.dtype, pipe.vae.dtype} == {torch.bfloat16}
    assert model_bytes(pipe.unet) < size


def test_a_folder_that_is_no_checkpoint_is_refused_and_leaves_the_pool_as_it_was(
    base_folder: Path, tmp_path: Path
) -> None:
    pool = PipelinePool(1 << 40)
    pool.get(A, base_folder)
    with pytest.raises(CheckpointRefused):
        pool.get(B, tmp_path)
    assert pool.warm == [A.file.sha256]
