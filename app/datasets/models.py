"""Tables of data sets. A picture is stored normalised (upright, no metadata, at most 2048 px a side).

In a set of clips an item is a normalised MP4 (upright, no sound, one rate), or a picture: one frame.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.core.db import Base, Created


class Dataset(Base, Created):
    __tablename__ = "dataset"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(100))
    media: Mapped[str] = mapped_column(String(10), default="image")
    label_type: Mapped[str] = mapped_column(String(10), default="tag")
    version: Mapped[int] = mapped_column(default=1, server_default="1")
    """Counts edits: the ETag of the set."""
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())


class DatasetItem(Base, Created):
    __tablename__ = "dataset_item"
    __table_args__ = (
        UniqueConstraint("dataset_id", "source_sha256"),
        Index("ix_dataset_item_dataset_id_position", "dataset_id", "position"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("dataset.id", ondelete="CASCADE"))
    position: Mapped[int]
    name: Mapped[str] = mapped_column(String(255))
    folder: Mapped[str] = mapped_column(String(255), default="", server_default="")
    """Where it lay in a dropped folder or a zip: a label belongs to the picture beside it."""
    source_sha256: Mapped[str] = mapped_column(String(64))
    """sha256 of the file as it came: the same file twice is a duplicate."""
    blob_sha256: Mapped[str] = mapped_column(ForeignKey("blob.sha256"), index=True)
    thumb_sha256: Mapped[str] = mapped_column(ForeignKey("blob.sha256"), index=True)
    strip_sha256: Mapped[str | None] = mapped_column(ForeignKey("blob.sha256"), index=True)
    """Frames of a clip side by side in one picture; null for pictures."""
    clip: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """`{fps, frames, duration}` of the stored clip; null in sets of pictures."""
    width: Mapped[int]
    height: Mapped[int]
    dhash: Mapped[int] = mapped_column(BigInteger)
    """64-bit difference hash (signed), for near duplicates."""
    label: Mapped[str] = mapped_column(Text, default="")
    label_source: Mapped[str] = mapped_column(String(10), default="user")
    warnings: Mapped[list[str]] = mapped_column(default=list, server_default=text("'[]'"))


class WaitingLabel(Base, Created):
    """A label file whose picture has not come yet."""

    __tablename__ = "waiting_label"

    dataset_id: Mapped[str] = mapped_column(ForeignKey("dataset.id", ondelete="CASCADE"), primary_key=True)
    folder: Mapped[str] = mapped_column(String(255), primary_key=True)
    stem: Mapped[str] = mapped_column(String(255), primary_key=True)
    """Of the file's name, in lower case."""
    label: Mapped[str] = mapped_column(Text)
    guessed: Mapped[bool] = mapped_column(default=False)
    """Whether its encoding had to be guessed."""


class LabelUndo(Base, Created):
    """The labels before one bulk change, so that it can be taken back."""

    __tablename__ = "label_undo"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("dataset.id", ondelete="CASCADE"), index=True)
    before: Mapped[dict[str, object]]
    """item id → [label before, its source, label after]."""
