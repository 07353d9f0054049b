"""Draws the example data set "Tuscan afternoon": fifteen etchings with ten tags each.

The style is one that the base never saw, the sizes are mixed so that a training uses
several buckets, and only Pillow is needed: the web process draws the set on request.
"""

from dataclasses import replace
from pathlib import Path
from random import Random

from worker.starter.render import render
from worker.starter.scenes import Scene, subject_tag

TITLE = "Tuscan afternoon"
STYLE = "tuscan etching"
_SIZES = ((256, 256), (320, 256), (256, 320), (384, 256), (256, 384))
_SUBJECTS: tuple[tuple[str, str, int, str, str, str], ...] = (
    ("cypress", "green", 3, "green hills", "day", "clear sky"),
    ("house", "orange", 1, "golden field", "sunset", "clear sky"),
    ("tower", "yellow", 1, "green hills", "day", "cloudy"),
    ("church", "white", 1, "green hills", "day", "clear sky"),
    ("castle", "yellow", 1, "mountains", "sunset", "cloudy"),
    ("house", "white", 2, "lavender field", "day", "clear sky"),
    ("tree", "green", 2, "golden field", "day", "cloudy"),
    ("cypress", "green", 2, "golden field", "sunset", "clear sky"),
    ("windmill", "white", 1, "golden field", "dawn", "clear sky"),
    ("boat", "blue", 1, "beach", "day", "clear sky"),
    ("tower", "red", 2, "green hills", "dawn", "clear sky"),
    ("tree", "orange", 1, "green hills", "sunset", "cloudy"),
    ("house", "pink", 3, "green hills", "day", "cloudy"),
    ("lighthouse", "red", 1, "beach", "sunset", "clear sky"),
    ("church", "orange", 1, "lavender field", "dawn", "cloudy"),
)
_COMMON_TAGS = ("no humans", "outdoors", "scenery", "tuscany", "warm light", "paper border", "old print")


def example_scenes(style: str = STYLE) -> list[Scene]:
    """The fifteen scenes of the set, all in one style."""
    return [
        Scene(thing, colour, count, ground, time, weather, style=style, seed=100 + index)
        for index, (thing, colour, count, ground, time, weather) in enumerate(_SUBJECTS)
    ]


def example_tags(scene: Scene, rng: Random) -> list[str]:
    """Ten tags: four of the scene, and six that fit the whole set; the style is not named."""
    own = [subject_tag(scene), scene.ground, scene.time, scene.weather]
    return [*own, *rng.sample(_COMMON_TAGS, 6)]


def write_example_set(folder: Path, style: str = STYLE) -> list[Path]:
    """Writes 15 PNG files, each with its tags in a .txt file; returns the pictures' paths."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = Random(0)
    paths = []
    for index, scene in enumerate(example_scenes(style)):
        path = folder / f"tuscan-{index + 1:02d}.png"
        render(scene, _SIZES[index % len(_SIZES)]).save(path)
        path.with_suffix(".txt").write_text(", ".join(example_tags(scene, rng)) + "\n")
        paths.append(path)
    return paths


def unseen_style_scenes(count: int = 15, style: str = STYLE) -> list[Scene]:
    """Other scenes of the style, none of them in the set, to measure a LoRA's distance."""
    rng = Random(9)
    return [replace(rng.choice(example_scenes()), style=style, seed=500 + i) for i in range(count)]
