"""One thread, one small pipeline and its folder for all tests here. Tests leave both as they were."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.worker.inference.small import kohya_lora, save_lora, small_pipeline
from tests.worker.inference.small_clips import FAMILIES, small_clip_pipeline
from worker.inference.lora_files import LoraSwitch


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def pipe() -> Any:
    return small_pipeline()


@pytest.fixture(scope="session")
def base_folder(pipe: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small pipeline as a diffusers folder."""
    folder = tmp_path_factory.mktemp("checkpoints") / "base"
    pipe.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def clip_pipes() -> dict[str, Any]:
    """The small pipelines of clips by family."""
    return {family: small_clip_pipeline(family) for family in FAMILIES}


@pytest.fixture
def switch(pipe: Any) -> Iterator[LoraSwitch]:
    switch = LoraSwitch(pipe)
    yield switch
    switch.detach()


@pytest.fixture
def ink(pipe: Any, tmp_path: Path) -> Path:
    return save_lora(tmp_path / "ink.safetensors", kohya_lora(pipe))
