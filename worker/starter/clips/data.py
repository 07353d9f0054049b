"""Clips as arrays: drawn scenes, and the way from uint8 to what the models read."""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from worker.starter.clips.render import render_clip
from worker.starter.clips.scenes import FRAMES, PIXELS, MovingScene

Clips = NDArray[np.uint8]
"""(n, frames, height, width, 3)."""
_CHUNK = 50


def draw_clips(scenes: list[MovingScene]) -> Clips:
    """uint8 (n, 17, 64, 64, 3)."""
    return np.stack([np.stack([np.asarray(frame) for frame in render_clip(scene)]) for scene in scenes])


def draw_to_file(scenes: list[MovingScene], path: Path, workers: int = 2) -> Clips:
    """The scenes' clips, memory-mapped; drawn only where the file is missing."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial_path = path.with_suffix(".partial.npy")
        shape = (len(scenes), FRAMES, PIXELS, PIXELS, 3)
        clips = np.lib.format.open_memmap(partial_path, "w+", np.uint8, shape)
        starts = range(0, len(scenes), _CHUNK)
        with ProcessPoolExecutor(workers) as pool:
            for start, drawn in zip(starts, pool.map(partial(_draw, scenes), starts), strict=True):
                clips[start : start + len(drawn)] = drawn
        clips.flush()
        partial_path.replace(path)
    return np.load(path, mmap_mode="r")


def _draw(scenes: list[MovingScene], start: int) -> Clips:
    return draw_clips(scenes[start : start + _CHUNK])


def to_tensor(clips: Clips) -> torch.Tensor:
    """uint8 (n, t, h, w, 3) to float (n, 3, t, h, w) in -1..1."""
    tensor = torch.from_numpy(np.array(clips)).permute(0, 4, 1, 2, 3)
    return tensor.float().div(127.5).sub(1.0)


def to_frames(clips: torch.Tensor) -> Clips:
    """The way back, rounded and clipped."""
    scaled = clips.float().add(1.0).mul(127.5).round().clamp(0, 255)
    return scaled.permute(0, 2, 3, 4, 1).to(torch.uint8).numpy()
