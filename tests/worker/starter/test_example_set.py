"""The example set: fifteen pictures of mixed sizes, ten tags each, quickly drawn."""

from pathlib import Path

import pytest
from PIL import Image

from worker.starter.example_set import example_scenes, unseen_style_scenes, write_example_set


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_example_set(tmp_path_factory.mktemp("set"))


def test_there_are_fifteen_pictures(paths: list[Path]) -> None:
    assert len(paths) == 15
    assert all(path.suffix == ".png" for path in paths)


def test_every_picture_has_ten_different_tags(paths: list[Path]) -> None:
    for path in paths:
        tags = path.with_suffix(".txt").read_text().strip().split(", ")
        assert len(set(tags)) == 10


def test_the_sizes_fill_several_buckets(paths: list[Path]) -> None:
    sizes = set()
    for path in paths:
        with Image.open(path) as picture:
            sizes.add(picture.size)
    assert len(sizes) == 5
    assert {side for size in sizes for side in size} <= {256, 320, 384}


def test_drawing_it_again_gives_the_same_bytes(paths: list[Path], tmp_path: Path) -> None:
    again = write_example_set(tmp_path)
    assert [p.read_bytes() for p in again] == [p.read_bytes() for p in paths]


def test_the_measuring_scenes_are_not_in_the_set() -> None:
    assert not set(unseen_style_scenes()) & set(example_scenes())
    assert len(unseen_style_scenes()) == 15
