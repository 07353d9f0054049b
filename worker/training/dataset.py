"""The pictures of a job: which are trained on, at which size, with which texts, in which order.

The order is one endless stream of samples, the same however often a run is interrupted: pass after
pass, each picture `repeats` times, shuffled. A step takes the next batch of the stream. Where the
sizes of a batch differ, the step runs once a size and adds up, so that no picture is dropped.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from app.contract.jobs import TrainItem, TrainJob
from worker.draws import Draws
from worker.families.resolve import kept_out
from worker.training.buckets import Placement, bucket_sizes, place
from worker.training.captions import kept_in_front, variants, with_trigger
from worker.training.errors import TrainingError


@dataclass(frozen=True)
class Example:
    """One picture of the set. `captions` are the texts to choose from, one where nothing is shuffled."""

    number: int
    item: TrainItem
    path: Path
    placement: Placement
    captions: tuple[str, ...]
    held_out: bool

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


def load_examples(job: TrainJob, files: Mapping[str, Path], multiple: int, rng: Draws) -> list[Example]:
    """Every picture of the job with its size and texts, in the job's order."""
    params = job.params
    sizes = bucket_sizes(params.resolution, multiple, square_only=not params.enable_bucket)
    held = kept_out([item.file.sha256 for item in job.items]) if params.holdout else frozenset()
    examples = []
    for number, item in enumerate(job.items):
        label = with_trigger(item.label, job.trigger_word, job.label_type)
        examples.append(
            Example(
                number=number,
                item=item,
                path=files[item.file.sha256],
                placement=place(item.width, item.height, sizes),
                captions=_captions(job, label, number, rng),
                held_out=item.file.sha256 in held,
            )
        )
    if not examples:
        raise TrainingError("dataset-empty", "The set has no pictures. Add some and start again.")
    return examples


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
        self._examples = examples
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
        by_size: dict[tuple[int, int], list[Example]] = {}
        count = len(self._examples)
        for turn in range(number * self._length, (number + 1) * self._length):
            example = self._examples[turn % count]
            by_size.setdefault(example.placement.bucket, []).append(example)
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
    groups: dict[tuple[int, int], list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.example.placement.bucket, []).append(sample)
    return list(groups.values())
