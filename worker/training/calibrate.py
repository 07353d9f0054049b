"""How long a step takes on this machine: three timed steps at a family's default settings.

A worker does this in its first idle moment, so that the form can tell a time before the first
training was ever run. Pictures and clips are noise: the time of a step does not depend on what is in
them.
"""

import hashlib
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from app.contract.jobs import BlobRef, CheckpointRef, TrainItem, TrainJob, TrainParams
from worker import device as devices
from worker.draws import Draws
from worker.families.base import Family
from worker.families.resolve import resolve_params
from worker.inference.clip_files import write_clip
from worker.reporter import NullReporter
from worker.training.dataset import Stream
from worker.training.monitor import Monitor
from worker.training.recipe import prepare
from worker.training.run import Task
from worker.training.step import train_step

TIMED_STEPS = 3


class Figures(NamedTuple):
    seconds_per_step: float
    peak_memory_bytes: int
    """Of the whole process on a CPU, of the device's allocations on CUDA."""


def time_steps(
    family: Family,
    base: Path,
    *,
    params: TrainParams | None = None,
    threads: int = 2,
    device: torch.device | None = None,
) -> Figures:
    """Run one step to warm up and three that are timed, on a checkpoint in diffusers layout.

    `params` defaults to a normal style training of the family. Raises what loading raises.
    """
    device = device or devices.choose_device()
    params = params or resolve_params(family.spec, "style", "normal", 4, {})
    with tempfile.TemporaryDirectory() as folder:
        job, files = noise_job(family, base, params, Path(folder))
        devices.prepare(device, threads)
        monitor = Monitor(NullReporter(), TIMED_STEPS, 1)
        run = prepare(Task(job, family, files, Path(folder) / "out", monitor, device, Draws(0)))
        batch = params.batch_size * params.gradient_accumulation
        stream = Stream(run.trained, batch, params.batch_size, run.rng)
        began = 0.0
        for step in range(TIMED_STEPS + 1):
            loss, _ = train_step(run, stream.take(step * batch, batch), 1.0)
            loss.item()  # wait for the device
            if step == 0:
                began = time.perf_counter()
        seconds = (time.perf_counter() - began) / TIMED_STEPS
    return Figures(seconds, devices.peak_memory(device))


def noise_job(
    family: Family, base: Path, params: TrainParams, folder: Path
) -> tuple[TrainJob, dict[str, Path]]:
    """One square picture or one clip of noise as a set, and where its files lie."""
    side, clips = params.resolution, family.spec.clips
    frames = params.clip_frames if clips else 1
    noise = np.random.default_rng(0).integers(0, 256, (frames, side, side, 3), np.uint8)
    if clips and frames > 1:
        path = folder / "noise.mp4"
        write_clip(path, noise, clips.rule.fps, "")
    else:
        path = folder / "noise.png"
        Image.fromarray(noise[0]).save(path)
    content = path.read_bytes()
    picture = BlobRef(sha256=hashlib.sha256(content).hexdigest(), size=len(content), name=path.name)
    checkpoint = BlobRef(sha256="0" * 64, size=0, name=base.name)
    spec = family.spec
    job = TrainJob(
        name="calibration",
        output_name="calibration",
        type="style",
        base=CheckpointRef(
            file=checkpoint, format="Diffusers", family=spec.name, name=base.name, base_model=spec.base_model
        ),
        items=(
            TrainItem(
                file=picture,
                width=side,
                height=side,
                label="noise",
                frames=frames,
                fps=clips.rule.fps if clips and frames > 1 else None,
            ),
        ),
        params=params,
    )
    return job, {picture.sha256: path, checkpoint.sha256: base}
