"""The seven grounds, from the horizon down.

The brush has the horizon's height as y = 0 and the canvas height as its unit, so x runs
from 0 to the aspect ratio and y from about 0.5 (top) to -0.5 (bottom edge and below).
"""

from collections.abc import Callable
from random import Random

from worker.starter.brush import Brush, Colour, scale_colour

_BOTTOM = -0.5


def draw_ground(name: str, brush: Brush, rng: Random, aspect: float) -> None:
    """One of `scenes.GROUNDS` over the whole width; `aspect` is width / height."""
    _GROUND_DRAWINGS[name](brush, rng, aspect)


def draw_pond(brush: Brush) -> None:
    """Water for a boat on dry ground, around the boat's foot."""
    brush.ellipse(0.02, 0.01, 0.85, 0.13, (84, 150, 206))


def _ridge(brush: Brush, rng: Random, aspect: float, colour: Colour, low: float, high: float) -> None:
    """A rolling edge between `low` and `high` over the horizon, filled to the bottom."""
    steps = max(4, round(aspect * 5))
    heights = [rng.uniform(low, high) for _ in range(steps + 1)]
    points = []
    for index in range(steps * 4 + 1):
        left, part = divmod(index, 4)
        smooth = (3 - part / 2) * (part / 4) ** 2
        after = heights[min(left + 1, steps)]
        y = heights[left] + (after - heights[left]) * smooth
        points.append((aspect * index / (steps * 4), y))
    brush.polygon([(-0.05, _BOTTOM), (-0.05, heights[0]), *points, (aspect + 0.05, _BOTTOM)], colour)


def _plain(brush: Brush, aspect: float, colour: Colour, top: float = 0.0) -> None:
    brush.box(-0.05, _BOTTOM, aspect + 0.05, top, colour)


def _green_hills(brush: Brush, rng: Random, aspect: float) -> None:
    _ridge(brush, rng, aspect, (88, 148, 84), 0.0, 0.1)
    _ridge(brush, rng, aspect, (124, 184, 80), -0.1, -0.02)
    for _ in range(int(6 * aspect)):
        x, y = rng.uniform(0, aspect), rng.uniform(-0.4, -0.12)
        brush.polygon([(x - 0.02, y), (x + 0.02, y), (x, y + 0.04)], (84, 146, 66))


def _golden_field(brush: Brush, rng: Random, aspect: float) -> None:
    _plain(brush, aspect, (226, 180, 70), 0.01)
    for row in range(1, 6):
        y = -0.02 - 0.011 * row * row
        brush.box(-0.05, y - 0.006 * row, aspect + 0.05, y, (190, 138, 44))
    for _ in range(int(16 * aspect)):
        x, y = rng.uniform(0, aspect), rng.uniform(-0.42, -0.06)
        brush.stroke([(x, y), (x, y + 0.05)], (246, 212, 116), 0.008)


def _desert(brush: Brush, rng: Random, aspect: float) -> None:
    _ridge(brush, rng, aspect, (206, 136, 84), 0.0, 0.07)
    _ridge(brush, rng, aspect, (230, 170, 112), -0.12, -0.04)
    for _ in range(round(2 * aspect)):
        x, y = rng.uniform(0.04, aspect - 0.04), rng.uniform(-0.1, -0.04)
        _cactus(brush, x, y)


def _cactus(brush: Brush, x: float, y: float) -> None:
    colour: Colour = (72, 118, 70)
    brush.box(x - 0.012, y, x + 0.012, y + 0.12, colour)
    brush.box(x - 0.045, y + 0.05, x - 0.026, y + 0.09, colour)
    brush.box(x - 0.045, y + 0.045, x, y + 0.06, colour)
    brush.box(x, y + 0.065, x + 0.045, y + 0.08, colour)
    brush.box(x + 0.026, y + 0.065, x + 0.045, y + 0.11, colour)


def _snow(brush: Brush, rng: Random, aspect: float) -> None:
    _ridge(brush, rng, aspect, (186, 204, 228), 0.0, 0.08)
    _ridge(brush, rng, aspect, (228, 236, 248), -0.09, -0.02)
    for _ in range(int(4 * aspect)):
        x, y = rng.uniform(0, aspect), rng.uniform(-0.42, -0.14)
        brush.ellipse(x, y, 0.09, 0.016, (198, 212, 234))


def _beach(brush: Brush, rng: Random, aspect: float) -> None:
    _plain(brush, aspect, (38, 120, 184))
    for row in range(3):
        x = rng.uniform(0, aspect)
        y = -0.03 - 0.035 * row
        brush.box(x - 0.14, y - 0.008, x + 0.14, y, (150, 204, 232))
    _ridge(brush, rng, aspect, (240, 246, 246), -0.15, -0.13)
    _ridge(brush, rng, aspect, (240, 218, 166), -0.175, -0.155)


def _mountains(brush: Brush, rng: Random, aspect: float) -> None:
    x = -0.1
    while x < aspect + 0.1:
        half, top = rng.uniform(0.16, 0.26), rng.uniform(0.2, 0.34)
        brush.polygon([(x - half, 0), (x + half, 0), (x, top)], (112, 116, 132))
        cap = 0.34
        brush.polygon(
            [(x - half * cap, top * (1 - cap)), (x + half * cap, top * (1 - cap)), (x, top)],
            (236, 240, 246),
        )
        x += rng.uniform(0.22, 0.34)
    _plain(brush, aspect, (142, 138, 132), 0.005)
    for _ in range(int(6 * aspect)):
        x, y = rng.uniform(0, aspect), rng.uniform(-0.4, -0.06)
        brush.ellipse(x, y, 0.04, 0.018, (110, 106, 106))


def _lavender_field(brush: Brush, rng: Random, aspect: float) -> None:
    _plain(brush, aspect, (134, 156, 96), 0.01)
    centre = aspect * rng.uniform(0.35, 0.65)
    violet: Colour = (146, 112, 200)
    for row in range(-7, 8):
        left, right = row * 0.36 - 0.1, row * 0.36 + 0.1
        top = centre + row * 0.07
        points = [(centre + left, _BOTTOM), (top - 0.02, 0.0), (top + 0.02, 0.0)]
        shade = scale_colour(violet, 0.88 if row % 2 else 1.0)
        brush.polygon([*points, (centre + right, _BOTTOM)], shade)


_GROUND_DRAWINGS: dict[str, Callable[[Brush, Random, float], None]] = {
    "green hills": _green_hills,
    "golden field": _golden_field,
    "desert": _desert,
    "snow": _snow,
    "beach": _beach,
    "mountains": _mountains,
    "lavender field": _lavender_field,
}
