"""What a card of the gallery shows: a model, the base of its newest version, and one picture.

Versions may be many and files and hashes more, so none of them is loaded for a card.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import Session, lazyload

from app.accounts.models import User
from app.gallery.models import Model, ModelVersion, VersionPicture
from app.images.models import Image


@dataclass(frozen=True)
class Card:
    model: Model
    base_model: str
    """Of the newest version that the viewer may see; empty without one."""
    cover: Image | None
    """The first picture of the newest of these versions that has one the viewer may see."""


LIGHT = (lazyload(Model.versions), lazyload(Model.tags))
"""Options for a query of models whose cards are all that is shown."""


def cards_of(db: Session, viewer: User | None, models: Sequence[Model]) -> list[Card]:
    """The cards of these models, in two queries."""
    facts = (
        select(Model.id, _newest(viewer, ModelVersion.base_model), _first_picture(viewer))
        .where(Model.id.in_([model.id for model in models]))
    )  # fmt: skip
    found = {row[0]: (row[1] or "", row[2]) for row in db.execute(facts)} if models else {}
    covers = _images(db, [cover for _, cover in found.values() if cover is not None])
    return [Card(m, found[m.id][0], covers.get(found[m.id][1])) for m in models if m.id in found]


def _images(db: Session, ids: Sequence[int]) -> dict[int, Image]:
    query = select(Image).options(lazyload(Image.resources)).where(Image.id.in_(ids))
    return {image.id: image for image in db.scalars(query)} if ids else {}


def _told(viewer: User | None) -> ColumnElement[bool]:
    published = ModelVersion.status == "Published"
    return or_(published, Model.user_id == viewer.id) if viewer else published


def _newest(viewer: User | None, column: Any) -> Any:
    query = select(column).where(ModelVersion.model_id == Model.id, _told(viewer))
    return query.order_by(ModelVersion.id.desc()).limit(1).correlate(Model).scalar_subquery()


def _first_picture(viewer: User | None) -> Any:
    shared = and_(Image.rating != 0, or_(Image.origin == "page", Image.visibility == "public"))
    seen = or_(shared, Image.user_id == viewer.id) if viewer else shared
    query = (
        select(VersionPicture.image_id)
        .join(ModelVersion, ModelVersion.id == VersionPicture.version_id)
        .join(Image, Image.id == VersionPicture.image_id)
        .where(ModelVersion.model_id == Model.id, _told(viewer), Image.taken_down_at.is_(None), seen)
        .order_by(ModelVersion.id.desc(), VersionPicture.position)
    )
    return query.limit(1).correlate(Model).scalar_subquery()
