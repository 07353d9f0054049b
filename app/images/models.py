"""Tables of pictures. A picture keeps name, version and weight of what made it in its own rows."""

import hashlib
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Computed,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, TSVECTOR
from sqlalchemy.orm import Mapped, deferred, mapped_column, relationship, validates

from app.core.db import Base, Created


def is_clip(media_type: str) -> bool:
    return media_type.startswith("video/")


def tag_number(name: str) -> int:
    """A number that stands for a tag, for programs that know tags by number; made of its letters alone."""
    return int(hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()[:7], 16)


class Image(Base, Created):
    __tablename__ = "image"
    __table_args__ = (
        UniqueConstraint("job_id", "job_index"),
        Index("ix_image_user_id_id", "user_id", text("id DESC")),
        Index("ix_image_public", text("id DESC"), postgresql_where=text("visibility = 'public'")),
        Index(
            "ix_image_public_base",
            "base_model",
            text("id DESC"),
            postgresql_where=text("visibility = 'public'"),
        ),
        Index(
            "ix_image_public_created", text("created_at DESC"), postgresql_where=text("visibility = 'public'")
        ),
        Index(
            "ix_image_public_username",
            text("lower(username)"),
            text("id DESC"),
            postgresql_where=text("visibility = 'public'"),
        ),
        Index("ix_image_search", "search", postgresql_using="gin"),
        Index(
            "ix_image_public_tags",
            "tag_numbers",
            postgresql_using="gin",
            postgresql_where=text("visibility = 'public'"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"))
    username: Mapped[str] = mapped_column(String(40))
    blob_sha256: Mapped[str] = mapped_column(ForeignKey("blob.sha256"), index=True)
    thumb_sha256: Mapped[str | None] = mapped_column(ForeignKey("blob.sha256"), index=True)
    """A picture, at most 450 px wide; the picture itself where that is small enough."""
    poster_sha256: Mapped[str | None] = mapped_column(ForeignKey("blob.sha256"), index=True)
    """Of a clip: its middle frame in full size."""
    origin: Mapped[str] = mapped_column(String(10), default="generated")
    """`generated`, `uploaded`, or `page`: belongs to a model page and follows its visibility."""
    media_type: Mapped[str] = mapped_column(String(40), default="image/png")
    size: Mapped[int] = mapped_column(BigInteger)
    width: Mapped[int]
    height: Mapped[int]
    frames: Mapped[int] = mapped_column(default=1, server_default=text("1"))
    """More than one: a clip; then `fps` is there."""
    fps: Mapped[float | None] = mapped_column(Float)
    visibility: Mapped[str] = mapped_column(String(10), default="private")
    """`private`, `unlisted` (reachable with `share_key`) or `public`."""
    share_key: Mapped[str | None] = mapped_column(String(40), unique=True)
    rating: Mapped[int] = mapped_column(Integer, default=1)
    """Bit flag: 1 PG, 2 PG-13, 4 R, 8 X, 16 XXX, 32 blocked; 0 unrated."""
    title: Mapped[str] = mapped_column(String(200), default="")
    description: Mapped[str] = mapped_column(Text, default="")
    tags: Mapped[list[str]] = mapped_column(default=list, server_default=text("'[]'"))
    tag_numbers: Mapped[list[int]] = deferred(
        mapped_column(ARRAY(Integer), default=list, server_default=text("'{}'"))
    )
    """`tag_number` of each tag; follows `tags` by itself."""
    prompt: Mapped[str] = mapped_column(Text, default="")
    negative_prompt: Mapped[str] = mapped_column(Text, default="")
    meta: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    infotext: Mapped[str] = mapped_column(Text, default="")
    base_model: Mapped[str] = mapped_column(String(60), default="")
    job_id: Mapped[str | None] = mapped_column(ForeignKey("job.id", ondelete="SET NULL"))
    job_index: Mapped[int | None]
    published_at: Mapped[datetime | None]
    taken_down_at: Mapped[datetime | None]
    search: Mapped[str] = deferred(
        mapped_column(TSVECTOR, Computed("to_tsvector('simple', title || ' ' || prompt)", persisted=True))
    )
    resources: Mapped[list["ImageResource"]] = relationship(
        lazy="selectin", cascade="all, delete-orphan", order_by="ImageResource.position"
    )

    @validates("tags")
    def _number_tags(self, _name: str, tags: list[str]) -> list[str]:
        self.tag_numbers = [tag_number(tag) for tag in tags]
        return tags

    @property
    def is_clip(self) -> bool:
        return is_clip(self.media_type)

    @property
    def duration(self) -> float | None:
        """Seconds of a clip."""
        return round(self.frames / self.fps, 3) if self.fps else None

    @property
    def clip_facts(self) -> dict[str, Any]:
        """Frames, frames a second and seconds of a clip; nothing for a picture."""
        if not self.is_clip:
            return {}
        return {"frames": self.frames, "fps": self.fps, "duration": self.duration}


class ImageResource(Base):
    __tablename__ = "image_resource"
    __table_args__ = (Index("ix_image_resource_model_version_id", "model_version_id", "image_id"),)

    image_id: Mapped[int] = mapped_column(ForeignKey("image.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    """`checkpoint`, `lora`, `embedding` or `vae`."""
    name: Mapped[str] = mapped_column(String(200))
    model_version_id: Mapped[int | None]
    weight: Mapped[float | None] = mapped_column(Float)
    hash: Mapped[str] = mapped_column(String(64), default="")
