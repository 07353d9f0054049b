"""Lists of pictures by keyset; the number of queries does not grow with the number of rows.

One statement for each combination of filters that is asked for, built and compiled once: the filters that
are set decide its text, their values are parameters of the same names.
"""

import secrets
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import (
    ARRAY,
    BindParameter,
    ColumnElement,
    Integer,
    ScalarSelect,
    Select,
    String,
    and_,
    any_,
    bindparam,
    exists,
    func,
    literal_column,
    select,
    true,
    union_all,
)
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.db import utcnow, within
from app.core.errors import Unauthorized
from app.core.paging import Page, after, edge_values, encode_cursor
from app.core.prepared import Prepared
from app.images.models import Image, ImageResource
from app.images.rows import WHOLE, Extent, columns_of, images_of

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


SECONDS = 2.0
"""A search that takes longer is refused: it would hold up everybody else."""
OVERTAKEN = 1000
RANDOM_WINDOW = 1000
"""So many rows beside each other are shuffled: a whole table cannot be, at its size."""
_KEY = (Image.id,)
_PUBLIC = Image.visibility == literal_column("'public'")
"""Written out, or a plan for all values could not use the indexes of public pictures."""
Names = tuple[str, ...]


def list_images(
    db: Session,
    viewer: User | None,
    filters: ImageFilters,
    *,
    cursor: str | None = None,
    limit: int = 50,
    oldest_first: bool = False,
    offset: int = 0,
    extent: Extent = WHOLE,
) -> Page[Image]:
    """Newest first, pictures to look at.

    Errors: Unauthorized for `mine` without a person, Invalid for a wrong cursor, TookTooLong.
    """
    asked = _asked(viewer, filters)
    if oldest_first and not filters.mine and "since" in asked:
        asked["about_since"] = True
    values = asked | edge_values(_KEY, cursor) | {"offset": offset, "limit": limit + 1}
    statement = _listing(tuple(asked), extent, ascending=oldest_first, behind=bool(cursor))
    with within(db, SECONDS) if filters.query or filters.tag_ids else nullcontext():
        rows = statement.rows(db, **values)
    images = images_of(rows[:limit], extent)
    return Page(images, encode_cursor([images[-1].id]) if len(rows) > limit else None)


def list_random_images(
    db: Session, viewer: User | None, filters: ImageFilters, *, limit: int = 50, extent: Extent = WHOLE
) -> list[Image]:
    """Some pictures in any order, from any place of the list; there is no next page."""
    [[last]] = _last().rows(db)
    asked = _asked(viewer, filters)
    start = secrets.randbelow((last or 0) + 1)
    return images_of(_random(tuple(asked), extent).rows(db, **asked, start=start, limit=limit), extent)


def neighbours(
    db: Session, viewer: User | None, image: Image, filters: ImageFilters
) -> tuple[int | None, int | None]:
    """Ids of the newer and the older picture beside this one in the same list; None at an end."""
    asked = _asked(viewer, filters)
    [(newer, older)] = _beside(tuple(asked)).rows(db, **asked, edge_0=image.id)
    return newer, older


def _asked(viewer: User | None, filters: ImageFilters) -> dict[str, Any]:
    """Condition → the value of its parameter; of a condition without a parameter True."""
    if filters.mine and viewer is None:
        raise Unauthorized("Log in to see your own pictures.")
    days = PERIODS.get(filters.period)
    asked = {
        "mine": viewer.id if filters.mine and viewer else None,
        "level": None if filters.mine else filters.level,
        "query": filters.query or None,
        "username": filters.username.lower() or None,
        "user_id": filters.user_id,
        "image_id": filters.image_id,
        "versions": None if filters.version_ids is None else list(filters.version_ids),
        "base_model": filters.base_models[0] if len(filters.base_models) == 1 else None,
        "base_models": list(filters.base_models) if len(filters.base_models) > 1 else None,
        "with_meta": filters.with_meta_only or None,
        "tag_ids": list(filters.tag_ids) or None,
        "video": filters.media == "video" or None,
        "still": filters.media == "image" or None,
        "since": utcnow() - timedelta(days=days) if days else None,
    }
    return {name: value for name, value in asked.items() if value is not None}


@cache
def _conditions() -> dict[str, ColumnElement[bool]]:
    return {
        "mine": and_(Image.user_id == _number("mine"), Image.origin != "page"),
        "level": and_(_PUBLIC, Image.rating.op("&")(_number("level")) != 0),
        "query": Image.search.op("@@")(func.websearch_to_tsquery("simple", _word("query"))),
        "username": func.lower(Image.username) == _word("username"),
        "user_id": Image.user_id == _number("user_id"),
        "image_id": Image.id == _number("image_id"),
        "versions": exists().where(
            ImageResource.image_id == Image.id,
            ImageResource.model_version_id == any_(_list("versions", Integer())),
        ),
        # A single one is compared plainly, because then an index gives the order as well.
        "base_model": Image.base_model == _word("base_model"),
        "base_models": Image.base_model == any_(_list("base_models", String())),
        "with_meta": Image.prompt != "",
        "tag_ids": Image.tag_numbers.overlap(_list("tag_ids", Integer())),
        "video": Image.media_type.like("video/%"),
        "still": ~Image.media_type.like("video/%"),
        "since": Image.created_at >= _moment("since"),
        "about_since": Image.id >= _first_since(_moment("since")),
    }


def _number(name: str) -> BindParameter[int]:
    return bindparam(name, type_=Integer)


def _word(name: str) -> BindParameter[str]:
    return bindparam(name, type_=String)


def _moment(name: str) -> BindParameter[datetime]:
    return bindparam(name, type_=Image.created_at.type)


def _list(name: str, kind: Any) -> BindParameter[Any]:
    return bindparam(name, type_=ARRAY(kind))


def _first_since(moment: BindParameter[datetime]) -> ScalarSelect[int]:
    """About the first number of a public picture since then: where to begin, instead of at the very first.

    Numbers and moments are given together, but not in one step: a few may have overtaken others.
    """
    first = select(Image.id - OVERTAKEN).where(_PUBLIC, Image.created_at >= moment)
    return first.order_by(Image.created_at).limit(1).scalar_subquery()


def _shown(names: Names) -> list[ColumnElement[bool]]:
    return [Image.taken_down_at.is_(None), *(_conditions()[name] for name in names)]


@lru_cache(maxsize=512)
def _listing(names: Names, extent: Extent, *, ascending: bool, behind: bool) -> Prepared:
    """The page of `limit` after `offset`."""
    order = Image.id.asc() if ascending else Image.id.desc()
    shown = _shown(tuple(name for name in names if name != "versions"))
    shown += [after(_KEY, ascending=ascending)] if behind else []
    if "versions" in names:
        shown = [Image.id.in_(_first_of_each(shown, order))]
    page = select(*columns_of(extent)).where(*shown).order_by(order).limit(_number("limit"))
    return Prepared(page.offset(_number("offset")))


def _first_of_each(shown: Sequence[ColumnElement[bool]], order: Any) -> Select[Any]:
    """Numbers of the first pictures that were made with each of the versions: an index has those in order.

    Asked for all versions at once, Postgres walks through all pictures until it has met enough of them.
    """
    version = func.unnest(_list("versions", Integer())).table_valued("number").render_derived("version")
    used = select(Image.id).join(ImageResource, ImageResource.image_id == Image.id).distinct()
    used = used.where(ImageResource.model_version_id == version.c.number, *shown).correlate(version)
    first = used.order_by(order).limit(_number("offset") + _number("limit")).lateral("first")
    return select(first.c.id).select_from(version).join(first, true())


@cache
def _last() -> Prepared:
    return Prepared(select(func.max(Image.id)).where(_PUBLIC))


@lru_cache(maxsize=128)
def _random(names: Names, extent: Extent) -> Prepared:
    listed, start = select(Image.id).where(*_shown(names)), _number("start")
    older = listed.where(Image.id <= start).order_by(Image.id.desc()).limit(RANDOM_WINDOW)
    newer = listed.where(Image.id > start).order_by(Image.id).limit(RANDOM_WINDOW)
    window = union_all(older.subquery().select(), newer.subquery().select()).subquery()
    query = select(*columns_of(extent)).where(Image.id.in_(select(window.c.id)))
    return Prepared(query.order_by(func.random()).limit(_number("limit")))


@lru_cache(maxsize=128)
def _beside(names: Names) -> Prepared:
    listed = select(Image.id).where(*_shown(names)).limit(literal_column("1"))
    newer = listed.where(after(_KEY, ascending=True)).order_by(Image.id)
    older = listed.where(after(_KEY)).order_by(Image.id.desc())
    return Prepared(select(newer.scalar_subquery(), older.scalar_subquery()), steady=True)


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
