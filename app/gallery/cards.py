"""What a card of the gallery shows: a model, the base of its newest version, and one picture.

Versions may be many and files and hashes more, so none of them is loaded for a card.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from sqlalchemy import (
    ARRAY,
    BindParameter,
    ColumnElement,
    FromClause,
    Integer,
    and_,
    bindparam,
    func,
    or_,
    select,
    true,
)
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.prepared import AnyRow, Prepared, build
from app.gallery.models import Model, ModelVersion, VersionPicture
from app.images.models import Image, is_clip


@dataclass(frozen=True)
class Cover:
    """What a card needs of a picture."""

    id: int
    width: int
    height: int
    visibility: str
    share_key: str | None
    media_type: str

    @property
    def is_clip(self) -> bool:
        return is_clip(self.media_type)


@dataclass(frozen=True)
class Card:
    model: Model
    """With the columns of SHOWN alone."""
    base_model: str
    """Of the newest version that the viewer may see; empty without one."""
    cover: Cover | None
    """The first picture of the newest of these versions that has one the viewer may see."""


SHOWN = ("id", "name", "type", "username", "visibility", "download_count", "image_count")
Viewer = BindParameter[int] | None
_COVER = tuple(getattr(Image, field.name) for field in fields(Cover))


def cards_of(db: Session, viewer: User | None, model_ids: Sequence[int]) -> list[Card]:
    """The cards of these models, in their order, in one query; of those that are still there."""
    if not model_ids:
        return []
    rows = _facts(viewer is not None).rows(db, models=list(model_ids), viewer=viewer.id if viewer else None)
    found = {row[0]: _card(row) for row in rows}
    return [found[number] for number in model_ids if number in found]


@cache
def _facts(known: bool) -> Prepared:
    """Columns, base and cover of each of `models`, for `viewer` where somebody is `known`."""
    viewer = bindparam("viewer", type_=Integer) if known else None
    cover = _first_picture(viewer)
    shown = (getattr(Model, name) for name in SHOWN)
    return Prepared(
        select(*shown, _newest(viewer, ModelVersion.base_model), *cover.c)
        .outerjoin(cover, true())
        .where(Model.id == func.any(bindparam("models", type_=ARRAY(Integer)))),
        steady=True,
    )


def _card(row: AnyRow) -> Card:
    width = len(SHOWN)
    base, cover = row[width], row[width + 1 :]
    model = build(Model, dict(zip(SHOWN, row, strict=False)))
    return Card(model, base or "", Cover(*cover) if cover[0] is not None else None)


def _told(viewer: Viewer) -> ColumnElement[bool]:
    published = ModelVersion.status == "Published"
    return published if viewer is None else or_(published, Model.user_id == viewer)


def _newest(viewer: Viewer, column: Any) -> Any:
    query = select(column).where(ModelVersion.model_id == Model.id, _told(viewer))
    return query.order_by(ModelVersion.id.desc()).limit(1).correlate(Model).scalar_subquery()


def _first_picture(viewer: Viewer) -> FromClause:
    shared = and_(Image.rating != 0, or_(Image.origin == "page", Image.visibility == "public"))
    seen = shared if viewer is None else or_(shared, Image.user_id == viewer)
    query = (
        select(*_COVER)
        .select_from(VersionPicture)
        .join(ModelVersion, ModelVersion.id == VersionPicture.version_id)
        .join(Image, Image.id == VersionPicture.image_id)
        .where(ModelVersion.model_id == Model.id, _told(viewer), Image.taken_down_at.is_(None), seen)
        .order_by(ModelVersion.id.desc(), VersionPicture.position)
    )
    return query.limit(1).correlate(Model).lateral("cover")
