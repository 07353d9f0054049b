"""A small checkpoint in one file through the trainer and the generator, marks and a chosen VAE included."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, PngImagePlugin
from safetensors import safe_open
from safetensors.torch import save_file

from app.contract.events import Checkpoint, Finished, LogLine, Picture
from app.contract.jobs import BlobRef, CheckpointRef, GenerateJob, LoraRef, TrainJob
from tests.worker.families.single import SINGLE_FILE_FAMILIES, Small, small, write_single_file
from tests.worker.tiny import blob, tiny_job, tiny_pictures
from worker.families import catalog
from worker.inference.generate import run_generate
from worker.inference.pool import PipelinePool
from worker.reporter import NullReporter
from worker.training.recipe import train

CPU = torch.device("cpu")


@pytest.fixture(params=SINGLE_FILE_FAMILIES)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Small:
    """A v-prediction checkpoint without signal at the last step, without a VAE, with something foreign."""
    found = small(request.param, tmp_path)
    more = {name: torch.zeros(()) for name in ("v_pred", "ztsnr", "somebody.elses.tensor")}
    path = tmp_path / "bare.safetensors"
    write_single_file(path, found.layout, found.models, more=more, leave_out="first_stage_model.")
    return Small(found.family, found.layout, found.models, path)


def checkpoint(made: Small, vae: Path) -> CheckpointRef:
    spec = made.family.spec
    return CheckpointRef(
        file=blob(made.path), format="SafeTensor", family=spec.name, name="bare", base_model=spec.base_model,
        vae=blob(vae),
    )  # fmt: skip


def trained(made: Small, vae: Path, folder: Path) -> tuple[TrainJob, list[Any], Finished]:
    pictures = tiny_pictures(folder / "pictures", 2)
    job = tiny_job(pictures, epochs=1, base=checkpoint(made, vae), min_snr_gamma=0.0)
    files = {blob(path).sha256: path for path in (*pictures, made.path, vae)}
    reporter = NullReporter()
    finished = train(job, made.family, files, folder / "out", reporter)
    return job, reporter.events, finished


def test_train_and_draw(made: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vae = tmp_path / "vae.safetensors"
    save_file(made.models["vae"].state_dict(), vae)
    job, events, finished = trained(made, vae, tmp_path)
    assert finished.outcome == "succeeded", finished.detail
    warnings = [event.message for event in events if isinstance(event, LogLine) and event.level == "warning"]
    assert any("somebody.elses.tensor" in message for message in warnings)
    (exported,) = [event for event in events if isinstance(event, Checkpoint)]
    path = tmp_path / "out" / exported.path
    with safe_open(path, framework="pt") as opened:
        said = opened.metadata()
    assert (said["modelspec.prediction_type"], said["ss_zero_terminal_snr"]) == ("v", "True")
    assert said["ss_base_model_version"] == made.family.spec.ss_base_model_version

    monkeypatch.setattr(catalog, "load", lambda name: made.family)
    pool = PipelinePool(1 << 30)
    lora = LoraRef(file=blob(path), name="mine", strength=1.0, base_model=job.base.base_model)
    pictures = []
    for loras in ((), (lora,), ()):
        reporter = NullReporter()
        drawing = GenerateJob(
            base=job.base, loras=loras, prompt="a (red:1.2) house", sampler="Euler a", steps=2, cfg_scale=5,
            width=16, height=16, seeds=(3,), threads=1,
        )  # fmt: skip
        files = {blob(file).sha256: file for file in (path, made.path, vae)}
        ended = run_generate(drawing, files, tmp_path / "drawn", reporter, pool)
        assert ended.outcome == "succeeded", ended.detail
        (picture,) = [event for event in reporter.events if isinstance(event, Picture)]
        pictures.append(read(tmp_path / "drawn" / picture.path))
    assert pictures[0] == pictures[2]
    assert pool.warm == [f"{job.base.file.sha256}+{blob(vae).sha256}"]


def read(path: Path) -> bytes:
    with Image.open(path) as opened:
        assert isinstance(opened, PngImagePlugin.PngImageFile)
        return opened.convert("RGB").tobytes()


def test_without_a_vae_the_words_say_what_to_do(made: Small, tmp_path: Path) -> None:
    pictures = tiny_pictures(tmp_path / "pictures", 1)
    base = checkpoint(made, made.path).model_copy(update={"vae": None})
    files = {blob(path).sha256: path for path in (*pictures, made.path)}
    finished = train(tiny_job(pictures, base=base), made.family, files, tmp_path / "out", NullReporter())
    assert (finished.outcome, finished.code) == ("failed", "base-model-unusable")
    assert "Choose a VAE" in str(finished.detail)


def test_another_vae_is_another_cache(made: Small, tmp_path: Path) -> None:
    """Latents of one VAE are never used with another."""
    from worker.training.latents import cache_key

    job = tiny_job(tiny_pictures(tmp_path / "pictures", 1), base=checkpoint(made, made.path))
    other = BlobRef(sha256=hashlib.sha256(b"other").hexdigest(), size=1, name="other.safetensors")
    changed = job.model_copy(update={"base": job.base.model_copy(update={"vae": other})})
    assert cache_key(job, []) != cache_key(changed, [])
