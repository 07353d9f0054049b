"""Clips → windows in buckets of one shape and length. Torch-free.

A bucket is (width, height, frames): samples of one batch must agree in all three. Every window has
one, so nothing is dropped; a short clip or a picture lands in a bucket of its own length.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from app.contract.clips import Window, resampled_length, source_frame, windows
from app.contract.family import ClipRule
from app.contract.jobs import TrainItem
from worker.training.buckets import Placement, Size, place

Bucket = tuple[int, int, int]
"""Width and height in pixels, frames."""


@dataclass(frozen=True)
class Plan:
    """How clips are cut; the words are those of `app.contract.clips.windows`."""

    rule: ClipRule
    mode: str
    length: int
    stride: int | None = None
    count: int = 4
    longest: int | None = None
    """Frames that a window may have at most, where it is `full`."""


@dataclass(frozen=True)
class Cut:
    """One sample: a window of item `item` and how its frames are brought to the bucket's size."""

    item: int
    window: Window
    frames: tuple[int, ...]
    """Numbers of the stored frames, in order; one stands twice where the family's rate is higher."""
    placement: Placement

    @property
    def bucket(self) -> Bucket:
        return (*self.placement.bucket, len(self.frames))


def cut_item(number: int, item: TrainItem, plan: Plan, sizes: list[Size]) -> list[Cut]:
    """All windows of one clip; a picture gives one of one frame. `sizes`: see buckets.bucket_sizes."""
    rule, placement = plan.rule, place(item.width, item.height, sizes)
    total = resampled_length(item.frames, item.fps, rule)
    cut = windows(
        total, rule, mode=plan.mode, length=plan.length, stride=plan.stride, count=plan.count,
        longest=plan.longest,
    )  # fmt: skip
    return [
        Cut(
            item=number,
            window=window,
            frames=tuple(
                source_frame(at, item.frames, item.fps, rule) for at in range(window.start, window.end)
            ),
            placement=placement,
        )
        for window in cut
    ]


def by_bucket(cuts: Iterable[Cut]) -> dict[Bucket, list[Cut]]:
    """The same windows, grouped; buckets in a fixed order, so that every run agrees."""
    groups: dict[Bucket, list[Cut]] = {}
    for cut in cuts:
        groups.setdefault(cut.bucket, []).append(cut)
    return dict(sorted(groups.items()))
