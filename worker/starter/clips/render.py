"""Draws a MovingScene frame by frame with the still renderer's sky, grounds and things.

Every frame draws the same random numbers in the same order, so that only what moves differs.
Progress runs from 0 (first frame) to 1 (last). Needs neither numpy nor torch.
"""

from dataclasses import dataclass
from math import pi
from random import Random

from PIL import Image, ImageDraw

from worker.starter.brush import Brush, Colour, mix_colours
from worker.starter.clips.scenes import FRAMES, PIXELS, MovingScene
from worker.starter.grounds import draw_ground
from worker.starter.render import COLOURS, GROUND_LIGHT, SKY, THING_LIGHT, make_brush
from worker.starter.styles import STYLE_RULES, Style
from worker.starter.things import DRAWINGS, draw_blades, draw_mill

_SUN: Colour = (255, 236, 130)
_LOW_SUN: Colour = (255, 190, 84)
_MOON: Colour = (240, 238, 214)
_CLOUD: Colour = (252, 248, 246)


@dataclass(frozen=True)
class _Frame:
    """One frame that is being drawn."""

    draw: ImageDraw.ImageDraw
    scene: MovingScene
    style: Style
    progress: float
    horizon: float

    @property
    def size(self) -> tuple[int, int]:
        return self.draw.im.size

    def light(self, table: dict[str, tuple[float, float, float]]) -> tuple[float, float, float]:
        """Of the time of day; between day and sunset while the sun is low."""
        day, low = table[self.scene.time], table["sunset"]
        share = _lowness(self.scene, self.progress)
        return (
            day[0] + (low[0] - day[0]) * share,
            day[1] + (low[1] - day[1]) * share,
            day[2] + (low[2] - day[2]) * share,
        )

    def brush(
        self, light: tuple[float, float, float], x: float, y: float, unit: float, *, mirrored: bool = False
    ) -> Brush:
        return make_brush(self.draw, self.style, light, x, y, unit, mirrored)


def render_clip(
    scene: MovingScene, size: tuple[int, int] = (PIXELS, PIXELS), frames: int = FRAMES
) -> list[Image.Image]:
    """All frames as RGB pictures of (width, height) pixels; the same scene, the same pixels."""
    return [render_frame(scene, number / max(1, frames - 1), size) for number in range(frames)]


def render_frame(
    scene: MovingScene, progress: float, size: tuple[int, int] = (PIXELS, PIXELS)
) -> Image.Image:
    """The scene at `progress` 0-1 of its motion. Drawn at twice the size and reduced."""
    rng = Random(scene.seed)
    style = STYLE_RULES[scene.style]
    width, height = size[0] * 2, size[1] * 2
    canvas = _draw_sky(scene, style, progress, (width, height))
    horizon = height * rng.uniform(0.56, 0.64)
    frame = _Frame(ImageDraw.Draw(canvas), scene, style, progress, horizon)
    _draw_light(frame, rng)
    if scene.motion.startswith("clouds"):
        _draw_clouds(frame, rng)
    ground = frame.brush(frame.light(GROUND_LIGHT), 0, horizon, height)
    draw_ground(scene.ground, ground, rng, width / height)
    _draw_thing(frame, rng)
    return style.finish(canvas, rng).resize(size, Image.Resampling.BOX)


def _lowness(scene: MovingScene, progress: float) -> float:
    """How near the sun is to the horizon: 0 = high, 1 = setting."""
    if scene.motion == "sun setting":
        return progress
    return 1 - progress if scene.motion == "sun rising" else 0.0


def _draw_sky(scene: MovingScene, style: Style, progress: float, size: tuple[int, int]) -> Image.Image:
    low = _lowness(scene, progress)
    pairs = zip(SKY[scene.time], SKY["sunset"], strict=True)
    top, bottom = (style.tint(mix_colours(day, sunset, low)) for day, sunset in pairs)
    mask = Image.linear_gradient("L").resize((size[0], int(size[1] * 0.66)))
    canvas = Image.new("RGB", size, bottom)
    sky = Image.composite(Image.new("RGB", mask.size, bottom), Image.new("RGB", mask.size, top), mask)
    canvas.paste(sky, (0, 0))
    return canvas


def _draw_light(frame: _Frame, rng: Random) -> None:
    """The moon, or the sun where it stands at this moment."""
    width, height = frame.size
    x = width * rng.choice((rng.uniform(0.14, 0.3), rng.uniform(0.7, 0.86)))
    high = height * rng.uniform(0.1, 0.16)
    plain = (1.0, 1.0, 1.0)
    if frame.scene.time == "night":
        frame.brush(plain, x, high, height).ellipse(0, 0, 0.06, 0.06, _MOON)
        return
    low = _lowness(frame.scene, frame.progress)
    y = high + (frame.horizon + height * 0.05 - high) * low
    radius = 0.07 + 0.03 * low
    frame.brush(plain, x, y, height).ellipse(0, 0, radius, radius, mix_colours(_SUN, _LOW_SUN, low))


def _draw_clouds(frame: _Frame, rng: Random) -> None:
    """Three clouds that drift together and come back at the other side."""
    width, height = frame.size
    sign = -1 if frame.scene.motion.endswith("left") else 1
    shift = sign * frame.progress * width * rng.uniform(0.5, 0.7)
    light = 0.42 if frame.scene.time == "night" else 1.0
    start = rng.uniform(0, width)
    for number in range(3):
        y, unit = height * rng.uniform(0.1, 0.3), height * rng.uniform(0.2, 0.26)
        around = width + 2 * unit
        x = (start + number * around / 3 + shift) % around - unit
        cloud = frame.brush((light,) * 3, x, y, unit)
        for dx, dy, radius in ((-0.45, 0, 0.24), (0.45, 0, 0.26), (0.0, 0.12, 0.38)):
            cloud.ellipse(dx, dy, radius * 1.25, radius * 0.75, _CLOUD)


def _draw_thing(frame: _Frame, rng: Random) -> None:
    """The thing, where it is at this moment."""
    scene, (width, height) = frame.scene, frame.size
    unit = height * rng.uniform(0.4, 0.5)
    way, speed, turn = rng.uniform(-1, 1), rng.uniform(0.4, 0.5), rng.uniform(0, pi / 2)
    x, y = width * (0.5 + 0.08 * way), frame.horizon + height * rng.uniform(0.16, 0.26)
    moved = frame.progress - 0.5
    mirrored = way > 0
    if scene.motion.endswith(("left", "right")) and scene.thing in ("boat", "car"):
        mirrored = scene.motion.endswith("left")
        unit *= 0.8
        x += width * speed * moved * (-1 if mirrored else 1)
        y = frame.horizon + height * rng.uniform(0.07, 0.12) if scene.thing == "boat" else y
    elif scene.thing == "balloon":
        unit *= 0.8
        sign = -1 if scene.motion == "rising" else 1
        y = height * 0.66 + sign * height * speed * 0.9 * moved
    brush = frame.brush(frame.light(THING_LIGHT), x, y, unit, mirrored=mirrored)
    colour = COLOURS[scene.colour]
    if scene.thing == "windmill":
        turned = frame.progress * pi * (0.7 + speed) if scene.motion == "turning" else 0.0
        draw_mill(brush, colour)
        draw_blades(brush, turn + turned)
    else:
        DRAWINGS[scene.thing](brush, colour)
