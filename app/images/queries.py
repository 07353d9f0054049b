"""Lists of pictures by keyset; the number of queries does not grow with the number of rows."""

import secrets
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ScalarSelect, Select, exists, func, select, union_all
from sqlalchemy.orm import Session, defer, lazyload, load_only
from sqlalchemy.sql.base import ExecutableOption

from app.accounts.models import User
from app.core.db import utcnow, within
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
    tag_ids: Sequence[int] = ()
    media: str = ""
    """`image` or `video`; empty means both."""


LIGHT = (lazyload(Image.resources), *(defer(column) for column in (Image.meta, Image.infotext)))
"""Options for a query of pictures of which only tiles are shown."""
_NUMBERS = (lazyload(Image.resources), load_only(Image.id))


def list_images(
    db: Session,
    viewer: User | None,
    filters: ImageFilters,
    *,
    cursor: str | None = None,
    limit: int = 50,
    oldest_first: bool = False,
    offset: int = 0,
    options: Sequence[ExecutableOption] = (),
) -> Page[Image]:
    """Newest first. Errors: Unauthorized for `mine` without a person, Invalid for a wrong cursor."""
    query = _filtered(_own(viewer) if filters.mine else _public(filters), filters).options(*options)
    if oldest_first and not filters.mine and (days := PERIODS.get(filters.period)):
        query = query.where(Image.id >= _first_since(utcnow() - timedelta(days=days)))
    with within(db, SECONDS) if filters.query or filters.tag_ids else nullcontext():
        return keyset_page(
            db, query, [Image.id], cursor=cursor, limit=limit, ascending=oldest_first, offset=offset
        )


SECONDS = 2.0
"""A search that takes longer is refused: it would hold up everybody else."""


RANDOM_WINDOW = 1000
"""So many rows beside each other are shuffled: a whole table cannot be, at its size."""


def list_random_images(
    db: Session, viewer: User | None, filters: ImageFilters, *, limit: int = 50
) -> list[Image]:
    """Some pictures in any order, from any place of the list; there is no next page."""
    last = db.scalar(select(func.max(Image.id)).where(Image.visibility == "public")) or 0
    start = secrets.randbelow(last + 1)
    shown = _filtered(_own(viewer) if filters.mine else _public(filters), filters)
    listed = shown.with_only_columns(Image.id)
    older = listed.where(Image.id <= start).order_by(Image.id.desc()).limit(RANDOM_WINDOW)
    newer = listed.where(Image.id > start).order_by(Image.id).limit(RANDOM_WINDOW)
    window = union_all(older.subquery().select(), newer.subquery().select()).subquery()
    query = select(Image).where(Image.id.in_(select(window.c.id))).order_by(func.random()).limit(limit)
    return list(db.scalars(query).unique())


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
        query = query.where(Image.search.op("@@")(func.websearch_to_tsquery("simple", filters.query)))
    if filters.username:
        query = query.where(func.lower(Image.username) == filters.username.lower())
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
    if filters.tag_ids:
        query = query.where(Image.tag_numbers.overlap(filters.tag_ids))
    if filters.media:
        video = Image.media_type.like("video/%")
        query = query.where(video if filters.media == "video" else ~video)
    if days := PERIODS.get(filters.period):
        query = query.where(Image.created_at >= utcnow() - timedelta(days=days))
    return query


def _first_since(moment: datetime) -> ScalarSelect[int]:
    """About the first number of a public picture since then: where to begin, instead of at the very first.

    Numbers and moments are given together, but not in one step: a few may have overtaken others.
    """
    first = select(Image.id - OVERTAKEN).where(Image.visibility == "public", Image.created_at >= moment)
    return first.order_by(Image.created_at).limit(1).scalar_subquery()


OVERTAKEN = 1000


def neighbours(
    db: Session, viewer: User | None, image: Image, filters: ImageFilters
) -> tuple[int | None, int | None]:
    """Ids of the newer and the older picture beside this one in the same list; None at an end."""
    newer = list_images(
        db, viewer, filters, limit=1, oldest_first=True, cursor=_cursor(image), options=_NUMBERS
    )
    older = list_images(db, viewer, filters, limit=1, cursor=_cursor(image), options=_NUMBERS)
    return _first(newer), _first(older)


def _cursor(image: Image) -> str:
    return encode_cursor([image.id])


def _first(page: Page[Image]) -> int | None:
    return page.items[0].id if page.items else None


def pictures_of_jobs(db: Session, job_ids: Sequence[str]) -> dict[str, dict[int, Image]]:
    """What these jobs have drawn so far: job → number of the picture → picture."""
    found: dict[str, dict[int, Image]] = {}
    for image in db.scalars(select(Image).where(Image.job_id.in_(job_ids))).unique():
        if image.job_id is not None and image.job_index is not None:
            found.setdefault(image.job_id, {})[image.job_index] = image
    return found


def count_drawn(db: Session, user: User, start: datetime, end: datetime) -> int:
    """How many pictures of a person's were drawn between two moments, and are still there."""
    mine = (Image.user_id == user.id, Image.job_id.is_not(None))
    query = select(func.count()).where(*mine, Image.created_at >= start, Image.created_at <= end)
    return db.scalar(query) or 0
