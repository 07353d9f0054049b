"""Tables of the gallery: a model has versions, a version has files and pictures, a file has hashes."""

from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Computed,
    Date,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, TSVECTOR
from sqlalchemy.orm import Mapped, column_property, deferred, mapped_column, relationship, validates

from app.core.db import Base, Created
from app.images.models import Image


def _listed(name: str, *columns: str) -> Index:
    """An index for lists of what is public, in the order of `columns`, the number last."""
    order = [text(column) for column in (*columns, "id DESC")]
    return Index(name, *order, postgresql_where=text("visibility = 'public'"))


class Model(Base, Created):
    __tablename__ = "model"
    __table_args__ = (
        _listed("ix_model_public_downloads", "download_count DESC"),
        _listed("ix_model_public_published", "published_at DESC"),
        _listed("ix_model_public_pictures", "image_count DESC"),
        _listed("ix_model_public_listed", "coalesce(published_at, created_at) DESC"),
        _listed("ix_model_public_type", "type", "download_count DESC"),
        _listed("ix_model_public_type_published", "type", "published_at DESC"),
        _listed("ix_model_public_type_pictures", "type", "image_count DESC"),
        _listed("ix_model_public_person", "lower(username)", "published_at DESC"),
        Index("ix_model_lower_username", text("lower(username)")),
        Index("ix_model_lower_name", text("lower(name)")),
        Index("ix_model_search", "search", postgresql_using="gin"),
        Index(
            "ix_model_search_fetched",
            "search",
            postgresql_using="gin",
            postgresql_where=text("download_count >= 100"),
        ),
        Index(
            "ix_model_public_bases",
            "bases",
            postgresql_using="gin",
            postgresql_where=text("visibility = 'public'"),
        ),
        Index("ix_model_name_part", "name", postgresql_using="gin", postgresql_ops={"name": "gin_trgm_ops"}),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    username: Mapped[str] = mapped_column(String(40))
    name: Mapped[str] = mapped_column(String(200))
    type: Mapped[str] = mapped_column(String(30))
    """A Civitai model type: `Checkpoint`, `LORA`, …"""
    category: Mapped[str] = mapped_column(String(30), default="")
    """What a LoRA was trained for: `style`, `character`, `concept`."""
    description: Mapped[str] = mapped_column(Text, default="")
    """Markdown as typed; rendered and sanitised when shown."""
    visibility: Mapped[str] = mapped_column(String(10), default="private")
    share_key: Mapped[str | None] = mapped_column(String(40), unique=True)
    rating: Mapped[int] = mapped_column(Integer, default=1)
    allow_no_credit: Mapped[bool] = mapped_column(default=True)
    allow_commercial_use: Mapped[list[str]] = mapped_column(
        default=lambda: ["Image", "RentCivit", "Rent", "Sell"]
    )
    allow_derivatives: Mapped[bool] = mapped_column(default=True)
    allow_different_license: Mapped[bool] = mapped_column(default=True)
    licence: Mapped[str] = mapped_column(String(100), default="")
    poi: Mapped[bool] = mapped_column(Boolean, default=False)
    download_count: Mapped[int] = mapped_column(default=0, server_default="0")
    image_count: Mapped[int] = mapped_column(default=0, server_default="0")
    """Public pictures made with any of its versions, as last counted by `summary.recount`."""
    if TYPE_CHECKING:
        listed_at: Mapped[datetime]
        """When a version was last published; of a draft, when the model was made."""
    published_at: Mapped[datetime | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())
    taken_down_at: Mapped[datetime | None]
    archived_at: Mapped[datetime | None]
    """Its page stays where it is, but its files are given to nobody but its owner."""
    search: Mapped[str] = deferred(
        mapped_column(TSVECTOR, Computed("to_tsvector('simple', name || ' ' || description)", persisted=True))
    )
    bases: Mapped[list[str]] = deferred(mapped_column(ARRAY(Text), server_default=text("'{}'")))
    """Base models of its published versions; a trigger of the database keeps it so."""
    built_in: Mapped[bool] = mapped_column(default=False)
    """Shipped with Bottega; `bottega up` keeps it installed."""
    tags: Mapped[list["ModelTag"]] = relationship(
        lazy="selectin", cascade="all, delete-orphan", order_by="ModelTag.tag"
    )
    versions: Mapped[list["ModelVersion"]] = relationship(
        lazy="selectin",
        cascade="all, delete-orphan",
        order_by="ModelVersion.id.desc()",
        back_populates="model",
    )


class ModelTag(Base):
    __tablename__ = "model_tag"

    model_id: Mapped[int] = mapped_column(ForeignKey("model.id", ondelete="CASCADE"), primary_key=True)
    tag: Mapped[str] = mapped_column(String(60), primary_key=True, index=True)


class Term(Base):
    """A word that listed models have, and how many of them, as last counted: for filters and suggestions."""

    __tablename__ = "term"
    __table_args__ = (
        Index("ix_term_kind_models", "kind", text("models DESC"), "name"),
        Index("ix_term_kind_lower", "kind", text("lower(name) text_pattern_ops")),
    )

    kind: Mapped[str] = mapped_column(String(10), primary_key=True)
    """`type`, `base`, `creator`, `tag`, or `topic`: a tag of models that are not shipped with Bottega."""
    name: Mapped[str] = mapped_column(String(60), primary_key=True)
    models: Mapped[int]


class ModelVersion(Base, Created):
    __tablename__ = "model_version"
    __table_args__ = (
        Index("ix_model_version_base_model", "base_model", "model_id"),
        Index("ix_model_version_trained", "model_id", postgresql_where=text("upload_type = 'Trained'")),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id", ondelete="CASCADE"), index=True)
    model: Mapped["Model"] = relationship(lazy="joined", back_populates="versions")
    name: Mapped[str] = mapped_column(String(200))
    base_model: Mapped[str] = mapped_column(String(60))
    family: Mapped[str | None] = mapped_column(String(30))
    """Key of the family that can train or draw with it; None = cannot run here."""
    description: Mapped[str] = mapped_column(Text, default="")
    trained_words: Mapped[list[str]] = mapped_column(default=list, server_default=text("'[]'"))
    status: Mapped[str] = mapped_column(String(20), default="Draft")
    """`Draft` or `Published`."""
    upload_type: Mapped[str] = mapped_column(String(10), default="Created")
    """`Created` or `Trained` (here)."""
    training_details: Mapped[dict[str, Any] | None]
    steps: Mapped[int | None]
    epochs: Mapped[int | None]
    clip_skip: Mapped[int | None]
    strength: Mapped[float] = mapped_column(default=0.8)
    training_job_id: Mapped[str | None] = mapped_column(String(40), index=True)
    published_at: Mapped[datetime | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())
    download_count: Mapped[int] = mapped_column(default=0, server_default="0")
    files: Mapped[list["ModelFile"]] = relationship(
        lazy="selectin", cascade="all, delete-orphan", order_by="ModelFile.id", back_populates="version"
    )
    pictures: Mapped[list["VersionPicture"]] = relationship(
        lazy="selectin", cascade="all, delete-orphan", order_by="VersionPicture.position"
    )


Model.listed_at = column_property(func.coalesce(Model.published_at, Model.created_at))


class ModelFile(Base, Created):
    __tablename__ = "model_file"

    id: Mapped[int] = mapped_column(primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("model_version.id", ondelete="CASCADE"), index=True)
    version: Mapped["ModelVersion"] = relationship(back_populates="files")
    blob_sha256: Mapped[str] = mapped_column(ForeignKey("blob.sha256"), index=True)
    name: Mapped[str] = mapped_column(String(255))
    type: Mapped[str] = mapped_column(String(30), default="Model")
    format: Mapped[str] = mapped_column(String(20), default="SafeTensor")
    fp: Mapped[str | None] = mapped_column(String(20))
    precision: Mapped[str | None] = mapped_column(String(10))
    """`full` or `pruned`."""
    size: Mapped[int] = mapped_column(BigInteger)
    is_primary: Mapped[bool] = mapped_column(default=True)
    facts: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    """What was read from the header: rank, alpha, keys."""
    hash_values: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    """Each kind of hash and its value: a list shows many files, and a file has six."""
    hashes: Mapped[list["FileHash"]] = relationship(cascade="all, delete-orphan")
    """The same for looking files up; follows `hash_values` by itself."""

    @validates("hash_values")
    def _list_hashes(self, _name: str, values: dict[str, Any]) -> dict[str, Any]:
        self.hashes = [FileHash(kind=kind, value=value) for kind, value in values.items()]
        return values


class FileHash(Base):
    """One hash of a file, upper-case hex: SHA256, AutoV1-AutoV3, BLAKE3, CRC32, and our own Tensor."""

    __tablename__ = "file_hash"

    file_id: Mapped[int] = mapped_column(ForeignKey("model_file.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(10), primary_key=True)
    value: Mapped[str] = mapped_column(String(64), index=True)


class VersionPicture(Base):
    """A picture in the carousel of a version."""

    __tablename__ = "version_picture"

    version_id: Mapped[int] = mapped_column(
        ForeignKey("model_version.id", ondelete="CASCADE"), primary_key=True
    )
    image_id: Mapped[int] = mapped_column(
        ForeignKey("image.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    position: Mapped[int] = mapped_column(default=0)
    image: Mapped["Image"] = relationship(lazy="joined")


class Download(Base):
    """Who fetched what on which day: a person is counted once a file and day."""

    __tablename__ = "download"
    __table_args__ = (UniqueConstraint("file_id", "person", "day"),)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    file_id: Mapped[int] = mapped_column(ForeignKey("model_file.id", ondelete="CASCADE"))
    person: Mapped[str] = mapped_column(String(64))
    """Hash of the user id or of the address."""
    day: Mapped[date] = mapped_column(Date)


class Report(Base, Created):
    """Somebody says that a public thing must not be here. No login is needed for that."""

    __tablename__ = "report"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    """`model` or `image`."""
    target_id: Mapped[int]
    reason: Mapped[str] = mapped_column(String(40))
    detail: Mapped[str] = mapped_column(Text, default="")
    reporter_id: Mapped[int | None] = mapped_column(ForeignKey("user.id", ondelete="SET NULL"))
    status: Mapped[str] = mapped_column(String(20), default="open", index=True)
    """`open`, `taken-down` or `dismissed`."""
    note: Mapped[str] = mapped_column(Text, default="")
    resolved_by: Mapped[int | None] = mapped_column(ForeignKey("user.id", ondelete="SET NULL"))
    resolved_at: Mapped[datetime | None]
