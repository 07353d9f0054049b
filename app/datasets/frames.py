"""Frames of a film turned upright, scaled and brought to one kind of pixels, by libav's own filters.

A film says how it is to be shown in a matrix (phones film on their side), and how wide its pixels are.
"""

import struct
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

from av.filter import Graph
from av.video.frame import VideoFrame
from PIL import Image

from app.datasets.normalise import Limits, check_size

UNSPECIFIED = 2
HD_HEIGHT = 720
"""From here on, a film that does not say how its colours are coded has those of HD."""
HIGH_DYNAMIC_RANGE = {16, 18}
"""PQ and HLG, as numbered in H.273."""
SEE_THROUGH = {"rgba", "bgra", "argb", "abgr", "ya8", "pal8"}
_TRANSPOSED: dict[tuple[bool, bool], str] = {
    (True, False): "clock",
    (False, True): "cclock",
    (True, True): "cclock_flip",
    (False, False): "clock_flip",
}
"""By whether b and c of the matrix are positive."""
Filter = tuple[str, str]
"""Name and argument."""


def turns(frame: VideoFrame) -> tuple[Filter, ...]:
    """The filters that bring a frame upright, by its display matrix: x' = a·x + c·y, y' = b·x + d·y."""
    sides: Any = frame.side_data
    with suppress(KeyError, struct.error):
        a, b, _, c, d = struct.unpack("=5i", bytes(sides["DISPLAYMATRIX"])[:20])
        if abs(b) > abs(a):
            return (("transpose", _TRANSPOSED[b > 0, c > 0]),)
        flips: list[Filter] = [("hflip", "")] * (a < 0) + [("vflip", "")] * (d < 0)
        return tuple(flips)
    return ()


@dataclass(frozen=True)
class Shape:
    """How frames of one film are brought upright. `original` is the size as it was, but upright."""

    width: int
    height: int
    original: tuple[int, int]
    turns: tuple[Filter, ...]

    @classmethod
    def of(cls, frame: VideoFrame, aspect: Fraction | None, limits: Limits) -> Self:
        """From the first frame. `aspect`: width of one pixel by its height. Raises Refused by the size."""
        turned = turns(frame)
        wide = max(1, round(frame.width * (aspect or 1)))
        tall = any(name == "transpose" for name, _ in turned)
        size = (frame.height, wide) if tall else (wide, frame.height)
        check_size(size, limits)
        scale = min(1.0, limits.max_side / max(size))
        width, height = (max(2, round(one * scale / 2) * 2) for one in size)
        return cls(width, height, size, turned)


class Upright:
    """Brings frames to a shape. One that comes in another size or kind than the last is taken too."""

    def __init__(self, shape: Shape, pixels: str = "yuv420p") -> None:
        self._shape = shape
        self._pixels = pixels
        self._graph: Graph | None = None
        self._for: tuple[object, ...] | None = None

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        frame = flattened(frame)
        kind = (frame.width, frame.height, frame.format.name, frame.color_trc, frame.colorspace)
        if self._graph is None or kind != self._for:
            self._graph, self._for = self._make(frame), kind
        frame.pts, frame.time_base = 0, Fraction(1, 1000)
        self._graph.vpush(frame)
        made = self._graph.vpull()
        made.pict_type = 0
        return made

    def _make(self, frame: VideoFrame) -> Graph:
        shape, graph = self._shape, Graph()
        graph.threads = 1
        scale = f"{shape.width}:{shape.height}:flags=bicubic+accurate_rnd{colours(frame, self._pixels)}"
        chain = [
            graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)
            ),
            *(graph.add(name, argument or None) for name, argument in shape.turns),
            graph.add("scale", scale),
            graph.add("setsar", "1"),
            graph.add("format", self._pixels),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*chain).configure()
        return graph


def colours(frame: VideoFrame, pixels: str) -> str:
    """What the scaler must know: films of phones with high dynamic range become plain ones, BT.709."""
    found = ""
    if frame.colorspace == UNSPECIFIED and frame.height >= HD_HEIGHT and frame.format.name.startswith("yuv"):
        found += ":in_color_matrix=bt709"
    if pixels == "yuv420p":
        found += ":out_color_matrix=bt709:out_range=tv"
    if frame.color_trc in HIGH_DYNAMIC_RANGE:
        found += ":out_primaries=bt709:out_transfer=bt709"
    return found


def flattened(frame: VideoFrame) -> VideoFrame:
    """See-through parts laid on white."""
    if frame.format.name not in SEE_THROUGH:
        return frame
    clear = frame.reformat(format="rgba")
    plane = clear.planes[0]
    layer = Image.frombuffer(
        "RGBA", (clear.width, clear.height), bytes(plane), "raw", "RGBA", plane.line_size, 1
    )
    ground = Image.new("RGBA", layer.size, "white")
    solid: VideoFrame = VideoFrame.from_image(Image.alpha_composite(ground, layer).convert("RGB"))
    return solid
