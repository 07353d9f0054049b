"""Frames of a stored clip, read one after the other. The clip was made by the import: H.264, no sound."""

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from worker.training.errors import TrainingError


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
