"""A clip at a glance: frames evenly spaced in time, side by side in one small picture."""

from pathlib import Path

from av.video.frame import VideoFrame
from PIL import Image

FRAMES = 10
HEIGHT = 90
WIDEST = 54
"""Of one frame: its middle is kept, so that ten fit side by side on a phone."""


def middles(total: int, count: int = FRAMES) -> list[int]:
    """The frame in the middle of each of `count` equal parts of a clip; fewer for a shorter clip."""
    count = min(count, total)
    return [(2 * part + 1) * total // (2 * count) for part in range(count)]


class Strip:
    """Takes what it needs of frames that pass by.

    `first` and `middle` are frames in full size: many clips begin with black, so what a clip is like
    is judged by its middle.
    """

    def __init__(self, total: int) -> None:
        wanted = middles(total)
        self._wanted = set(wanted)
        self._middle = wanted[len(wanted) // 2]
        self._cells: list[Image.Image] = []
        self.first = self.middle = Image.new("RGB", (1, 1))

    def add(self, number: int, frame: VideoFrame) -> None:
        if number and number not in self._wanted:
            return
        image: Image.Image = frame.to_image()
        if number == 0:
            self.first = image
        if number == self._middle:
            self.middle = image
        if number in self._wanted:
            width = max(1, round(image.width * HEIGHT / image.height))
            cell = image.resize((width, HEIGHT), Image.Resampling.BILINEAR)
            left = max(0, (width - WIDEST) // 2)
            self._cells.append(cell.crop((left, 0, left + min(width, WIDEST), HEIGHT)))

    def save(self, path: Path) -> None:
        width = self._cells[0].width
        joined = Image.new("RGB", (width * len(self._cells), HEIGHT))
        for place, cell in enumerate(self._cells):
            joined.paste(cell, (place * width, 0))
        joined.save(path, "WEBP", quality=75, method=4)
