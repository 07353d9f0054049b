"""What a moving scene is: a thing, its colour, the ground, the light, and one motion.

Boats and cars go left or right, balloons rise or sink, a windmill turns or stands still; over what
cannot move by itself the sun sets or rises, or clouds drift. Torch-free.
"""

from dataclasses import dataclass
from random import Random

FRAMES = 17
FPS = 8
PIXELS = 64

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
GROUNDS = ("green hills", "golden field", "beach", "snow")
TIMES = ("day", "night")
STYLES = ("flat illustration",)
OTHER_STYLES = ("ink drawing", "pastel drawing", "pixel art")
"""Of clips that only the autoencoder's decoder sees, so that LoRAs of other styles are drawn well."""
UNSEEN_STYLE = "tuscan etching"
"""Of the example set only; the base never sees it."""

_SKIES = ("sun setting", "sun rising", "clouds drifting left", "clouds drifting right")
MOTIONS_OF: dict[str, tuple[str, ...]] = {
    "boat": ("sailing left", "sailing right"),
    "car": ("driving left", "driving right"),
    "balloon": ("rising", "sinking"),
    "windmill": ("turning", "standing still"),
    "house": _SKIES,
    "tree": _SKIES,
    "castle": _SKIES,
}
THINGS = tuple(MOTIONS_OF)
MOTIONS = tuple(dict.fromkeys(motion for motions in MOTIONS_OF.values() for motion in motions))


@dataclass(frozen=True)
class MovingScene:
    """One clip's attributes; equal scenes are drawn to equal pixels."""

    thing: str
    colour: str
    ground: str
    time: str
    motion: str
    style: str
    seed: int
    """Decides places, sizes and speed, nothing that a caption names."""


def sample_scene(rng: Random, style: str = STYLES[0]) -> MovingScene:
    """A random scene, every thing and each of its motions equally often."""
    thing = rng.choice(THINGS)
    motion = rng.choice(MOTIONS_OF[thing])
    time = "day" if "sun" in motion else rng.choice(TIMES)
    return MovingScene(
        thing=thing,
        colour=rng.choice(COLOURS),
        ground="beach" if thing == "boat" else rng.choice(GROUNDS),
        time=time,
        motion=motion,
        style=style,
        seed=rng.getrandbits(32),
    )


def make_scenes(count: int, seed: int, style: str = STYLES[0]) -> list[MovingScene]:
    """`count` random scenes; other seeds give scenes that training has not seen."""
    rng = Random(f"clips {seed}")
    return [sample_scene(rng, style) for _ in range(count)]


def scene_tags(scene: MovingScene) -> list[str]:
    """The tags that say all about a scene, the most important first."""
    return [f"{scene.colour} {scene.thing}", scene.motion, scene.ground, scene.time]


def scene_prompt(scene: MovingScene) -> str:
    """The full caption in its fixed order, as the gate prompts with it."""
    return ", ".join(scene_tags(scene))


def scene_sentence(scene: MovingScene) -> str:
    """The same as a sentence: a red boat sailing left, beach at night."""
    subject, motion, ground, time = scene_tags(scene)
    article = "an" if subject[0] in "aeiou" else "a"
    does = f", {motion}" if motion in _SKIES else f" {motion}"
    return f"{article} {subject}{does}, {ground} at {time}"


def training_caption(scene: MovingScene, rng: Random, extra_tags: tuple[str, ...] = ()) -> str:
    """A caption as people write them: some as a sentence, tags in any order, some left out or meaningless.

    Meaningless ones teach that an unknown word changes little. One caption in ten is empty, for guidance.
    """
    if rng.random() < 0.1:
        return ""
    subject, motion, ground, time = scene_tags(scene)
    if rng.random() < 0.2:
        return scene_sentence(scene)
    tags = [subject, motion, *(tag for tag in (ground, time) if rng.random() > 0.1)]
    if extra_tags and rng.random() < 0.3:
        tags += rng.sample(extra_tags, rng.randint(1, 4))
    if rng.random() < 0.5:
        rng.shuffle(tags)
    return ", ".join(tags)
