"""What a scene is: the attributes that are drawn, named in captions and judged.

The gate asks for combinations that training never showed, so the held-out ones are
fixed here, by a seed, and `sample_scene` never returns one of them unless asked.
"""

from dataclasses import dataclass
from itertools import product
from random import Random

THINGS = (
    "house",
    "tower",
    "church",
    "windmill",
    "castle",
    "lighthouse",
    "tree",
    "cypress",
    "boat",
    "tent",
    "balloon",
    "car",
)
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
GROUNDS = ("green hills", "golden field", "desert", "snow", "beach", "mountains", "lavender field")
TIMES = ("dawn", "day", "sunset", "night")
WEATHERS = ("clear sky", "cloudy", "rain", "snowfall")
STYLES = ("flat illustration", "ink drawing", "pastel drawing", "pixel art")
UNSEEN_STYLES = ("tuscan etching", "neon lines")
"""Drawn for LoRA training and its bench only; the base never sees them."""

_PLURALS = {"church": "churches", "cypress": "cypresses"}
_NUMBERS = {2: "two", 3: "three"}
_WEATHER_ODDS = (5, 3, 2, 2)
_COUNT_ODDS = (6, 2, 2)

Combination = tuple[str, str, str]


@dataclass(frozen=True)
class Scene:
    """One picture's attributes; equal scenes are drawn to equal pixels."""

    thing: str
    colour: str
    count: int
    ground: str
    time: str
    weather: str
    style: str
    seed: int
    """Decides places, sizes and small variations, nothing that a caption names."""

    @property
    def combination(self) -> Combination:
        """What is held out together: thing, colour, ground."""
        return (self.thing, self.colour, self.ground)


def _choose_held_out() -> frozenset[Combination]:
    combinations = list(product(THINGS, COLOURS, GROUNDS))
    return frozenset(Random(1).sample(combinations, 50))


HELD_OUT = _choose_held_out()


def sample_scene(rng: Random, styles: tuple[str, ...] = STYLES, *, held_out: bool = False) -> Scene:
    """A random scene, every thing, colour, ground and time equally often."""
    while True:
        combination = (rng.choice(THINGS), rng.choice(COLOURS), rng.choice(GROUNDS))
        if (combination in HELD_OUT) == held_out:
            break
    thing, colour, ground = combination
    return Scene(
        thing=thing,
        colour=colour,
        count=rng.choices((1, 2, 3), _COUNT_ODDS)[0],
        ground=ground,
        time=rng.choice(TIMES),
        weather=rng.choices(WEATHERS, _WEATHER_ODDS)[0],
        style=rng.choice(styles),
        seed=rng.getrandbits(32),
    )


def subject_tag(scene: Scene) -> str:
    """Colour and thing in one tag, such as "three red churches", so that they bind."""
    if scene.count == 1:
        return f"{scene.colour} {scene.thing}"
    plural = _PLURALS.get(scene.thing, scene.thing + "s")
    return f"{_NUMBERS[scene.count]} {scene.colour} {plural}"


def scene_tags(scene: Scene) -> list[str]:
    """The tags that say all about a scene, the most important first."""
    return [subject_tag(scene), scene.ground, scene.time, scene.weather, scene.style]


def scene_prompt(scene: Scene) -> str:
    """The full caption in its fixed order, as the gate prompts with it."""
    return ", ".join(scene_tags(scene))


def training_caption(scene: Scene, rng: Random, extra_tags: tuple[str, ...] = ()) -> str:
    """A caption as people write them: half of the time shuffled, some tags left out,
    and in one of three a few tags that mean nothing for the picture.

    Those teach the text encoder that an unknown word changes little, which keeps
    untrained embeddings tame when a LoRA's captions bring new words.
    """
    subject, *rest = scene_tags(scene)
    tags = [subject, *(tag for tag in rest if rng.random() > 0.08)]
    if extra_tags and rng.random() < 0.35:
        tags += rng.sample(extra_tags, rng.randint(1, 5))
        rng.shuffle(tags)
    elif rng.random() < 0.5:
        rng.shuffle(tags)
    return ", ".join(tags)
