"""What a card of the gallery shows: a model, the base of its newest version, and one picture.

Versions may be many and files and hashes more, so none of them is loaded for a card.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    FromClause,
    Integer,
    Select,
    and_,
    bindparam,
    or_,
    select,
    true,
)
from sqlalchemy.orm import Session, defer, lazyload

from app.accounts.models import User
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
    base_model: str
    """Of the newest version that the viewer may see; empty without one."""
    cover: Cover | None
    """The first picture of the newest of these versions that has one the viewer may see."""


LIGHT = (lazyload(Model.versions), lazyload(Model.tags), defer(Model.description))
"""Options for a query of models whose cards are all that is shown."""
Viewer = BindParameter[int] | None
_COVER = tuple(getattr(Image, field.name) for field in fields(Cover))


def cards_of(db: Session, viewer: User | None, models: Sequence[Model]) -> list[Card]:
    """The cards of these models, in one query."""
    if not models:
        return []
    known = {"viewer": viewer.id} if viewer else {}
    rows = db.execute(_facts(viewer is not None), {"models": [model.id for model in models], **known})
    found = {row[0]: row[1:] for row in rows}
    return [_card(model, *found[model.id]) for model in models if model.id in found]


@cache
def _facts(known: bool) -> Select[Any]:
    """Number, base and cover of each of `models`, for `viewer` where somebody is `known`; built once, because
    building it takes as long as reading thirty rows."""
    viewer = bindparam("viewer", type_=Integer) if known else None
    cover = _first_picture(viewer)
    return (
        select(Model.id, _newest(viewer, ModelVersion.base_model), *cover.c)
        .outerjoin(cover, true())
        .where(Model.id.in_(bindparam("models", expanding=True)))
    )


def _card(model: Model, base: str | None, *cover: Any) -> Card:
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
