"""Pictures that are only looked at: objects without a session, each of one row with all that made it.

How much of a picture is read depends on what is shown of it: a tile needs a third of what its page needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Integer, bindparam, func, select
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.errors import NotFound
from app.core.prepared import AnyRow, Prepared, build
from app.images.models import Image, ImageResource
from app.images.permissions import can_have_data, can_view_image

_RESOURCE = ("position", "kind", "name", "model_version_id", "weight", "hash")


@dataclass(frozen=True)
class Extent:
    """Which columns are read, and whether the resources are."""

    names: tuple[str, ...]
    resources: bool = True


_TILE = (
    "id", "user_id", "username", "visibility", "share_key", "taken_down_at", "rating", "origin",
    "media_type", "width", "height", "frames", "fps", "title", "prompt",
)  # fmt: skip
_LISTED = (*_TILE, "created_at", "base_model", "tags")
TILES = Extent(_TILE, resources=False)
LISTED = Extent(_LISTED)
"""What an answer says of a picture to others than its owner, but for `meta`."""
FILE = Extent(
    ("id", "user_id", "visibility", "share_key", "taken_down_at", "rating", "origin", "media_type", "width",
     "height", "blob_sha256", "thumb_sha256", "poster_sha256"),
    resources=False,
)  # fmt: skip
WHOLE = Extent((*_LISTED, "description", "negative_prompt", "meta", "infotext", "job_id"))


def columns_of(extent: Extent) -> list[ColumnElement[Any]]:
    columns = [getattr(Image, name) for name in extent.names]
    return [*columns, _resources()] if extent.resources else columns


def _resources() -> ColumnElement[Any]:
    """A JSON list of one list for each."""
    parts = func.json_build_array(*(getattr(ImageResource, name) for name in _RESOURCE))
    listed = select(func.json_agg(aggregate_order_by(parts, ImageResource.position)))
    return listed.where(ImageResource.image_id == Image.id).correlate(Image).scalar_subquery()


def images_of(rows: Sequence[AnyRow], extent: Extent) -> list[Image]:
    """`rows` begin with the columns of `extent`."""
    return [_image(row, extent) for row in rows]


def _image(row: AnyRow, extent: Extent) -> Image:
    values = dict(zip(extent.names, row, strict=False))
    if extent.resources:
        used = row[len(extent.names)] or ()
        values["resources"] = [_resource(values["id"], parts) for parts in used]
    return build(Image, values)


def _resource(image_id: int, parts: list[Any]) -> ImageResource:
    return build(ImageResource, dict(zip(_RESOURCE, parts, strict=True)) | {"image_id": image_id})


def view_image(db: Session, viewer: User | None, image_id: int, *, key: str | None = None) -> Image:
    """A picture to look at, never to change. Errors: NotFound, also for what this person may not see."""
    return _seen(images_of(_whole().rows(db, id=image_id), WHOLE), viewer, key)


def view_file(
    db: Session, viewer: User | None, image_id: int, *, key: str | None = None
) -> tuple[Image, bool]:
    """A picture whose bytes are sent, and whether the data of how it was made is taken out for this person.

    Errors: NotFound.
    """
    rows = _file().rows(db, id=image_id)
    image = _seen(images_of(rows, FILE), viewer, key)
    return image, not can_have_data(image, build(User, {"preferences": rows[0][-1]}), viewer)


def _seen(found: list[Image], viewer: User | None, key: str | None) -> Image:
    if not found or not can_view_image(found[0], viewer, key):
        raise NotFound("This picture does not exist, or it is not shared with you.")
    return found[0]


@cache
def _whole() -> Prepared:
    return Prepared(select(*columns_of(WHOLE)).where(_asked_for()), steady=True)


@cache
def _file() -> Prepared:
    """With what the owner prefers."""
    owned = select(*columns_of(FILE), User.preferences).join(User, User.id == Image.user_id)
    return Prepared(owned.where(_asked_for()), steady=True)


def _asked_for() -> ColumnElement[bool]:
    return Image.id == bindparam("id", type_=Integer)
