"""The pictures and clips of a job: which are trained on, at which size, with which texts, in which order.

A clip gives one example for each window that is cut of it; a picture is one of one frame. The order is
one endless stream of samples, the same however often a run is interrupted: pass after pass, each picture
or clip `repeats` times, its windows in turn, shuffled. A step takes the next batch of the stream. Where
the sizes of a batch differ, the step runs once a size and adds up, so that nothing is dropped.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from app.contract.family import ClipDefaults
from app.contract.jobs import TrainItem, TrainJob
from worker.draws import Draws
from worker.families.resolve import kept_out
from worker.training.buckets import Placement, Size, bucket_sizes, place
from worker.training.captions import kept_in_front, variants, with_trigger
from worker.training.clips import Bucket, Plan, cut_item
from worker.training.errors import TrainingError
from worker.training.film import read_frames


@dataclass(frozen=True)
class Example:
    """One picture, or one window of a clip. `captions` are the texts to choose from, one where nothing is
    shuffled."""

    number: int
    item: TrainItem
    path: Path
    placement: Placement
    captions: tuple[str, ...]
    held_out: bool
    clip: int = field(kw_only=True)
    """Place of the picture or clip in the job."""
    shown: tuple[int, ...] = (0,)
    """Numbers of the stored frames, in order."""

    @property
    def bucket(self) -> Bucket:
        return (*self.placement.bucket, len(self.shown))

    @property
    def caption(self) -> str:
        return self.captions[0]

    def frame(self, *, mirrored: bool) -> tuple[int, ...]:
        """How the picture was cut: `Batch.frames` tells the six numbers."""
        (width, height), (left, top) = self.placement.bucket, self.placement.corner
        if mirrored:
            left = self.placement.scaled[0] - width - left
        return (self.item.height, self.item.width, top, left, height, width)


@dataclass(frozen=True)
class Sample:
    """One turn of a picture in the stream."""

    example: Example
    position: int
    """Place in the stream, from 0: seeds what is drawn for this turn."""


def load_examples(
    job: TrainJob, files: Mapping[str, Path], multiple: int, rng: Draws, clips: ClipDefaults | None = None
) -> list[Example]:
    """Every picture and every window of a clip with its size and texts, in the job's order.

    `clips`: how the family takes clips; None = pictures only.
    """
    params = job.params
    sizes = bucket_sizes(params.resolution, multiple, square_only=not params.enable_bucket)
    held = kept_out([item.file.sha256 for item in job.items]) if params.holdout else frozenset()
    examples: list[Example] = []
    for clip, item in enumerate(job.items):
        label = with_trigger(item.label, job.trigger_word, job.label_type)
        captions = _captions(job, label, clip, rng)
        for shown, placement in _cuts(job, item, sizes, clips):
            examples.append(
                Example(
                    number=len(examples),
                    clip=clip,
                    item=item,
                    path=files[item.file.sha256],
                    placement=placement,
                    captions=captions,
                    held_out=item.file.sha256 in held,
                    shown=shown,
                )
            )
    if not examples:
        raise TrainingError("dataset-empty", "The set is empty. Add something and start again.")
    return examples


def _cuts(
    job: TrainJob, item: TrainItem, sizes: list[Size], clips: ClipDefaults | None
) -> list[tuple[tuple[int, ...], Placement]]:
    """The stored frames of each example that an item gives, and how they are brought to their bucket."""
    if clips is None:
        if item.frames > 1:
            detail = f"{item.file.name} is a clip, and this base model learns from pictures. Choose another."
            raise TrainingError("dataset-media", detail)
        return [((0,), place(item.width, item.height, sizes))]
    p = job.params
    plan = Plan(
        clips.rule, p.clip_windows, p.clip_frames, p.clip_stride, p.clip_count, longest=clips.max_window
    )
    return [(cut.frames, cut.placement) for cut in cut_item(0, item, plan, sizes)]


def _captions(job: TrainJob, label: str, number: int, rng: Draws) -> tuple[str, ...]:
    if not job.params.shuffle_tags:
        return (label,)
    keep = kept_in_front(job.params.keep_tokens, job.trigger_word)
    return tuple(variants(label, number, keep, rng))


def load_pixels(example: Example) -> Tensor:
    """The picture cut to its bucket: [3, height, width] in -1…1. See-through parts become white."""
    placement = example.placement
    try:
        with Image.open(example.path) as opened:
            picture = flatten(ImageOps.exif_transpose(opened))
    except OSError as error:
        detail = f"{example.item.file.name} cannot be read as a picture. Remove it from the set."
        raise TrainingError("image-unreadable", detail) from error
    left, top = placement.corner
    width, height = placement.bucket
    cut = picture.resize(placement.scaled, Image.Resampling.LANCZOS).crop(
        (left, top, left + width, top + height)
    )
    return torch.from_numpy(np.array(cut)).permute(2, 0, 1).float() / 127.5 - 1


def load_clip(example: Example) -> Tensor:
    """The window cut to its bucket: [3, frames, height, width] in -1…1. A picture is one frame."""
    if example.item.frames == 1 and not example.item.fps:
        return load_pixels(example)[:, None]
    placement = example.placement
    left, top = placement.corner
    width, height = placement.bucket
    frames = [
        np.array(
            Image.fromarray(frame)
            .resize(placement.scaled, Image.Resampling.LANCZOS)
            .crop((left, top, left + width, top + height))
        )
        for frame in read_frames(example.path, example.shown, example.item.file.name)
    ]
    return torch.from_numpy(np.stack(frames)).permute(3, 0, 1, 2).float() / 127.5 - 1


def flatten(picture: Image.Image) -> Image.Image:
    """RGB; transparency is laid on white."""
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layered = picture.convert("RGBA")
    ground = Image.new("RGBA", layered.size, "white")
    return Image.alpha_composite(ground, layered).convert("RGB")


class Stream:
    """The endless order of samples. Passes are made when they are reached and depend on (seed, pass)."""

    def __init__(self, examples: list[Example], pass_length: int, batch: int, rng: Draws) -> None:
        """`pass_length` = pictures × repeats; `batch` = samples that run together when their size is one."""
        windows: dict[int, list[Example]] = {}
        for example in examples:
            windows.setdefault(example.clip, []).append(example)
        self._clips = list(windows.values())
        self._length = pass_length
        self._batch = batch
        self._rng = rng
        self._pass: tuple[int, list[Example]] = (-1, [])

    def take(self, first: int, count: int) -> list[Sample]:
        """Samples `first` to `first + count - 1` of the stream."""
        return [Sample(self._at(position), position) for position in range(first, first + count)]

    def _at(self, position: int) -> Example:
        number, place_in_pass = divmod(position, self._length)
        if self._pass[0] != number:
            self._pass = (number, self._order(number))
        return self._pass[1][place_in_pass]

    def _order(self, number: int) -> list[Example]:
        """One pass: whole batches of one size, shuffled; what is left over of each size at both ends.

        Batches are laid where steps begin: `head` samples finish the batch that the last pass began.
        """
        by_size: dict[Bucket, list[Example]] = {}
        for turn in range(number * self._length, (number + 1) * self._length):
            again, clip = divmod(turn, len(self._clips))
            windows = self._clips[clip]
            example = windows[again % len(windows)]
            by_size.setdefault(example.bucket, []).append(example)
        whole: list[list[Example]] = []
        rest: list[Example] = []
        for index, size in enumerate(sorted(by_size)):
            turns = by_size[size]
            mixed = [turns[i] for i in self._rng.order("order", len(turns), number, index)]
            full = len(mixed) // self._batch * self._batch
            whole += [mixed[i : i + self._batch] for i in range(0, full, self._batch)]
            rest += mixed[full:]
        head = -number * self._length % self._batch
        whole = [whole[i] for i in self._rng.order("batches", len(whole), number)]
        while len(rest) < head and whole:
            rest += whole.pop()
        rest = [rest[i] for i in self._rng.order("rest", len(rest), number)]
        return rest[:head] + [example for batch in whole for example in batch] + rest[head:]


def by_size(samples: list[Sample]) -> list[list[Sample]]:
    """The samples in groups of one size, in the order in which the sizes come."""
    groups: dict[Bucket, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.example.bucket, []).append(sample)
    return list(groups.values())
