"""Drawing styles: how a colour is tinted, whether shapes have lines, what is done last.

Four belong to the base. "tuscan etching" and "neon lines" are kept out of its training:
the first is the example set's, the second the other style that the bench compares with.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from worker.starter.brush import Colour, Tint, mix_colours, scale_colour

Finish = Callable[[Image.Image, Random], Image.Image]

_INK: Colour = (38, 34, 40)
_SEPIA: Colour = (74, 42, 26)
_PAPER: Colour = (244, 226, 188)


@dataclass(frozen=True)
class Style:
    """One way of drawing; `finish` gets the canvas at twice the picture's size."""

    tint: Tint
    line: Tint | None
    line_width: float
    """Part of the canvas height."""
    finish: Finish


def _same(colour: Colour) -> Colour:
    return colour


def _keep(canvas: Image.Image, _rng: Random) -> Image.Image:
    return canvas


def _ink(_colour: Colour) -> Colour:
    return _INK


def _pastel_tint(colour: Colour) -> Colour:
    return mix_colours(colour, (250, 240, 228), 0.22)


def _grain(size: tuple[int, int], rng: Random, cell: int) -> Image.Image:
    """Soft grey noise around 128, its grains `cell` pixels wide."""
    width, height = (max(2, side // cell) for side in size)
    noise = Image.frombytes("L", (width, height), rng.randbytes(width * height))
    return noise.resize(size, Image.Resampling.BILINEAR)


def _add_grain(canvas: Image.Image, rng: Random, cell: int, strength: float) -> Image.Image:
    grey = _grain(canvas.size, rng, cell).point(lambda v: int(128 + (v - 128) * strength))
    return ImageChops.overlay(canvas, Image.merge("RGB", (grey,) * 3))


def _pastel(canvas: Image.Image, rng: Random) -> Image.Image:
    soft = canvas.filter(ImageFilter.GaussianBlur(canvas.height / 110))
    return _add_grain(soft, rng, max(4, canvas.height // 40), 0.11)


def _pixel_art(canvas: Image.Image, _rng: Random) -> Image.Image:
    """Blocks of 3 pixels in the reduced picture of 128, and few shades."""
    block = max(2, canvas.height // 42)
    small = canvas.resize((-(-canvas.width // block), -(-canvas.height // block)), Image.Resampling.BOX)
    small = small.point(lambda value: min(255, round(value / 24) * 24))
    grown = small.resize((small.width * block, small.height * block), Image.Resampling.NEAREST)
    return grown.crop((0, 0, *canvas.size))


def _ink_hatch(canvas: Image.Image, _rng: Random) -> Image.Image:
    return _hatch(canvas, _INK, spacing=canvas.height / 16, below=0.5, share=0.4)


def _hatch(canvas: Image.Image, colour: Colour, *, spacing: float, below: float, share: float) -> Image.Image:
    """Diagonal lines wherever the canvas is darker than `below` (0-1)."""
    width, height = canvas.size
    lines = Image.new("L", canvas.size, 0)
    draw = ImageDraw.Draw(lines)
    offset = -float(height)
    while offset < width:
        draw.line((offset, height, offset + height, 0), fill=int(255 * share), width=2)
        offset += spacing
    dark = ImageOps.grayscale(canvas).point(lambda value: 255 if value < below * 255 else 0)
    mask = ImageChops.multiply(lines, dark)
    return Image.composite(Image.new("RGB", canvas.size, colour), canvas, mask)


def _tuscan_tint(colour: Colour) -> Colour:
    """Towards an ochre ramp of the same lightness, keeping enough hue to name it."""
    light = (0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]) / 255
    ochre = mix_colours((122, 66, 30), (255, 226, 158), light)
    return mix_colours(colour, ochre, 0.5)


def _sepia(_colour: Colour) -> Colour:
    return _SEPIA


def _etching(canvas: Image.Image, _rng: Random) -> Image.Image:
    """Close hatching, then the deckled cream margin of a print."""
    spacing = canvas.height / 20
    etched = _hatch(canvas, _SEPIA, spacing=spacing, below=0.66, share=0.45)
    crossed = _hatch(ImageOps.mirror(etched), _SEPIA, spacing=spacing, below=0.4, share=0.5)
    printed = ImageOps.mirror(crossed)
    width, height = canvas.size
    margin = height // 16
    mask = Image.new("L", canvas.size, 0)
    ImageDraw.Draw(mask).rectangle((margin, margin, width - margin, height - margin), fill=255)
    paper = Image.new("RGB", canvas.size, _PAPER)
    return Image.composite(printed, paper, mask)


def _neon_tint(colour: Colour) -> Colour:
    return mix_colours(scale_colour(colour, 0.3), (14, 8, 34), 0.55)


def _neon_line(colour: Colour) -> Colour:
    """The fill's own hue, as bright as it goes."""
    lightest, darkest = max(colour), min(colour)
    span = max(1, lightest - darkest)
    red, green, blue = (int(60 + 195 * (channel - darkest) / span) for channel in colour)
    return (red, green, blue)


def _glow(canvas: Image.Image, _rng: Random) -> Image.Image:
    halo = canvas.filter(ImageFilter.GaussianBlur(canvas.height / 40))
    return ImageChops.screen(canvas, halo)


STYLE_RULES: dict[str, Style] = {
    "flat illustration": Style(_same, None, 0, _keep),
    "ink drawing": Style(_same, _ink, 0.011, _ink_hatch),
    "pastel drawing": Style(_pastel_tint, None, 0, _pastel),
    "pixel art": Style(_same, None, 0, _pixel_art),
    "tuscan etching": Style(_tuscan_tint, _sepia, 0.012, _etching),
    "neon lines": Style(_neon_tint, _neon_line, 0.014, _glow),
}
