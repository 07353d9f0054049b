"""Cutting clips: rates, lengths, windows, buckets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.contract.clips import (
    MAX_WINDOWS,
    MODES,
    Window,
    legal_length,
    resampled_length,
    source_frame,
    spread,
    unused,
    windows,
)
from app.contract.family import ClipRule
from app.contract.jobs import BlobRef, TrainItem
from worker.training.buckets import bucket_sizes
from worker.training.clips import Plan, by_bucket, cut_item

WAN, LTX = ClipRule(fps=16), ClipRule(fps=24, step=8)


def clip(frames: int, fps: float | None, width: int = 640, height: int = 360) -> TrainItem:
    file = BlobRef(sha256="0" * 64, size=1, name="clip.mp4")
    return TrainItem(file=file, width=width, height=height, label="", frames=frames, fps=fps)


def cut(total: int, mode: str, length: int, **more: int) -> list[tuple[int, int]]:
    return [(w.start, w.length) for w in windows(total, WAN, mode=mode, length=length, **more)]


@pytest.mark.parametrize(
    ("frames", "wan", "ltx"),
    [(1, 1, 1), (4, 1, 1), (5, 5, 1), (8, 5, 1), (9, 9, 9), (33, 33, 33), (81, 81, 81), (84, 81, 81),
     (96, 93, 89), (121, 121, 121)],
)  # fmt: skip
def test_lengths_that_families_can_take(frames: int, wan: int, ltx: int) -> None:
    assert (legal_length(frames, WAN), legal_length(frames, LTX)) == (wan, ltx)


@pytest.mark.parametrize(
    ("frames", "fps", "at_16", "at_24"),
    [(150, 30000 / 1001, 80, 120), (49, 8, 98, 147), (60, 60, 16, 24), (1, None, 1, 1), (1, 30, 1, 1),
     (2, 60, 1, 1)],
)  # fmt: skip
def test_clips_keep_their_speed_at_the_rate_of_a_family(
    frames: int, fps: float | None, at_16: int, at_24: int
) -> None:
    assert resampled_length(frames, fps, WAN) == at_16
    assert resampled_length(frames, fps, ClipRule(fps=24)) == at_24


def test_a_frame_of_the_family_shows_what_was_on_screen_at_that_moment() -> None:
    assert [source_frame(n, 60, 32, WAN) for n in range(5)] == [0, 2, 4, 6, 8]
    assert [source_frame(n, 10, 8, WAN) for n in range(6)] == [0, 0, 1, 1, 2, 2]
    assert source_frame(999, 10, 8, WAN) == 9
    assert source_frame(0, 1, None, WAN) == 0


def test_the_ways_to_cut() -> None:
    assert cut(100, "head", 33) == [(0, 33)]
    assert cut(100, "uniform", 33, count=3) == [(0, 33), (34, 33), (67, 33)]
    assert cut(100, "chunks", 33) == [(0, 33), (33, 33), (66, 33), (67, 33)]
    assert cut(99, "chunks", 33) == [(0, 33), (33, 33), (66, 33)]
    assert cut(65, "sliding", 33, stride=16) == [(0, 33), (16, 33), (32, 33)]
    assert cut(65, "sliding", 33) == [(0, 33), (16, 33), (32, 33)]
    assert cut(100, "full", 33) == [(0, 97)]


def test_wanted_lengths_are_brought_to_legal_ones() -> None:
    assert cut(100, "head", 32) == [(0, 29)]
    assert [(w.start, w.length) for w in windows(100, LTX, mode="head", length=32)] == [(0, 25)]


@pytest.mark.parametrize("mode", MODES)
def test_a_short_clip_gives_one_shorter_window(mode: str) -> None:
    assert windows(17, WAN, mode=mode, length=81) == [Window(start=0, length=17)]
    assert windows(1, WAN, mode=mode, length=81) == [Window(start=0, length=1)]


def test_a_clip_between_two_lengths_loses_no_frame_where_windows_move() -> None:
    assert cut(19, "chunks", 81) == [(0, 17), (2, 17)]
    assert cut(19, "head", 81) == [(0, 17)]
    assert unused(19, windows(19, WAN, mode="head", length=81)) == 2


@pytest.mark.parametrize(
    ("mode", "figures"),
    [("middle", {}), ("head", {"length": 0}), ("sliding", {"stride": 0}), ("uniform", {"count": 0})],
)
def test_wrong_figures_are_named(mode: str, figures: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="head, uniform" if mode == "middle" else "at least"):
        windows(50, WAN, mode=mode, **{"length": 33} | figures)


@given(
    total=st.integers(1, 2000), mode=st.sampled_from(MODES), length=st.integers(1, 200),
    stride=st.integers(1, 90), count=st.integers(1, 30), step=st.sampled_from((4, 8)),
)  # fmt: skip
def test_every_window_is_legal_and_inside(
    total: int, mode: str, length: int, stride: int, count: int, step: int
) -> None:
    rule = ClipRule(fps=16, step=step)
    found = windows(total, rule, mode=mode, length=length, stride=stride, count=count)
    assert 1 <= len(found) <= MAX_WINDOWS
    assert len(set(found)) == len(found)
    assert len({window.length for window in found}) == 1
    for window in found:
        assert (window.length - 1) % step == 0
        assert 0 <= window.start < window.end <= total
    if mode == "chunks" and len(found) < MAX_WINDOWS:
        assert unused(total, found) == 0


def test_spread_holds_both_ends() -> None:
    assert spread(100, 5) == [0, 25, 50, 74, 99]
    assert spread(3, 9) == [0, 1, 2]
    assert spread(7, 1) == [0]


def test_buckets_drop_nothing() -> None:
    sizes = bucket_sizes(256, 32)
    items = [clip(150, 30), clip(150, 30, 360, 640), clip(20, 30), clip(1, None), clip(49, 8), clip(40, 16)]
    plan = Plan(WAN, "chunks", 33)
    cuts = [one for number, item in enumerate(items) for one in cut_item(number, item, plan, sizes)]
    groups = by_bucket(cuts)
    assert sum(map(len, groups.values())) == len(cuts)
    assert {one.item for group in groups.values() for one in group} == set(range(len(items)))
    assert list(groups) == sorted(groups)
    assert {bucket[2] for bucket in groups} == {1, 9, 33}
    tall = [bucket for bucket in groups if bucket[0] < bucket[1]]
    assert {one.item for bucket in tall for one in groups[bucket]} == {1}
    for bucket, group in groups.items():
        assert all(len(one.frames) == bucket[2] for one in group)
        assert all(0 <= frame < items[one.item].frames for one in group for frame in one.frames)


def test_full_is_as_long_as_can_be() -> None:
    assert cut(200, "full", 33) == [(0, 197)]
    assert cut(200, "full", 33, longest=81) == [(0, 81)]
    assert cut(40, "full", 33, longest=81) == [(0, 37)]
