"""How much memory a training takes, before it starts, and what to change where that is too much.

Torch-free: the wizard and the dry run show it. Three phases have a peak of their own: encoding the set,
the steps, and drawing samples. Weights, adapter and optimizer follow from counts; what computing takes
was measured, or computed from the models' shapes (`TrainMemory`). All sizes are bytes. Of families of
clips a pixel is one of a latent frame: of `step` frames of the clip, the first frame alone.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from app.contract.clips import resampled_length, windows
from app.contract.family import DeviceMemory, FamilySpec, TrainMemory
from app.contract.jobs import SamplePrompt, TrainItem, TrainJob, TrainParams

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
OPTIMIZER = {"adamw": 8, "prodigy": 16, "adafactor": 1}
"""Bytes of state for each number of the adapter, which itself takes 4, and its gradient 4."""
TILE = 512 * 512
"""Pixels that are decoded at once where samples are drawn in tiles."""
MAX_ACCUMULATION = 16
OUTSIDE = 1.1
"""Of host memory where weights wait: they fill its pieces not quite."""
PROCESS = 2 << 30
"""Bytes of host memory that a training on a card takes beside weights that wait there."""


def read_memory(spec_file: str) -> TrainMemory | None:
    """What `./dev bench memory` wrote beside this spec."""
    path = Path(spec_file).with_name("memory.json")
    return TrainMemory.model_validate_json(path.read_text()) if path.exists() else None


@dataclass(frozen=True)
class Needs:
    """Peaks of the three phases."""

    caching: int
    training: int
    sampling: int
    host: int = 0
    """Of the machine's own memory, where weights wait there for their turn on a card."""

    @property
    def peak(self) -> int:
        return max(self.caching, self.training, self.sampling)

    @property
    def phase(self) -> str:
        """The phase that has the peak."""
        return max(("training", "caching", "sampling"), key=lambda name: getattr(self, name))


class Asked(Protocol):
    """What of a job decides how much memory it takes."""

    @property
    def params(self) -> TrainParams: ...

    @property
    def sample_prompts(self) -> Sequence[SamplePrompt]: ...

    @property
    def sparing(self) -> bool: ...

    @property
    def streamed(self) -> bool: ...

    @property
    def quantised(self) -> bool: ...

    @property
    def items(self) -> Sequence[object]: ...


class Figures(NamedTuple):
    """`Asked` without the rest of a job."""

    params: TrainParams
    sample_prompts: Sequence[SamplePrompt] = ()
    sparing: bool = False
    items: Sequence[object] = ()
    """Pictures and clips of the set, or anything as long where their lengths are not known."""
    streamed: bool = False
    quantised: bool = False


def needs(spec: FamilySpec, job: Asked, device: str) -> Needs | None:
    """Peaks of this job on a `cpu` or `cuda` device; None where the family's memory is not known."""
    if spec.memory is None or device not in spec.memory.devices:
        return None
    facts, on, p = spec.memory, spec.memory.devices[device], job.params
    model = weight_bytes(facts, job)
    held = on.overhead + cache_bytes(spec, facts, job)
    live_text = 4 * facts.text + facts.text_step * p.batch_size if p.text_encoder_lr else 0
    text = facts.text * (BYTES[p.precision] if spec.clips else 4)
    frames = latent_frames(spec, longest_window(spec, job))
    step = step_bytes(on, p) * frames
    return Needs(
        caching=round(held + _caching(facts, on, job, device, text, frames)),
        training=round(held + model + live_text + adapter_bytes(facts, p) + step),
        sampling=round(held + model + adapter_bytes(facts, p) + _sampling(spec, on, job, device, text)),
        host=host_bytes(facts, job) if device != "cpu" else 0,
    )


def weight_bytes(facts: TrainMemory, job: Asked) -> int:
    """The networks on the device. Of streamed blocks two are there: one at work, and the one before it.

    Blocks in int8 are brought to full precision for their turn, one at a time.
    """
    whole = BYTES[job.params.precision]
    blocks = 2 * facts.block if job.streamed else facts.blocks
    each, turn = (1, whole * facts.block) if job.quantised else (whole, 0)
    return whole * (facts.model - facts.blocks) + each * blocks + turn


def host_bytes(facts: TrainMemory, job: Asked) -> int:
    """Blocks that wait outside of the card, and what a process needs there anyway."""
    if not job.streamed:
        return 0
    weights = facts.blocks * (1 if job.quantised else BYTES[job.params.precision])
    return round(OUTSIDE * weights) + PROCESS


def latent_frames(spec: FamilySpec, frames: int) -> int:
    """Of a clip of so many frames; 1 where the family knows pictures only."""
    return 1 + (frames - 1) // spec.clips.rule.step if spec.clips else 1


def cut_lengths(spec: FamilySpec, item: object, p: TrainParams) -> list[int]:
    """Frames of each window that a training cuts of this item; of one that only was counted, as usual."""
    if spec.clips is None:
        return [1]
    if not isinstance(item, TrainItem):
        return [p.clip_frames] * p.clip_count
    total = resampled_length(item.frames, item.fps, spec.clips.rule)
    cut = windows(
        total, spec.clips.rule, mode=p.clip_windows, length=p.clip_frames, stride=p.clip_stride,
        count=p.clip_count, longest=spec.clips.max_window,
    )  # fmt: skip
    return [window.length for window in cut]


def longest_window(spec: FamilySpec, job: Asked) -> int:
    """Frames of the longest window of the set; without a set, as long as one may be."""
    lengths = [length for item in job.items for length in cut_lengths(spec, item, job.params)]
    return max(lengths, default=job.params.clip_frames)


def cache_bytes(spec: FamilySpec, facts: TrainMemory, job: Asked) -> int:
    """Latents and captions of the whole set, which stay on the device."""
    p = job.params
    frames = sum(latent_frames(spec, n) for item in job.items for n in cut_lengths(spec, item, p))
    captions = 0 if p.text_encoder_lr else facts.caption * len(job.items)
    return round(frames * facts.latent * p.resolution**2 * (2 if p.flip else 1) + captions)


def adapter_bytes(facts: TrainMemory, p: TrainParams) -> int:
    """Adapter, gradients and the optimizer's state, and a copy in the precision of the model."""
    count = facts.rank * p.network_dim if p.unet_lr else 0
    count += facts.rank_convolutions * (p.conv_dim or 0) if p.unet_lr else 0
    count += facts.rank_text * p.network_dim if p.text_encoder_lr else 0
    return count * (8 + OPTIMIZER[p.optimizer] + (0 if p.precision == "fp32" else 2))


def step_bytes(on: DeviceMemory, p: TrainParams) -> float:
    """What the forward pass of one batch keeps."""
    pixel = (on.step_checkpointed if p.gradient_checkpointing else on.step)[p.precision]
    return pixel * p.batch_size * p.resolution**2


def _caching(facts: TrainMemory, on: DeviceMemory, job: Asked, device: str, text: int, frames: int) -> float:
    """The encoders, at work one after the other; the model waits outside of a card."""
    pictures = 4 * facts.vae + on.encode * job.params.resolution**2 * frames
    if device == "cpu":
        return facts.model * BYTES[job.params.precision] + text + pictures
    return max(text, pictures) if job.sparing else text + pictures


def _sampling(spec: FamilySpec, on: DeviceMemory, job: Asked, device: str, text: int) -> float:
    """The encoders that come back, and the largest sample."""
    if not job.sample_prompts or spec.memory is None:
        return 0
    pixels = [(prompt.width * prompt.height, prompt.frames) for prompt in job.sample_prompts]
    if job.sparing:
        pixels = [(min(area, TILE), frames) for area, frames in pixels]
    most = max(area * latent_frames(spec, frames) for area, frames in pixels)
    outside = job.sparing and device != "cpu"
    return (0 if outside else text) + 4 * spec.memory.vae + on.draw * most


@dataclass(frozen=True)
class Change:
    """One setting that is not as it was, in words that go on from “…, because the card has 8 GB”."""

    field: str
    before: Any
    after: Any
    words: str


@dataclass(frozen=True)
class Fit:
    """A job as it fits, or the smallest form of it that keeps what must not be changed."""

    job: TrainJob
    needs: Needs
    changes: tuple[Change, ...]
    fits: bool
    host: int = 0
    """Bytes of host memory that would have helped further, where there are fewer."""


def fit(
    spec: FamilySpec, job: TrainJob, device: str, available: int, *,
    fixed: Collection[str] = (), factor: float = 1.0, host: int | None = None,
) -> Fit | None:  # fmt: skip
    """Change as little as makes the job fit in `available` bytes, in the order of `remedies`.

    Settings named in `fixed` stay. `factor` corrects the estimate by what was measured here. Remedies that
    need more than `host` bytes of the machine's own memory are passed over; None = it has enough. None
    where nothing is known of the family's memory.
    """
    found = needs(spec, job, device)
    if found is None:
        return None
    changes: list[Change] = []
    short = 0
    while corrected(found, factor).peak > available:
        phase = _tight(corrected(found, factor), available)
        cures = list(remedies(job, fixed, phase=phase, ways=weight_ways(spec, device)))
        told = [needs(spec, smaller, device) or found for smaller, _ in cures]
        chosen = next((n for n, needed in enumerate(told) if host is None or needed.host <= host), None)
        if chosen is None:
            short = min((needed.host for needed in told), default=0)
            break
        (job, made), found = cures[chosen], told[chosen]
        changes += made
    found = corrected(found, factor)
    return Fit(job, found, _joined(changes), found.peak <= available, short)


def weight_ways(spec: FamilySpec, device: str) -> tuple[str, ...]:
    """What can be done with the weights of this family's blocks, as `remedies` wants it.

    Waiting in host memory comes first: it costs time, and less of it the longer a step is, but no number
    changes. int8 comes where the host has no room either, and halves what waits there.
    """
    if spec.memory is None or not spec.memory.blocks:
        return ()
    return ("streamed", "quantised") if device == "cuda" else ("quantised",)


def _tight(found: Needs, available: int) -> str:
    """The phase to help first: the steps, where these do not fit."""
    return "training" if found.training > available else found.phase


def corrected(found: Needs, factor: float) -> Needs:
    caching, training, sampling = (
        round(factor * peak) for peak in (found.caching, found.training, found.sampling)
    )
    return replace(found, caching=caching, training=training, sampling=sampling)


def remedies(
    job: TrainJob, fixed: Collection[str] = (), *, phase: str = "training", ways: Collection[str] = ()
) -> Iterator[tuple[TrainJob, list[Change]]]:
    """The job made smaller in one way each, what costs least first.

    No remedy changes what a step learns from: a smaller batch is made up for by accumulation. Of `ways`
    (see `weight_ways`) only int8 changes the numbers, in the third digit.
    """
    if phase in ("caching", "sampling") and not job.sparing:
        yield _held(job, "sparing")
    if phase == "training":
        yield from _smaller_steps(job, fixed)
    if phase == "caching":
        return
    if "streamed" in ways and not job.streamed and job.params.gradient_checkpointing:
        yield _held(job, "streamed")
    if "quantised" in ways and not job.quantised:
        yield _held(job, "quantised")


def _smaller_steps(job: TrainJob, fixed: Collection[str]) -> Iterator[tuple[TrainJob, list[Change]]]:
    p = job.params
    if not p.gradient_checkpointing and "gradient_checkpointing" not in fixed:
        yield _changed(job, gradient_checkpointing=True)
    if not {"batch_size", "gradient_accumulation"} & set(fixed):
        smaller = next((n for n in range(p.batch_size - 1, 0, -1) if p.batch_size % n == 0), None)
        if smaller and (more := p.gradient_accumulation * (p.batch_size // smaller)) <= MAX_ACCUMULATION:
            yield _changed(job, batch_size=smaller, gradient_accumulation=more)


def _held(job: TrainJob, name: str) -> tuple[TrainJob, list[Change]]:
    words = {
        "sparing": "the text encoder waits outside, and samples are drawn in tiles",
        "streamed": "blocks of the model wait in the machine's own memory for their turn (slower steps)",
        "quantised": "the base model is held with 8 bits a weight (a little less exact)",
    }[name]
    return job.model_copy(update={name: True}), [Change(name, False, True, words)]


def _changed(job: TrainJob, **values: Any) -> tuple[TrainJob, list[Change]]:
    changes = [
        Change(name, getattr(job.params, name), value, _words(name, value)) for name, value in values.items()
    ]
    return job.model_copy(update={"params": job.params.model_copy(update=values)}), changes


def _words(name: str, value: Any) -> str:
    return {
        "gradient_checkpointing": "gradient checkpointing on",
        "batch_size": f"batch size {value}",
        "gradient_accumulation": f"gradient accumulation {value}, so that a step sees as many pictures",
    }[name]


def _joined(changes: list[Change]) -> tuple[Change, ...]:
    """One change a setting, from its first value to its last."""
    found: dict[str, Change] = {}
    for change in changes:
        before = found[change.field].before if change.field in found else change.before
        found[change.field] = replace(change, before=before)
    return tuple(found.values())
