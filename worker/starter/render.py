"""Draws a Scene with Pillow: sky, ground, things, weather, then the style's finish.

Everything is drawn at twice the size and reduced, which smooths edges. Light is part of
the colours of sky and ground; the thing takes little of it, so that its colour stays
readable at night. Needs neither numpy nor torch.
"""

from random import Random

from PIL import Image, ImageDraw

from worker.starter.brush import Brush, Colour, mix_colours, scale_colour
from worker.starter.grounds import draw_ground, draw_pond
from worker.starter.scenes import Scene
from worker.starter.styles import STYLE_RULES, Style
from worker.starter.things import DRAWINGS

PIXELS = 128
"""Side of the base's pictures."""

COLOURS: dict[str, Colour] = {
    "red": (206, 44, 42),
    "orange": (242, 134, 30),
    "yellow": (248, 214, 56),
    "green": (44, 146, 70),
    "blue": (48, 94, 204),
    "purple": (132, 60, 176),
    "pink": (244, 150, 190),
    "white": (246, 245, 240),
}
SKY: dict[str, tuple[Colour, Colour]] = {
    "dawn": ((168, 176, 220), (255, 208, 206)),
    "day": ((74, 150, 230), (190, 226, 248)),
    "sunset": ((104, 58, 128), (252, 142, 62)),
    "night": ((8, 12, 42), (34, 46, 98)),
}
GROUND_LIGHT = {
    "dawn": (0.92, 0.86, 0.95),
    "day": (1.0, 1.0, 1.0),
    "sunset": (0.84, 0.62, 0.56),
    "night": (0.27, 0.32, 0.52),
}
THING_LIGHT = {
    "dawn": (0.97, 0.93, 0.97),
    "day": (1.0, 1.0, 1.0),
    "sunset": (0.97, 0.87, 0.83),
    "night": (0.66, 0.68, 0.78),
}
_GREYING = {"clear sky": 0.0, "cloudy": 0.2, "rain": 0.5, "snowfall": 0.35}
_HEIGHTS = {1: (0.42, 0.54), 2: (0.35, 0.42), 3: (0.27, 0.33)}


def render(scene: Scene, size: tuple[int, int] = (PIXELS, PIXELS)) -> Image.Image:
    """The scene as an RGB picture of (width, height) pixels; the same scene, the same pixels."""
    rng = Random(scene.seed)
    style = STYLE_RULES[scene.style]
    width, height = size[0] * 2, size[1] * 2
    canvas = _draw_sky(scene, style, (width, height))
    horizon = height * rng.uniform(0.54, 0.64)
    draw = ImageDraw.Draw(canvas)
    _draw_lights(draw, scene, style, horizon, rng)
    _draw_clouds(draw, scene, style, rng)
    light = GROUND_LIGHT[scene.time]
    draw_ground(scene.ground, make_brush(draw, style, light, 0, horizon, height), rng, width / height)
    _draw_things(draw, scene, style, horizon, rng)
    _draw_weather(draw, scene, rng)
    return style.finish(canvas, rng).resize(size, Image.Resampling.BOX)


def make_brush(
    draw: ImageDraw.ImageDraw,
    style: Style,
    light: tuple[float, float, float],
    x: float,
    y: float,
    unit: float,
    mirrored: bool = False,
) -> Brush:
    height = draw.im.size[1]
    line_width = max(2, round(style.line_width * height))

    def tint(colour: Colour) -> Colour:
        return style.tint(scale_colour(colour, light))

    return Brush(draw, x, y, unit, tint, style.line, line_width, mirrored)


def _sky_colours(scene: Scene) -> tuple[Colour, Colour]:
    top, bottom = SKY[scene.time]
    grey = scale_colour((150, 154, 164), 0.36 if scene.time == "night" else 1.0)
    share = _GREYING[scene.weather]
    return mix_colours(top, grey, share), mix_colours(bottom, grey, share * 0.6)


def _draw_sky(scene: Scene, style: Style, size: tuple[int, int]) -> Image.Image:
    top, bottom = (style.tint(colour) for colour in _sky_colours(scene))
    mask = Image.linear_gradient("L").resize((size[0], int(size[1] * 0.66)))
    canvas = Image.new("RGB", size, bottom)
    sky = Image.composite(Image.new("RGB", mask.size, bottom), Image.new("RGB", mask.size, top), mask)
    canvas.paste(sky, (0, 0))
    return canvas


def _draw_lights(draw: ImageDraw.ImageDraw, scene: Scene, style: Style, horizon: float, rng: Random) -> None:
    """Sun, moon and stars; bad weather hides the high sun and the stars."""
    width, height = draw.im.size
    x = width * rng.choice((rng.uniform(0.08, 0.3), rng.uniform(0.7, 0.92)))
    plain = (1.0, 1.0, 1.0)
    if scene.time == "night":
        _draw_stars(draw, scene, rng)
        moon = make_brush(draw, style, plain, x, height * rng.uniform(0.1, 0.2), height)
        moon.ellipse(0, 0, 0.06, 0.06, (240, 238, 214))
        moon.ellipse(0.012, 0.008, 0.014, 0.014, (206, 204, 186))
    elif scene.time == "sunset":
        sun = make_brush(draw, style, plain, x, horizon - height * 0.02, height)
        sun.ellipse(0, 0, 0.11, 0.11, (255, 206, 96))
    elif scene.time == "dawn":
        sun = make_brush(draw, style, plain, x, horizon - height * 0.01, height)
        sun.ellipse(0, 0, 0.08, 0.08, (255, 246, 226))
    elif scene.weather in ("clear sky", "cloudy"):
        sun = make_brush(draw, style, plain, x, height * rng.uniform(0.1, 0.18), height)
        sun.ellipse(0, 0, 0.07, 0.07, (255, 236, 130))


def _draw_stars(draw: ImageDraw.ImageDraw, scene: Scene, rng: Random) -> None:
    width, height = draw.im.size
    radius = height / 130
    for _ in range(0 if scene.weather != "clear sky" else int(14 * width / height)):
        x, y = rng.uniform(0, width), rng.uniform(0, height * 0.42)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(226, 228, 240))


def _draw_clouds(draw: ImageDraw.ImageDraw, scene: Scene, style: Style, rng: Random) -> None:
    if scene.weather == "clear sky":
        return
    width, height = draw.im.size
    light = {"night": 0.34, "sunset": 0.84, "dawn": 0.97, "day": 1.0}[scene.time]
    white: Colour = (252, 244, 240) if scene.weather == "cloudy" else (176, 180, 190)
    for _ in range(4 if scene.weather == "cloudy" else 5):
        x, y = rng.uniform(0, width), rng.uniform(0.06, 0.3) * height
        unit = height * rng.uniform(0.18, 0.28)
        cloud = make_brush(draw, style, (light,) * 3, x, y, unit)
        for dx, dy, radius in ((-0.45, 0, 0.24), (0.45, 0, 0.26), (0.0, 0.12, 0.38)):
            cloud.ellipse(dx, dy, radius * 1.25, radius * 0.75, white)


def _draw_things(draw: ImageDraw.ImageDraw, scene: Scene, style: Style, horizon: float, rng: Random) -> None:
    width, height = draw.im.size
    low, high = _HEIGHTS[scene.count]
    slot = width / scene.count
    for place in range(scene.count):
        unit = min(height, width) * rng.uniform(low, high)
        x = slot * (place + 0.5) + slot * rng.uniform(-0.1, 0.1)
        y = _foot(scene, horizon, height, rng)
        brush = make_brush(draw, style, THING_LIGHT[scene.time], x, y, unit, rng.random() < 0.5)
        if scene.thing == "boat" and scene.ground != "beach":
            draw_pond(make_brush(draw, style, GROUND_LIGHT[scene.time], x, y, unit))
        DRAWINGS[scene.thing](brush, COLOURS[scene.colour])


def _foot(scene: Scene, horizon: float, height: float, rng: Random) -> float:
    """Where the thing stands, in pixels from the top: balloons fly, boats float."""
    if scene.thing == "balloon":
        return horizon - height * rng.uniform(-0.04, 0.04)
    if scene.thing == "boat" and scene.ground == "beach":
        return horizon + height * rng.uniform(0.07, 0.12)
    return min(height * 0.94, horizon + height * rng.uniform(0.14, 0.28))


def _draw_weather(draw: ImageDraw.ImageDraw, scene: Scene, rng: Random) -> None:
    width, height = draw.im.size
    drops = int(34 * width / height)
    dim = 0.62 if scene.time == "night" else 1.0
    if scene.weather == "rain":
        colour = scale_colour((206, 218, 236), dim)
        for _ in range(drops):
            x, y = rng.uniform(0, width), rng.uniform(0, height)
            end = (x - height * 0.02, y + height * 0.07)
            draw.line((x, y, *end), fill=colour, width=max(2, height // 100))
    elif scene.weather == "snowfall":
        radius = height / 85
        for _ in range(drops):
            x, y = rng.uniform(0, width), rng.uniform(0, height)
            box = (x - radius, y - radius, x + radius, y + radius)
            draw.ellipse(box, fill=scale_colour((250, 251, 255), dim + 0.1 * (dim < 1)))
