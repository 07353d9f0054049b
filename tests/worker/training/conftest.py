"""A tiny checkpoint and a few pictures, made once for all tests of the trainer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from app.contract.events import Finished
from app.contract.jobs import TrainJob
from tests.worker.tiny import tiny_base, tiny_files, tiny_job, tiny_pictures
from worker.families import catalog
from worker.reporter import NullReporter
from worker.training.recipe import train

Trained = tuple[Finished, NullReporter, Path]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four pictures, two of them wide."""
    return tiny_pictures(tmp_path_factory.mktemp("pictures"), 4, ((64, 64), (120, 60)))


@pytest.fixture
def run_tiny(base: Path, pictures: list[Path], tmp_path: Path) -> Callable[..., Trained]:
    """Train `tiny_job` with changes; `out`, `commands`, `job` and options of `train` by name."""

    def run(
        *, out: Path | None = None, commands: list[Any] | None = None, job: TrainJob | None = None,
        options: dict[str, Any] | None = None, **changes: Any,
    ) -> Trained:  # fmt: skip
        job = job or tiny_job(pictures, **changes)
        reporter = NullReporter(commands)
        folder = out or tmp_path / "out"
        files = tiny_files(base, pictures)
        finished = train(job, catalog.load("starter"), files, folder, reporter, **(options or {}))
        return finished, reporter, folder

    return run


@pytest.fixture(scope="session")
def plain_run(
    base: Path, pictures: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainJob, NullReporter, Path]:
    """One ordinary run with samples, text encoder and convolutions, for tests that only look."""
    out = tmp_path_factory.mktemp("plain")
    job = tiny_job(
        pictures,
        prompts=2,
        text_encoder_lr=1e-3,
        conv_dim=2,
        conv_alpha=1.0,
        trigger_word="brushwork",
        epochs=2,
    )
    reporter = NullReporter()
    train(job, catalog.load("starter"), tiny_files(base, pictures), out, reporter)
    return job, reporter, out


def adapter_of(out: Path, epoch: int = 2) -> dict[str, Tensor]:
    return load_file(out / "epochs" / f"tiny-{epoch:06d}.safetensors")


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """The same names and the same bits."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def merged_deltas(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """alpha / rank · up · down of every module of a file, by the file's name for it, in float64.

    Written from the formats' descriptions alone, without any code of the product. A file of lora_A and
    lora_B has no alphas.
    """
    deltas = {}
    first, second = (
        ("lora_A", "lora_B") if any(".lora_A." in name for name in tensors) else ("lora_down", "lora_up")
    )
    for name in tensors:
        if not name.endswith(f".{first}.weight"):
            continue
        stem = name.removesuffix(f".{first}.weight")
        down, up = tensors[name].double(), tensors[f"{stem}.{second}.weight"].double()
        scale = float(tensors[f"{stem}.alpha"]) / down.shape[0] if first == "lora_down" else 1.0
        product = up.reshape(up.shape[0], -1) @ down.reshape(down.shape[0], -1)
        deltas[stem] = scale * product.reshape(up.shape[0], *down.shape[1:])
    return deltas


def pipeline_deltas(before: dict[str, Tensor], after: dict[str, Tensor]) -> dict[str, Tensor]:
    """What changed in a pipeline's weights, by kohya's name, in float64."""
    deltas = {}
    for name, weight in after.items():
        delta = weight.double() - before[name].double()
        if delta.any():
            part, _, path = name.removesuffix(".weight").partition(".")
            prefix = "lora_unet_" if part == "model" else "lora_te_text_model_"
            deltas[prefix + path.replace(".", "_")] = delta
    return deltas
