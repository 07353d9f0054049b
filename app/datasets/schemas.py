"""What the REST routes of data sets take and answer."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from app.datasets.media import clip_families


class Strict(BaseModel):
    """Unknown fields are refused by name."""

    model_config = ConfigDict(extra="forbid")


class DatasetIn(Strict):
    name: str
    media: Literal["image", "video"] = "image"
    label_type: Literal["tag", "caption"] | None = None
    """Tags for pictures and captions for clips unless said."""


class DatasetPatch(Strict):
    name: str | None = None
    label_type: Literal["tag", "caption"] | None = None


class Counts(BaseModel):
    items: int
    labelled: int


class Tag(BaseModel):
    tag: str
    count: int


class DatasetOut(BaseModel):
    id: str
    name: str
    media: str
    label_type: str
    counts: Counts
    size_bytes: int
    created_at: datetime
    tags: list[Tag]
    """Most frequent first; in lists at most 50."""


class DatasetList(BaseModel):
    items: list[DatasetOut]
    next_cursor: str | None


class ItemOut(BaseModel):
    id: str
    name: str
    folder: str
    sha256: str
    width: int
    height: int
    media: Literal["image", "video"] = "image"
    """Of this file: a set of clips may hold pictures too."""
    duration: float | None = None
    """Seconds; likewise null for pictures: fps and strip_url."""
    fps: float | None = None
    frames: int = 1
    label: str
    label_source: Literal["user", "auto", "file"]
    warnings: list[str]
    url: str
    thumb_url: str
    """Of a clip its first frame."""
    strip_url: str | None = None
    """Of a clip: frames evenly spaced in time, side by side."""
    etag: str
    """Of the label: for If-Match, when several tabs edit one set."""


class ItemList(BaseModel):
    items: list[ItemOut]
    next_cursor: str | None


class WindowQuery(Strict):
    """How a clip would be cut; see app/contract/clips.py."""

    family: str = "wan"
    mode: Literal["head", "uniform", "chunks", "sliding", "full"] = "head"
    length: int = Field(default=33, ge=1, le=1000)
    stride: int | None = Field(default=None, ge=1, le=1000)
    count: int = Field(default=4, ge=1, le=64)

    @field_validator("family")
    @classmethod
    def _trains_on_clips(cls, family: str) -> str:
        if family not in clip_families():
            raise ValueError(f"Give a family that trains on clips: {', '.join(clip_families())}.")
        return family


class WindowOut(BaseModel):
    start: int
    length: int
    """Frames at the family's rate."""
    start_seconds: float
    end_seconds: float


class WindowsOut(BaseModel):
    fps: float
    frames: int
    """Of the whole clip at this rate."""
    windows: list[WindowOut]
    unused: int
    """Frames that no window shows."""


class ItemPatch(Strict):
    label: str


class RejectedOut(BaseModel):
    name: str
    code: str
    detail: str


class DuplicateOut(BaseModel):
    name: str
    duplicate_of: str


class LabelOut(BaseModel):
    name: str
    item: str | None
    detail: str


class AddedOut(BaseModel):
    accepted: list[ItemOut]
    rejected: list[RejectedOut]
    duplicates: list[DuplicateOut]
    labels: list[LabelOut] = []
    """Label files that came without their pictures; `item` is null while one waits for its picture."""
    notes: list[str] = []
    """Sentences about what came, not about one file."""


class FromUpload(Strict):
    upload: str


class LabelChange(Strict):
    op: Literal["add", "remove", "rename", "prepend", "set"]
    tag: str
    to: str | None = None
    items: list[str] | None = Field(default=None, max_length=5000)


class LabelChanged(BaseModel):
    changed: int
    undo: str


class Undo(Strict):
    undo: str


class Undone(BaseModel):
    changed: int


class PageQuery(Strict):
    cursor: str | None = None
    limit: int = Field(default=50, ge=1, le=200)


class ItemQuery(Strict):
    cursor: str | None = None
    limit: int = Field(default=100, ge=1, le=1000)
    tag: str | None = None
    unlabelled: bool | None = None
    warning: str | None = None
