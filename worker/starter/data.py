"""The training pictures: scenes drawn once into a memory-mapped array.

Scene i follows from the seed and i alone, so captions need no file beside the pixels.
"""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray

from worker.starter.render import PIXELS, render
from worker.starter.scenes import STYLES, Scene, sample_scene

Pixels = NDArray[np.uint8]
_CHUNK = 500


def make_scenes(
    count: int, seed: int, styles: tuple[str, ...] = STYLES, *, held_out: bool = False
) -> list[Scene]:
    """`count` random scenes; other seeds give scenes that training has not seen."""
    rng = Random(f"starter {seed}")
    return [sample_scene(rng, styles, held_out=held_out) for _ in range(count)]


def draw_scenes(scenes: list[Scene]) -> Pixels:
    """uint8 (n, 128, 128, 3)."""
    return np.stack([np.asarray(render(scene)) for scene in scenes])


def draw_to_file(scenes: list[Scene], path: Path, workers: int = 2) -> Pixels:
    """The scenes' pixels, memory-mapped; drawn only where the file is missing."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial_path = path.with_suffix(".partial.npy")
        shape = (len(scenes), PIXELS, PIXELS, 3)
        pixels = np.lib.format.open_memmap(partial_path, "w+", np.uint8, shape)
        starts = range(0, len(scenes), _CHUNK)
        with ProcessPoolExecutor(workers) as pool:
            for start, drawn in zip(starts, pool.map(partial(_draw, scenes), starts), strict=True):
                pixels[start : start + len(drawn)] = drawn
        pixels.flush()
        partial_path.replace(path)
    return np.load(path, mmap_mode="r")


def _draw(scenes: list[Scene], start: int) -> Pixels:
    return draw_scenes(scenes[start : start + _CHUNK])


def to_tensor(pixels: Pixels) -> torch.Tensor:
    """uint8 (n, h, w, 3) to float (n, 3, h, w) in -1..1, channels last in memory."""
    tensor = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2)
    return tensor.float().div(127.5).sub(1.0)


def to_pixels(pictures: torch.Tensor) -> Pixels:
    """The way back, rounded and clipped."""
    scaled = pictures.float().add(1.0).mul(127.5).round().clamp(0, 255)
    return scaled.permute(0, 2, 3, 1).to(torch.uint8).numpy()
