"""Diffusers folders as people have them: in a folder of the zip, fp16 only, with pickles, of another kind."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.worker.tiny import tiny_base
from worker.families import catalog
from worker.families.base import CheckpointRefused

CPU = torch.device("cpu")


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture(params=["sd1", "sdxl"])
def family(request: pytest.FixtureRequest) -> Any:
    return catalog.load(request.param)


@pytest.fixture
def base(family: Any, tmp_path: Path) -> Path:
    return tiny_base(tmp_path / "base", family.spec.name)


def weights_of(base: Path) -> list[Path]:
    return sorted(base.glob("*/*.safetensors"))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_only_folder_of_a_zip_is_looked_into(family: Any, base: Path, tmp_path: Path) -> None:
    outer = tmp_path / "unpacked"
    shutil.copytree(base, outer / "my-model")
    assert family.load(outer, CPU, torch.float32).model.config.in_channels == 6


def test_fp16_files_are_taken_where_there_are_no_others(family: Any, base: Path) -> None:
    for path in weights_of(base):
        halves = {name: tensor.half() for name, tensor in load_file(path).items()}
        save_file(halves, path.with_suffix(".fp16.safetensors"), {"format": "pt"})
        path.unlink()
    parts = family.load(base, CPU, torch.bfloat16)
    assert parts.model.dtype == torch.bfloat16
    assert parts.vae.dtype == torch.float32


def test_pickles_are_never_opened(family: Any, base: Path) -> None:
    unet = base / "unet"
    (weights,) = unet.glob("*.safetensors")
    (unet / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Trap(base / "sprung")))
    weights.unlink()
    with pytest.raises(CheckpointRefused, match=r"part unet .* must be \.safetensors"):
        family.load(base, CPU, torch.float32)
    assert not (base / "sprung").exists()


def test_what_is_missing_is_named(family: Any, base: Path) -> None:
    shutil.rmtree(base / "scheduler")
    with pytest.raises(CheckpointRefused, match="lacks scheduler"):
        family.load(base, CPU, torch.float32)
    (base / "model_index.json").unlink()
    with pytest.raises(CheckpointRefused, match="not a diffusers folder"):
        family.load(base, CPU, torch.float32)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cross_attention_dim": 1024}, "Stable Diffusion 2"),
        ({"cross_attention_dim": 1280}, "refiner"),
        ({"in_channels": 15}, "inpainting"),
    ],
)
def test_other_kinds_are_refused_before_anything_is_loaded(
    family: Any, base: Path, changes: dict[str, int], words: str
) -> None:
    edit(base / "unet" / "config.json", **changes)
    for weights in weights_of(base):
        weights.unlink()
    with pytest.raises(CheckpointRefused, match=words):
        family.load(base, CPU, torch.float32)
    with pytest.raises(CheckpointRefused, match=words):
        family.pipeline(base, torch.float32)


def test_the_scheduler_s_folder_says_what_is_predicted(family: Any, base: Path) -> None:
    edit(
        base / "scheduler" / "scheduler_config.json",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
    )
    parts = family.load(base, CPU, torch.float32)
    assert family.prediction_type(parts) == "v_prediction"
    assert float(parts.scheduler.alphas_cumprod[-1]) == 0.0
    config = family.pipeline(base, torch.float32).scheduler.config
    assert (config.prediction_type, config.rescale_betas_zero_snr) == ("v_prediction", True)
