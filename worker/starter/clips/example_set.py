"""Draws the example set of clips "Tuscan breeze": six moving etchings with captions.

The style is one that the base never saw. Only Pillow is needed: the web process draws the set on
request, as GIFs, which every data set takes.
"""

from io import BytesIO
from pathlib import Path

from worker.starter.clips.render import render_clip
from worker.starter.clips.scenes import UNSEEN_STYLE, MovingScene, scene_sentence

TITLE = "Tuscan breeze"
_FPS = 10
"""GIF counts hundredths of a second; the frames are as fast as the family's own 8 a second need."""
_FRAMES = 22
_SIZES = ((128, 128), (160, 128), (128, 128), (128, 160), (128, 128), (160, 128))
_SUBJECTS: tuple[tuple[str, str, str, str, str], ...] = (
    ("windmill", "white", "golden field", "day", "turning"),
    ("boat", "blue", "beach", "day", "sailing right"),
    ("castle", "yellow", "green hills", "day", "clouds drifting left"),
    ("balloon", "red", "golden field", "day", "rising"),
    ("house", "orange", "golden field", "day", "sun setting"),
    ("tree", "green", "green hills", "day", "clouds drifting right"),
)


def example_scenes(style: str = UNSEEN_STYLE) -> list[MovingScene]:
    """The six scenes of the set, all in one style."""
    return [
        MovingScene(thing, colour, ground, time, motion, style=style, seed=310 + number)
        for number, (thing, colour, ground, time, motion) in enumerate(_SUBJECTS)
    ]


def caption(scene: MovingScene) -> str:
    """What is seen, as a sentence; the style is not named."""
    return f"{scene_sentence(scene)}, old print"


def example_clips(style: str = UNSEEN_STYLE) -> list[tuple[str, bytes, str]]:
    """(file name, bytes of a GIF, caption) of every clip."""
    return [
        (f"breeze-{number + 1}.gif", _gif(scene, size), caption(scene))
        for number, (scene, size) in enumerate(zip(example_scenes(style), _SIZES, strict=True))
    ]


def write_example_clips(folder: Path, style: str = UNSEEN_STYLE) -> list[Path]:
    """Writes the clips, each with its caption in a .txt file; returns the clips' paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, content, words in example_clips(style):
        path = folder / name
        path.write_bytes(content)
        path.with_suffix(".txt").write_text(words + "\n")
        paths.append(path)
    return paths


def _gif(scene: MovingScene, size: tuple[int, int]) -> bytes:
    first, *others = render_clip(scene, size, _FRAMES)
    content = BytesIO()
    first.save(content, "GIF", save_all=True, append_images=others, duration=1000 // _FPS, loop=0)
    return content.getvalue()
