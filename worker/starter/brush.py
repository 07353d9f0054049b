"""Shapes in a thing's own coordinates, drawn as the style wants them.

A thing is drawn with its foot at (0, 0), y upwards and its height as the unit, so that
one drawing serves every size, count and aspect ratio; the style chooses line and tint.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]
Tint = Callable[[Colour], Colour]


def scale_colour(colour: Colour, factors: float | tuple[float, float, float]) -> Colour:
    """Multiply the channels, kept within 0-255."""
    red, green, blue = (factors,) * 3 if isinstance(factors, float | int) else factors
    return (
        min(255, int(colour[0] * red)),
        min(255, int(colour[1] * green)),
        min(255, int(colour[2] * blue)),
    )


def mix_colours(first: Colour, second: Colour, share: float) -> Colour:
    """`share` of the second colour, the rest of the first."""
    red, green, blue = (int(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return (red, green, blue)


@dataclass(frozen=True)
class Brush:
    """Draws at a place and a size; `unit` is the thing's height in canvas pixels."""

    draw: ImageDraw.ImageDraw
    x: float
    y: float
    unit: float
    tint: Tint
    line: Tint | None
    """The outline's colour for a fill, or None for a style without outlines."""
    line_width: int
    mirrored: bool = False

    def _place(self, points: Sequence[Point]) -> list[Point]:
        sign = -self.unit if self.mirrored else self.unit
        return [(self.x + sign * px, self.y - self.unit * py) for px, py in points]

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """A filled polygon of (x, y) points."""
        placed = self._place(points)
        self.draw.polygon(placed, fill=self.tint(colour))
        self._outline(placed, colour)

    def box(self, left: float, bottom: float, right: float, top: float, colour: Colour) -> None:
        """A filled rectangle."""
        self.polygon([(left, bottom), (right, bottom), (right, top), (left, top)], colour)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        """A filled ellipse around (x, y)."""
        (left, top), (right, bottom) = self._place([(x - rx, y + ry), (x + rx, y - ry)])
        left, right = min(left, right), max(left, right)
        outline = self.line(colour) if self.line else None
        width = self.line_width if self.line else 0
        self.draw.ellipse((left, top, right, bottom), self.tint(colour), outline, width)

    def stroke(self, points: Sequence[Point], colour: Colour, width: float) -> None:
        """An open line, `width` in units of the thing's height."""
        pixels = max(2, round(width * self.unit))
        self.draw.line(self._place(points), fill=self.tint(colour), width=pixels)

    def _outline(self, placed: list[Point], colour: Colour) -> None:
        if self.line:
            closed = [*placed, placed[0], placed[1]]
            self.draw.line(closed, fill=self.line(colour), width=self.line_width, joint="curve")
