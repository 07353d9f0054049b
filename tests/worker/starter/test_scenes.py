"""Scenes, captions and pictures follow from their seeds and say what they show."""

from random import Random

import pytest

from worker.starter.data import make_scenes
from worker.starter.render import render
from worker.starter.scenes import (
    COLOURS,
    GROUNDS,
    HELD_OUT,
    STYLES,
    THINGS,
    TIMES,
    UNSEEN_STYLES,
    WEATHERS,
    Scene,
    scene_prompt,
    subject_tag,
    training_caption,
)

SCENE = Scene("church", "red", 3, "golden field", "sunset", "clear sky", "ink drawing", seed=1)


def test_the_same_scene_is_drawn_to_the_same_pixels() -> None:
    assert render(SCENE).tobytes() == render(SCENE).tobytes()


def test_the_seed_changes_the_picture() -> None:
    other = Scene(**{**SCENE.__dict__, "seed": 2})
    assert render(SCENE).tobytes() != render(other).tobytes()


@pytest.mark.parametrize("style", [*STYLES, *UNSEEN_STYLES])
def test_every_style_draws_every_size(style: str) -> None:
    scene = Scene(**{**SCENE.__dict__, "style": style})
    assert [render(scene, size).size for size in ((128, 128), (152, 104))] == [
        (128, 128),
        (152, 104),
    ]


@pytest.mark.parametrize("thing", THINGS)
def test_every_thing_changes_the_picture(thing: str) -> None:
    drawn = Scene(**{**SCENE.__dict__, "thing": thing})
    other = Scene(**{**drawn.__dict__, "colour": "blue"})
    assert render(drawn).tobytes() != render(other).tobytes()


def test_the_prompt_names_every_attribute() -> None:
    expected = "three red churches, golden field, sunset, clear sky, ink drawing"
    assert scene_prompt(SCENE) == expected


def test_one_thing_is_not_counted() -> None:
    assert subject_tag(Scene(**{**SCENE.__dict__, "count": 1})) == "red church"


def test_captions_keep_the_subject_and_add_nothing_false() -> None:
    rng = Random(0)
    own = set(scene_prompt(SCENE).split(", "))
    for _ in range(50):
        tags = training_caption(SCENE, rng).split(", ")
        assert subject_tag(SCENE) in tags
        assert set(tags) <= own


def test_captions_sometimes_hold_filler_tags() -> None:
    rng = Random(0)
    captions = [training_caption(SCENE, rng, ("ivy", "oak", "fog", "cup", "map")) for _ in range(40)]
    assert any("ivy" in caption for caption in captions)


def test_fifty_combinations_never_reach_training() -> None:
    assert len(HELD_OUT) == 50
    assert not HELD_OUT & {scene.combination for scene in make_scenes(3000, seed=1)}


def test_held_out_scenes_are_of_those_combinations_only() -> None:
    scenes = make_scenes(100, seed=1, held_out=True)
    assert {scene.combination for scene in scenes} <= HELD_OUT


def test_rare_values_are_as_frequent_as_others() -> None:
    scenes = make_scenes(4000, seed=1)
    for name, choices in (("thing", THINGS), ("colour", COLOURS), ("time", TIMES)):
        counts = [sum(getattr(s, name) == c for s in scenes) for c in choices]
        assert min(counts) > 0.75 * 4000 / len(choices)


def test_every_ground_and_weather_appears() -> None:
    scenes = make_scenes(400, seed=1)
    assert {s.ground for s in scenes} == set(GROUNDS)
    assert {s.weather for s in scenes} == set(WEATHERS)
