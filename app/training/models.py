"""Tables of trainings: the wizard's draft, the run with its snapshot, checkpoints, samples."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, String, Text, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.core.db import Base, Created


class TrainingDraft(Base, Created):
    """What somebody has filled in so far in the wizard. Saved at every change."""

    __tablename__ = "training_draft"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    dataset_id: Mapped[str | None] = mapped_column(ForeignKey("dataset.id", ondelete="SET NULL"))
    fields: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    """Same names as the body of POST /trainings."""
    rights_at: Mapped[datetime | None]
    """When the person said that the pictures may be used."""
    job_id: Mapped[str | None] = mapped_column(String(40))
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())


class TrainingRun(Base):
    """The part of a training that the queue need not know."""

    __tablename__ = "training_run"

    job_id: Mapped[str] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    dataset_id: Mapped[str | None] = mapped_column(ForeignKey("dataset.id", ondelete="SET NULL"))
    name: Mapped[str] = mapped_column(String(100))
    type: Mapped[str] = mapped_column(String(20))
    family: Mapped[str] = mapped_column(String(30))
    base_version_id: Mapped[int | None]
    trigger_word: Mapped[str] = mapped_column(String(100), default="")
    preset: Mapped[str] = mapped_column(String(10), default="normal")
    steps: Mapped[int]
    recommended_epoch: Mapped[int | None]
    recommended_reason: Mapped[str | None] = mapped_column(String(20))
    model_id: Mapped[int | None]
    keep_until: Mapped[datetime | None]


class TrainingItem(Base):
    """One picture of the snapshot that a training took: later edits of the set change nothing."""

    __tablename__ = "training_item"

    job_id: Mapped[str] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    blob_sha256: Mapped[str] = mapped_column(ForeignKey("blob.sha256"), index=True)
    label: Mapped[str] = mapped_column(Text, default="")


class TrainingCheckpoint(Base, Created):
    __tablename__ = "training_checkpoint"
    __table_args__ = (UniqueConstraint("job_id", "epoch"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"))
    epoch: Mapped[int]
    step: Mapped[int]
    name: Mapped[str] = mapped_column(String(255))
    blob_sha256: Mapped[str] = mapped_column(ForeignKey("blob.sha256"), index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    tensor_sha256: Mapped[str] = mapped_column(String(64))
    low_noise_sha256: Mapped[str | None] = mapped_column(ForeignKey("blob.sha256"), index=True)
    """The second file of a family with two experts; then the one above is for high noise alone."""
    low_noise: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """`{name, size, tensor_sha256}` of that file."""
    loss: Mapped[float | None]
    validation_loss: Mapped[float | None]


class TrainingSample(Base, Created):
    __tablename__ = "training_sample"
    __table_args__ = (UniqueConstraint("job_id", "epoch", "step", "prompt_index", "baseline"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"))
    epoch: Mapped[int]
    step: Mapped[int]
    prompt_index: Mapped[int]
    prompt: Mapped[str] = mapped_column(Text)
    seed: Mapped[int] = mapped_column(BigInteger)
    baseline: Mapped[bool] = mapped_column(default=False)
    blob_sha256: Mapped[str] = mapped_column(ForeignKey("blob.sha256"), index=True)
    width: Mapped[int]
    height: Mapped[int]
    frames: Mapped[int] = mapped_column(default=1, server_default="1")
    fps: Mapped[float | None]
    poster_sha256: Mapped[str | None] = mapped_column(ForeignKey("blob.sha256"), index=True)
    """Of a clip: its middle frame as a JPEG; null for pictures."""

    @property
    def is_clip(self) -> bool:
        return self.poster_sha256 is not None
