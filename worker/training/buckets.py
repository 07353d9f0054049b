"""Which training size each picture gets. Torch-free.

Pictures keep their shape: the bucket of nearest aspect ratio is taken, the picture is resized to
cover it and cut in the middle. No picture is ever dropped, and one that must be enlarged says so.
"""

import math
from dataclasses import dataclass

Size = tuple[int, int]
"""Width, height in pixels."""


@dataclass(frozen=True)
class Placement:
    """How one picture is brought to its bucket: scaled to `scaled`, then cut to `bucket` at `corner`."""

    bucket: Size
    scaled: Size
    corner: Size
    enlarged: bool


def bucket_sizes(resolution: int, multiple: int, *, square_only: bool = False) -> list[Size]:
    """Sizes with sides in multiples of `multiple`, area at most resolution², from 1:2 to 2:1."""
    side = max(multiple, resolution // multiple * multiple)
    if square_only:
        return [(side, side)]
    sizes = {(side, side)}
    shortest = max(multiple, side // 2 // multiple * multiple)
    for width in range(shortest, side * 2 + 1, multiple):
        height = min(side * 2, resolution * resolution // width // multiple * multiple)
        if height >= shortest:
            sizes |= {(width, height), (height, width)}
    return sorted(sizes)


def place(width: int, height: int, sizes: list[Size]) -> Placement:
    """The bucket for a picture: nearest aspect ratio, the larger one of two that are equally near."""
    ratio = math.log(width / height)

    def distance(size: Size) -> tuple[float, int]:
        return (round(abs(math.log(size[0] / size[1]) - ratio), 9), -size[0] * size[1])

    bucket = min(sizes, key=distance)
    scale = max(bucket[0] / width, bucket[1] / height)
    scaled = (max(bucket[0], round(width * scale)), max(bucket[1], round(height * scale)))
    corner = ((scaled[0] - bucket[0]) // 2, (scaled[1] - bucket[1]) // 2)
    return Placement(bucket, scaled, corner, enlarged=scale > 1)
