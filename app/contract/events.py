"""What a running job may report, one JSON object a line from the child process to its supervisor.

Paths are relative to the job's work folder. `Command` goes the other way.
"""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from app.contract.family import Frozen

PHASES = ("preparing", "caching", "training", "sampling", "saving", "uploading")
Command = Literal["cancel", "pause", "sample", "save"]
"""Wishes that reach a running job; each acts at the next step."""


class Progress(Frozen):
    kind: Literal["progress"] = "progress"
    phase: str
    current: int = 0
    total: int = 0
    unit: str = "step"
    epoch: int | None = None
    epochs: int | None = None
    rate: float | None = None
    """Steps a second, smoothed; None before it was measured."""
    eta_seconds: float | None = None


class Metric(Frozen):
    kind: Literal["metric"] = "metric"
    step: int
    loss: float
    lr: float


class LogLine(Frozen):
    kind: Literal["log"] = "log"
    level: Literal["info", "warning", "error"] = "info"
    message: str


class Sample(Frozen):
    """One sample picture or clip. Epoch 0 with `baseline` is the row without the LoRA."""

    kind: Literal["sample"] = "sample"
    epoch: int
    step: int
    prompt_index: int
    prompt: str
    seed: int
    baseline: bool = False
    path: str
    width: int
    height: int
    frames: int = 1
    fps: float | None = None
    poster: str | None = None
    """Of a clip (MP4): its middle frame as a JPEG."""


class AdapterFile(Frozen):
    """An adapter file in the job's work folder."""

    path: str
    size: int
    sha256: str
    tensor_sha256: str


class Checkpoint(Frozen):
    """A portable adapter file after an epoch. Losses are means, None where nothing was kept out."""

    kind: Literal["checkpoint"] = "checkpoint"
    epoch: int
    step: int
    path: str
    size: int
    sha256: str
    tensor_sha256: str
    """sha256 of the bytes after the header: AutoV3 is its first 12 hex digits."""
    loss: float | None = None
    validation_loss: float | None = None
    low_noise: AdapterFile | None = None
    """The second file, for low noise, where the family has two experts."""


class ResumePoint(Frozen):
    """A file that lets the job go on from `step` to the same bits."""

    kind: Literal["resume"] = "resume"
    step: int
    path: str
    size: int
    sha256: str


class Picture(Frozen):
    """One finished picture or clip of a generation."""

    kind: Literal["picture"] = "picture"
    index: int
    seed: int
    path: str
    width: int
    height: int
    infotext: str
    frames: int = 1
    fps: float | None = None
    poster: str | None = None
    """Of a clip (MP4): its middle frame as a JPEG."""


class Preview(Frozen):
    """How picture `index` looks so far: a small JPEG that the next one replaces. Lost without harm."""

    kind: Literal["preview"] = "preview"
    index: int
    path: str


class Unplaced(Frozen):
    """What of a LoRA has no place in the checkpoint and does nothing: layers, or tensors nobody knows."""

    lora: str
    count: int
    names: tuple[str, ...]
    """The first 50 of them, as they stand in the file."""

    @property
    def words(self) -> str:
        """One line for the person who asked."""
        few = ", ".join(self.names[:5]) + (", …" if self.count > 5 else "")
        what = "1 entry has no place here and does nothing"
        if self.count > 1:
            what = f"{self.count} entries have no place here and do nothing"
        return f"LoRA “{self.lora}”: {what}: {few}"


class Finished(Frozen):
    """The job's own last word. `recommended_epoch` is None where nothing was measured."""

    kind: Literal["finished"] = "finished"
    outcome: Literal["succeeded", "canceled", "paused", "failed"]
    code: str | None = None
    """Stable slug of a failure: `training-diverged`, `adapter-empty`, `out-of-memory`, …"""
    detail: str | None = None
    recommended_epoch: int | None = None
    recommended_reason: Literal["validation", "last"] | None = None
    steps: int | None = None
    peak_memory_bytes: int | None = None
    memory_retries: int = 0
    """How often the job began again with less memory after it had run out."""
    run_seconds: float | None = None
    unplaced: tuple[Unplaced, ...] = ()


Event = Annotated[
    Progress | Metric | LogLine | Sample | Checkpoint | ResumePoint | Picture | Preview | Finished,
    Field(discriminator="kind"),
]
EVENT: TypeAdapter[
    Progress | Metric | LogLine | Sample | Checkpoint | ResumePoint | Picture | Preview | Finished
] = TypeAdapter(Event)
