"""Sizes, texts and order of the pictures."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.worker.tiny import tiny_job, tiny_pictures
from worker.draws import Draws
from worker.training.buckets import bucket_sizes, place
from worker.training.captions import shuffled, split_tags, variants, with_trigger
from worker.training.dataset import Example, Stream, by_size, flatten, load_examples, load_pixels

SIZES = bucket_sizes(128, 8)


def test_bucket_sizes_are_on_the_grid_and_no_larger_than_asked() -> None:
    for resolution, multiple in ((128, 8), (512, 64), (100, 16)):
        sizes = bucket_sizes(resolution, multiple)
        side = resolution // multiple * multiple
        assert (side, side) in sizes
        assert all(w % multiple == h % multiple == 0 and w * h <= resolution**2 for w, h in sizes)
        assert {(h, w) for w, h in sizes} == set(sizes)
    assert bucket_sizes(128, 8, square_only=True) == [(128, 128)]


@given(st.integers(16, 4000), st.integers(16, 4000))
def test_every_picture_has_a_place_that_it_covers(width: int, height: int) -> None:
    placement = place(width, height, SIZES)
    assert placement.bucket in SIZES
    for side in (0, 1):
        assert placement.scaled[side] >= placement.bucket[side]
        assert 0 <= placement.corner[side] <= placement.scaled[side] - placement.bucket[side]
    grows = placement.bucket[0] > width or placement.bucket[1] > height
    assert placement.enlarged == grows


def test_the_nearest_shape_is_taken() -> None:
    assert place(1000, 1000, SIZES).bucket == (128, 128)
    wide, high = place(1500, 1000, SIZES).bucket, place(1000, 1500, SIZES).bucket
    assert wide == high[::-1]
    assert 1.4 < wide[0] / wide[1] < 1.6


def examples(*buckets: tuple[int, int]) -> list[Example]:
    item: Any = None
    return [
        Example(number, item, Path(), place(*bucket, [bucket]), ("",), held_out=False, clip=number)
        for number, bucket in enumerate(buckets)
    ]


@given(
    st.lists(st.sampled_from([(64, 64), (96, 64), (64, 96)]), min_size=1, max_size=9),
    st.integers(1, 4),
    st.integers(1, 5),
)
def test_no_picture_is_dropped_in_any_pass(buckets: list[tuple[int, int]], repeats: int, batch: int) -> None:
    chosen = examples(*buckets)
    length = len(chosen) * repeats
    stream = Stream(chosen, length, batch, Draws(1))
    for number in range(3):
        turns = stream.take(number * length, length)
        assert Counter(turn.example.number for turn in turns) == dict.fromkeys(range(len(chosen)), repeats)
        assert [turn.position for turn in turns] == list(range(number * length, (number + 1) * length))


def test_the_turns_of_kept_out_pictures_go_to_the_others() -> None:
    chosen = examples(*[(64, 64)] * 7)
    stream = Stream(chosen, 8, 4, Draws(1))
    counts = Counter(turn.example.number for turn in stream.take(0, 56))
    assert counts == dict.fromkeys(range(7), 8)


def test_most_batches_are_of_one_size_and_begin_where_steps_begin() -> None:
    chosen = examples(*[(64, 64)] * 7, *[(96, 64)] * 6)
    stream = Stream(chosen, 13 * 5, 4, Draws(1))
    mixed = sum(len(by_size(stream.take(step * 4, 4))) > 1 for step in range(3 * 65 // 4))
    assert mixed <= 3 * 3
    assert by_size(stream.take(0, 65))[0][0].example.placement.bucket in {(64, 64), (96, 64)}


def test_the_order_depends_on_seed_and_pass_alone() -> None:
    chosen = examples(*[(64, 64)] * 10)

    def order(seed: int, first: int) -> list[int]:
        return [turn.example.number for turn in Stream(chosen, 10, 2, Draws(seed)).take(first, 10)]

    assert order(1, 10) == order(1, 10)
    assert order(1, 10) != order(1, 0)
    assert order(1, 10) != order(2, 10)


def test_pictures_are_cut_turned_and_laid_on_white(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    assert flatten(clear).getpixel((0, 0)) == (255, 255, 255)
    assert flatten(Image.new("L", (2, 2), 7)).getpixel((0, 0)) == (7, 7, 7)
    (path,) = tiny_pictures(tmp_path, 1, ((120, 60),))
    job = tiny_job([path])
    (example,) = load_examples(job, {job.items[0].file.sha256: path}, 8, Draws(0))
    pixels = load_pixels(example)
    width, height = example.placement.bucket
    assert pixels.shape == (3, height, width)
    assert -1 <= float(pixels.min()) < float(pixels.max()) <= 1


@pytest.mark.parametrize(
    ("label", "kind", "expected"),
    [
        ("a house, a tree", "tag", "ruskin, a house, a tree"),
        ("a house, Ruskin", "tag", "ruskin, a house"),
        ("", "tag", "ruskin"),
        ("A house.", "caption", "ruskin A house."),
        ("A house by Ruskin.", "caption", "A house by Ruskin."),
        ("", "caption", "ruskin"),
    ],
)
def test_the_trigger_word_is_in_front_once(label: str, kind: str, expected: str) -> None:
    assert with_trigger(label, " ruskin ", kind) == expected
    assert with_trigger(" a ", "", kind) == "a"


def test_shuffling_keeps_the_first_tags_and_all_of_them() -> None:
    caption = "one, two, three, four, five, six"
    made = variants(caption, 3, 2, Draws(0))
    assert len(set(made)) > 4
    for text in made:
        assert text.startswith("one, two, ")
        assert sorted(split_tags(text)) == sorted(split_tags(caption))
    assert shuffled(caption, 0, Draws(0), 1, 2) == shuffled(caption, 0, Draws(0), 1, 2)


def test_kept_tags_come_behind_the_trigger_word(tmp_path: Path) -> None:
    (path,) = tiny_pictures(tmp_path, 1)

    def fronts(keep: int, trigger: str) -> set[tuple[str, ...]]:
        job = tiny_job([path], shuffle_tags=True, keep_tokens=keep, trigger_word=trigger)
        item = job.items[0].model_copy(update={"label": "a, b, c, d, e"})
        job = job.model_copy(update={"items": (item,)})
        (example,) = load_examples(job, {item.file.sha256: path}, 8, Draws(1))
        return {tuple(caption.split(", ")[:2]) for caption in example.captions}

    assert fronts(1, "brush") == {("brush", "a")}
    assert len(fronts(0, "brush")) > 1
    assert {front[0] for front in fronts(0, "brush")} == {"brush"}
    assert {front[0] for front in fronts(1, "")} == {"a"}


def test_draws_depend_on_what_they_are_for() -> None:
    one, two = Draws(1), Draws(2)
    noise = one.normal("noise", [(0,), (1,)], (3,))
    assert torch.equal(noise[1:], one.normal("noise", [(1,)], (3,)))
    assert not torch.equal(noise, one.normal("offset", [(0,), (1,)], (3,)))
    assert not torch.equal(noise, two.normal("noise", [(0,), (1,)], (3,)))
    share = sum(one.chance("dropout", 0.3, number) for number in range(1000)) / 1000
    assert 0.25 < share < 0.35
    assert sorted(one.order("order", 9)) == list(range(9))
    assert one.below("timestep", [(n,) for n in range(200)], 7).unique().tolist() == list(range(7))
