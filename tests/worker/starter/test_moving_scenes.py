"""Moving scenes: what a caption says is what moves, and nothing else does."""

from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from worker.starter.clips.example_set import example_clips, example_scenes, write_example_clips
from worker.starter.clips.render import render_clip, render_frame
from worker.starter.clips.scenes import (
    COLOURS,
    FRAMES,
    MOTIONS_OF,
    UNSEEN_STYLE,
    MovingScene,
    make_scenes,
    scene_sentence,
    training_caption,
)

CASES = [(thing, motion) for thing, motions in MOTIONS_OF.items() for motion in motions]


def scene(thing: str, motion: str, seed: int = 5) -> MovingScene:
    return MovingScene(thing, "red", "beach", "day", motion, "flat illustration", seed)


def pixels(picture: Image.Image) -> NDArray[np.int_]:
    return np.asarray(picture).astype(int)


@pytest.mark.parametrize(("thing", "motion"), CASES)
def test_what_moves_is_what_the_motion_says(thing: str, motion: str) -> None:
    first, last = pixels(render_frame(scene(thing, motion), 0)), pixels(render_frame(scene(thing, motion), 1))
    moved = bool((first != last).any())
    assert moved == (motion != "standing still")


@pytest.mark.parametrize(("thing", "left", "right"), [
    ("boat", "sailing left", "sailing right"),
    ("car", "driving left", "driving right"),
])  # fmt: skip
def test_left_is_left_and_right_is_right(thing: str, left: str, right: str) -> None:
    for motion, sign in ((left, -1), (right, 1)):
        places = []
        for progress in (0.0, 1.0):
            picture = pixels(render_frame(scene(thing, motion), progress))
            red = (picture[..., 0] > 150) & (picture[..., 1] < 90) & (picture[..., 2] < 90)
            places.append(np.nonzero(red)[1].mean())
        assert (places[1] - places[0]) * sign > 10


def test_a_balloon_rises_and_sinks() -> None:
    for motion, sign in (("rising", -1), ("sinking", 1)):
        rows = []
        for progress in (0.0, 1.0):
            picture = pixels(render_frame(scene("balloon", motion), progress))
            red = (picture[..., 0] > 150) & (picture[..., 1] < 90) & (picture[..., 2] < 90)
            rows.append(np.nonzero(red)[0].mean())
        assert (rows[1] - rows[0]) * sign > 10


def test_the_same_scene_gives_the_same_pixels_and_others_differ() -> None:
    one = make_scenes(1, seed=3)[0]
    again = [frame.tobytes() for frame in render_clip(one)]
    assert [frame.tobytes() for frame in render_clip(one)] == again
    assert [frame.tobytes() for frame in render_clip(replace(one, seed=one.seed + 1))] != again
    assert len(again) == FRAMES


def test_scenes_of_other_seeds_are_not_the_same() -> None:
    assert not set(make_scenes(50, seed=1)) & set(make_scenes(50, seed=21))
    assert {s.style for s in make_scenes(50, seed=1)}.isdisjoint({UNSEEN_STYLE})


def test_captions_name_what_is_there_and_sometimes_nothing() -> None:
    rng = Random(0)
    captions = [training_caption(scene("boat", "sailing left"), rng) for _ in range(200)]
    assert 5 < captions.count("") < 45
    assert all("red boat" in text and "sailing left" in text for text in captions if text)
    assert scene_sentence(scene("tree", "sun setting")) == "a red tree, sun setting, beach at day"
    orange = replace(scene("car", "driving left"), colour=COLOURS[1])
    assert scene_sentence(orange).startswith("an orange car driving left")


def test_the_example_clips_are_gifs_with_captions(tmp_path: Path) -> None:
    clips = example_clips()
    paths = write_example_clips(tmp_path)
    assert [path.name for path in paths] == [name for name, _, _ in clips]
    assert len(clips) == len(example_scenes()) == 6
    for (_, content, words), path in zip(clips, paths, strict=True):
        assert path.read_bytes() == content
        assert path.with_suffix(".txt").read_text().strip() == words
        with Image.open(path) as movie:
            assert (movie.format, getattr(movie, "n_frames", 1)) == ("GIF", 22)
            assert movie.info["duration"] == 100
