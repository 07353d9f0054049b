"""Weights of a file stay in it until they are touched, and a converted file is not held twice."""

from pathlib import Path

import pytest
import torch

from tests.worker.families.single import Small, small
from worker.families.checkpoints import open_checkpoint


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return small("sdxl", tmp_path_factory.mktemp("sdxl"))


def is_mapped(path: Path) -> bool:
    """Whether this process still looks into the file."""
    return any(line.rstrip().endswith(path.name) for line in Path("/proc/self/maps").read_text().splitlines())


def test_weights_of_the_file_s_own_precision_are_mapped(sdxl: Small) -> None:
    model = open_checkpoint(sdxl.path, sdxl.layout).model("unet", torch.float32)
    assert is_mapped(sdxl.path)
    assert next(model.parameters()).dtype == torch.float32
    del model
    assert not is_mapped(sdxl.path)


def test_converted_weights_leave_nothing_of_the_file_in_memory(sdxl: Small) -> None:
    model = open_checkpoint(sdxl.path, sdxl.layout).model("unet", torch.bfloat16)
    assert next(model.parameters()).dtype == torch.bfloat16
    assert not is_mapped(sdxl.path)
