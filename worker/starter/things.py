"""The twelve things, each drawn by one function in its own unit square.

The named colour covers most of every thing, because the gate reads colour off it;
roofs, trunks and sails are neutral, or a "red house" would have a second colour.
"""

from collections.abc import Callable
from itertools import pairwise
from math import cos, pi, sin

from worker.starter.brush import Brush, Colour, mix_colours, scale_colour

_SLATE: Colour = (92, 84, 88)
_WOOD: Colour = (112, 78, 54)
_CREAM: Colour = (240, 230, 206)
_GLASS: Colour = (70, 82, 104)
_DARK: Colour = (52, 46, 50)


def _shade(colour: Colour) -> Colour:
    return scale_colour(colour, 0.78)


def _house(brush: Brush, colour: Colour) -> None:
    brush.box(0.1, 0.78, 0.22, 1.0, _SLATE)
    brush.box(-0.48, 0, 0.48, 0.6, colour)
    brush.polygon([(-0.58, 0.58), (0.58, 0.58), (0.0, 1.0)], _SLATE)
    brush.box(-0.12, 0, 0.12, 0.36, _WOOD)
    for x in (-0.32, 0.32):
        brush.box(x - 0.09, 0.26, x + 0.09, 0.44, _GLASS)


def _tower(brush: Brush, colour: Colour) -> None:
    brush.box(-0.17, 0, 0.17, 0.88, colour)
    brush.box(0.06, 0, 0.17, 0.88, _shade(colour))
    brush.box(-0.23, 0.8, 0.23, 0.9, colour)
    for x in (-0.23, -0.06, 0.11):
        brush.box(x, 0.9, x + 0.12, 1.0, colour)
    brush.box(-0.06, 0.5, 0.03, 0.66, _GLASS)
    brush.box(-0.08, 0, 0.04, 0.18, _WOOD)


def _church(brush: Brush, colour: Colour) -> None:
    brush.box(-0.1, 0, 0.55, 0.42, colour)
    brush.polygon([(-0.14, 0.42), (0.6, 0.42), (0.46, 0.64), (-0.1, 0.64)], _SLATE)
    brush.box(-0.44, 0, -0.1, 0.66, colour)
    brush.polygon([(-0.48, 0.66), (-0.06, 0.66), (-0.27, 0.92)], _SLATE)
    brush.stroke([(-0.27, 0.9), (-0.27, 1.06)], _DARK, 0.03)
    brush.stroke([(-0.33, 1.0), (-0.21, 1.0)], _DARK, 0.03)
    brush.box(-0.34, 0, -0.2, 0.24, _WOOD)
    for x in (0.08, 0.3):
        brush.box(x, 0.14, x + 0.1, 0.32, _GLASS)


def _windmill(brush: Brush, colour: Colour) -> None:
    draw_mill(brush, colour)
    for dx, dy in ((0.36, 0.3), (-0.36, 0.3), (0.36, -0.3), (-0.36, -0.3)):
        across = (-0.06 * dy / 0.3, 0.06 * dx / 0.36)
        tip = (dx, 0.66 + dy)
        blade = [(0.0, 0.66), tip, (tip[0] + across[0], tip[1] + across[1])]
        brush.polygon([*blade, (across[0], 0.66 + across[1])], _CREAM)
    brush.ellipse(0, 0.66, 0.045, 0.045, _DARK)


def draw_mill(brush: Brush, colour: Colour) -> None:
    """A windmill without its blades."""
    brush.polygon([(-0.25, 0), (0.25, 0), (0.16, 0.66), (-0.16, 0.66)], colour)
    brush.polygon([(-0.2, 0.64), (0.2, 0.64), (0.0, 0.84)], _SLATE)
    brush.box(-0.07, 0, 0.07, 0.2, _WOOD)


def draw_blades(brush: Brush, angle: float) -> None:
    """Its four blades, turned by `angle` radians."""
    for quarter in range(4):
        along, across = angle + quarter * pi / 2, angle + (quarter + 1) * pi / 2
        tip = (0.46 * cos(along), 0.46 * sin(along))
        edge = (0.09 * cos(across), 0.09 * sin(across))
        corners = [(0.0, 0.0), tip, (tip[0] + edge[0], tip[1] + edge[1]), edge]
        brush.polygon([(x, 0.66 + y) for x, y in corners], _CREAM)
    brush.ellipse(0, 0.66, 0.045, 0.045, _DARK)


def _castle(brush: Brush, colour: Colour) -> None:
    brush.box(-0.5, 0, 0.5, 0.5, colour)
    for x in (-0.3, -0.08, 0.14):
        brush.box(x, 0.5, x + 0.13, 0.6, colour)
    for x in (-0.62, 0.36):
        brush.box(x, 0, x + 0.26, 0.72, _shade(colour))
        brush.polygon([(x - 0.04, 0.72), (x + 0.3, 0.72), (x + 0.13, 1.0)], _SLATE)
        brush.box(x + 0.09, 0.44, x + 0.17, 0.58, _GLASS)
    brush.box(-0.14, 0, 0.14, 0.26, _DARK)
    brush.ellipse(0, 0.26, 0.14, 0.1, _DARK)


def _lighthouse(brush: Brush, colour: Colour) -> None:
    widths = [0.2, 0.185, 0.17, 0.155, 0.14, 0.125]
    band = mix_colours(colour, (250, 248, 244), 0.72)
    if sum(colour) > 690:
        band = (196, 196, 200)
    for level, (low, high) in enumerate(pairwise(widths)):
        y = level * 0.15
        points = [(-low, y), (low, y), (high, y + 0.15), (-high, y + 0.15)]
        brush.polygon(points, band if level % 2 else colour)
    brush.box(-0.18, 0.75, 0.18, 0.79, _DARK)
    brush.box(-0.09, 0.79, 0.09, 0.91, (255, 240, 170))
    brush.polygon([(-0.13, 0.91), (0.13, 0.91), (0, 1.02)], colour)


def _tree(brush: Brush, colour: Colour) -> None:
    brush.polygon([(-0.07, 0), (0.07, 0), (0.05, 0.5), (-0.05, 0.5)], _WOOD)
    brush.ellipse(-0.22, 0.54, 0.2, 0.19, _shade(colour))
    brush.ellipse(0.22, 0.54, 0.2, 0.19, _shade(colour))
    brush.ellipse(0, 0.7, 0.31, 0.3, colour)


def _cypress(brush: Brush, colour: Colour) -> None:
    brush.box(-0.035, 0, 0.035, 0.14, _WOOD)
    left = [(-0.1, 0.09), (-0.15, 0.3), (-0.12, 0.6), (-0.06, 0.84), (0, 1.0)]
    right = [(-x, y) for x, y in reversed(left[:-1])]
    brush.polygon([*left, *right], colour)
    brush.polygon([(0, 1.0), *right, (0.02, 0.09)], _shade(colour))


def _boat(brush: Brush, colour: Colour) -> None:
    brush.stroke([(0, 0.2), (0, 1.0)], _WOOD, 0.035)
    brush.polygon([(0.03, 0.3), (0.03, 0.96), (0.4, 0.3)], _CREAM)
    brush.polygon([(-0.03, 0.3), (-0.03, 0.82), (-0.3, 0.3)], scale_colour(_CREAM, 0.9))
    brush.polygon([(-0.56, 0.27), (0.6, 0.27), (0.42, 0), (-0.4, 0)], colour)
    brush.polygon([(-0.47, 0.12), (0.51, 0.12), (0.42, 0), (-0.4, 0)], _shade(colour))


def _tent(brush: Brush, colour: Colour) -> None:
    brush.polygon([(-0.62, 0), (0.62, 0), (0.0, 0.82)], colour)
    brush.polygon([(0.0, 0.82), (0.62, 0), (0.3, 0)], _shade(colour))
    brush.polygon([(-0.16, 0), (0.14, 0), (0.0, 0.52)], _DARK)
    brush.stroke([(0, 0.78), (0, 0.98)], _WOOD, 0.035)


def _balloon(brush: Brush, colour: Colour) -> None:
    for x in (-0.09, 0.09):
        brush.stroke([(x, 0.16), (x * 2.2, 0.42)], _DARK, 0.02)
    brush.polygon([(-0.24, 0.46), (0.24, 0.46), (0.1, 0.24), (-0.1, 0.24)], colour)
    brush.ellipse(0, 0.66, 0.36, 0.35, colour)
    brush.ellipse(0, 0.66, 0.15, 0.345, mix_colours(colour, (255, 255, 255), 0.28))
    brush.box(-0.1, 0, 0.1, 0.16, _WOOD)


def _car(brush: Brush, colour: Colour) -> None:
    brush.polygon([(-0.42, 0.4), (0.44, 0.4), (0.28, 0.72), (-0.3, 0.72)], colour)
    brush.polygon([(-0.34, 0.42), (-0.03, 0.42), (-0.03, 0.66), (-0.26, 0.66)], _GLASS)
    brush.polygon([(0.03, 0.42), (0.35, 0.42), (0.25, 0.66), (0.03, 0.66)], _GLASS)
    brush.box(-0.72, 0.14, 0.74, 0.44, colour)
    for x in (-0.42, 0.44):
        brush.ellipse(x, 0.14, 0.16, 0.16, _DARK)
        brush.ellipse(x, 0.14, 0.07, 0.07, (190, 190, 190))
    brush.box(0.66, 0.3, 0.74, 0.38, _CREAM)


DRAWINGS: dict[str, Callable[[Brush, Colour], None]] = {
    "house": _house,
    "tower": _tower,
    "church": _church,
    "windmill": _windmill,
    "castle": _castle,
    "lighthouse": _lighthouse,
    "tree": _tree,
    "cypress": _cypress,
    "boat": _boat,
    "tent": _tent,
    "balloon": _balloon,
    "car": _car,
}
