"""Frames of a stored clip, read one after the other. The clip was made by the import: H.264, no sound."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from worker.training.errors import TrainingError


class ClipFacts(NamedTuple):
    width: int
    height: int
    frames: int
    fps: float


def clip_facts(path: Path) -> ClipFacts:
    """Sides, frames and rate of a clip. ValueError where it is none."""
    try:
        with av.open(str(path), mode="r") as opened:
            stream = opened.streams.video[0]
            rate, size = float(stream.average_rate or 0), (stream.width, stream.height)
            frames = stream.frames or sum(1 for _ in opened.decode(video=0))
    except (av.FFmpegError, OSError, IndexError) as error:
        raise ValueError(f"{path.name} cannot be read as a clip. Bring an MP4 (H.264).") from error
    if not (rate > 0 and frames > 0):
        raise ValueError(f"{path.name} says no rate or has no frames. Export it anew as MP4 (H.264).")
    return ClipFacts(*size, frames, rate)


def read_frames(path: Path, numbers: Sequence[int], name: str) -> NDArray[np.uint8]:
    """Frames `numbers` (from 0, ascending, some twice) as RGB: [len(numbers), height, width, 3].

    TrainingError for a clip that cannot be read or is shorter than was said; `name` is for its words.
    """
    wanted, last = set(numbers), max(numbers)
    found: dict[int, NDArray[np.uint8]] = {}
    try:
        with av.open(str(path), mode="r") as opened:
            for number, frame in enumerate(opened.decode(video=0)):
                if number in wanted:
                    found[number] = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
                if number >= last:
                    break
    except (av.FFmpegError, OSError, IndexError) as error:
        raise TrainingError("image-unreadable", f"{name} cannot be read. Remove it from the set.") from error
    if len(found) < len(wanted):
        words = f"{name} has fewer frames than it had when it was added. Remove it from the set."
        raise TrainingError("image-unreadable", words)
    return np.stack([found[number] for number in numbers])
