"""The real child with a tiny checkpoint: a training and pictures through the whole queue, side by side."""

import hashlib
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.contract.jobs import BlobRef, CheckpointRef, GenerateJob
from app.core.db import unit_of_work
from app.core.storage import get_storage
from app.jobs.models import JobMetric
from tests.jobs.conftest import Start, Yard
from tests.worker.tiny import tiny_base, tiny_job, tiny_pictures

REAL = (sys.executable, "-m", "worker.child")


@pytest.fixture
def base(yard: Yard, tmp_path: Path) -> CheckpointRef:
    """The tiny checkpoint, zipped, in the storage."""
    import shutil

    folder = tiny_base(tmp_path / "tiny")
    content = Path(shutil.make_archive(str(tmp_path / "tiny"), "zip", folder)).read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    get_storage().put(f"blobs/{sha256}", content)
    file = BlobRef(sha256=sha256, size=len(content), name="tiny.zip")
    return CheckpointRef(file=file, format="Diffusers", family="starter", name="Tiny", base_model="Starter 1")


def training(base: CheckpointRef, tmp_path: Path, **changes: Any) -> dict[str, Any]:
    pictures = tiny_pictures(tmp_path / "pictures", 4)
    for path in pictures:
        content = path.read_bytes()
        get_storage().put(f"blobs/{hashlib.sha256(content).hexdigest()}", content)
    return tiny_job(pictures, base=base, threads=1, **changes).model_dump(mode="json")


def drawing(base: CheckpointRef) -> dict[str, Any]:
    job = GenerateJob(
        base=base, prompt="a red house", sampler="Euler a", steps=3, cfg_scale=5, width=64, height=64,
        seeds=(1, 2), threads=1,
    )  # fmt: skip
    return job.model_dump(mode="json")


def test_pictures_are_drawn_while_a_training_runs(
    yard: Yard, start: Start, base: CheckpointRef, tmp_path: Path
) -> None:
    train = yard.put("training", "train", training(base, tmp_path, epochs=5000, save_every_epochs=5000))
    start("train", "generate", child_command=REAL)
    yard.until_step(train, 3)
    drawn = yard.put("generation", "generate", drawing(base))
    job = yard.until_state(drawn, "succeeded", "failed")
    assert (job.status, job.error) == ("succeeded", None)
    assert yard.effects(drawn) == ["picture 0", "picture 1", "complete"]
    assert yard.job(train).status == "running"
    yard.steer("pause", train)
    paused = yard.until_state(train, "paused", "failed")
    assert (paused.status, paused.error) == ("paused", None)
    assert paused.resume_step
    assert paused.resume_sha256 is not None
    with unit_of_work() as db:
        before = max(db.scalars(select(JobMetric.step)))
    yard.steer("resume", train)
    yard.until_step(train, before + 2)
    yard.steer("cancel", train)
    assert yard.until_state(train, "canceled", "failed").status == "canceled"


def test_a_training_ends_with_its_files(
    yard: Yard, start: Start, base: CheckpointRef, tmp_path: Path
) -> None:
    train = yard.put("training", "train", training(base, tmp_path, epochs=2, prompts=1))
    start("train", child_command=REAL)
    job = yard.until_state(train, "succeeded", "failed")
    assert (job.status, job.error) == ("succeeded", None)
    assert {"checkpoint 1", "checkpoint 2", "complete"} <= set(yard.effects(train))
    assert any(what.startswith("sample") for what in yard.effects(train))
    assert job.metrics["peak_vram_bytes"] > 0
    assert job.metrics["loss"] > 0
