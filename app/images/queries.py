"""Lists of pictures by keyset; the number of queries does not grow with the number of rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Select, exists, or_, select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.db import utcnow
from app.core.errors import Unauthorized
from app.core.paging import Page, encode_cursor, keyset_page
from app.images.models import Image, ImageResource

PERIODS = {"Day": 1, "Week": 7, "Month": 30, "Year": 365}
"""Days; any other word means all time."""


@dataclass(frozen=True)
class ImageFilters:
    """`level` is a bit mask of ratings. `mine` lists the viewer's own history instead of what is public."""

    mine: bool = False
    query: str = ""
    username: str = ""
    user_id: int | None = None
    image_id: int | None = None
    version_ids: Sequence[int] | None = None
    base_models: Sequence[str] = ()
    period: str = "AllTime"
    level: int = 3
    with_meta_only: bool = False


def list_images(
    db: Session,
    viewer: User | None,
    filters: ImageFilters,
    *,
    cursor: str | None = None,
    limit: int = 50,
    oldest_first: bool = False,
) -> Page[Image]:
    """Newest first. Errors: Unauthorized for `mine` without a person, Invalid for a wrong cursor."""
    query = _own(viewer) if filters.mine else _public(filters)
    return keyset_page(
        db, _filtered(query, filters), [Image.id], cursor=cursor, limit=limit, ascending=oldest_first
    )


def _own(viewer: User | None) -> Select[Any]:
    if viewer is None:
        raise Unauthorized("Log in to see your own pictures.")
    return select(Image).where(
        Image.user_id == viewer.id, Image.origin != "page", Image.taken_down_at.is_(None)
    )


def _public(filters: ImageFilters) -> Select[Any]:
    return select(Image).where(
        Image.visibility == "public",
        Image.taken_down_at.is_(None),
        Image.rating.op("&")(filters.level) != 0,
    )


def _filtered(query: Select[Any], filters: ImageFilters) -> Select[Any]:
    if filters.query:
        words = f"%{_escape(filters.query)}%"
        query = query.where(or_(Image.prompt.ilike(words), Image.title.ilike(words)))
    if filters.username:
        query = query.where(Image.username.ilike(_escape(filters.username)))
    if filters.user_id is not None:
        query = query.where(Image.user_id == filters.user_id)
    if filters.image_id is not None:
        query = query.where(Image.id == filters.image_id)
    if filters.version_ids is not None:
        used = exists().where(
            ImageResource.image_id == Image.id, ImageResource.model_version_id.in_(filters.version_ids)
        )
        query = query.where(used)
    if filters.base_models:
        query = query.where(Image.base_model.in_(filters.base_models))
    if filters.with_meta_only:
        query = query.where(Image.prompt != "")
    if days := PERIODS.get(filters.period):
        query = query.where(Image.created_at >= utcnow() - timedelta(days=days))
    return query


def _escape(words: str) -> str:
    return words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def neighbours(
    db: Session, viewer: User | None, image: Image, filters: ImageFilters
) -> tuple[int | None, int | None]:
    """Ids of the newer and the older picture beside this one in the same list; None at an end."""
    newer = list_images(db, viewer, filters, limit=1, oldest_first=True, cursor=_cursor(image))
    older = list_images(db, viewer, filters, limit=1, cursor=_cursor(image))
    return _first(newer), _first(older)


def _cursor(image: Image) -> str:
    return encode_cursor([image.id])


def _first(page: Page[Image]) -> int | None:
    return page.items[0].id if page.items else None
