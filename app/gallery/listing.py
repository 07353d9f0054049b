"""Lists of models: their numbers, page by page; `cards` and `whole` read what is shown of them.

One statement for each combination of filters that is asked for, built and compiled once: the filters that
are set decide its text, their values are parameters.
"""

import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Integer,
    Select,
    SQLColumnExpression,
    String,
    Text,
    and_,
    bindparam,
    exists,
    func,
    or_,
    select,
    text,
    true,
    union,
)
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.db import utcnow, within
from app.core.paging import Page, after, edge_values, page_of_rows
from app.core.prepared import Prepared
from app.gallery.models import Model, ModelFile, ModelTag, ModelVersion
from app.images.queries import PERIODS

ORDERS: dict[str, Any] = {
    "newest": Model.published_at,
    "oldest": Model.published_at,
    "downloads": Model.download_count,
    "pictures": Model.image_count,
    "ids": Model.id,
}
SHORT = ("Day", "Week")
"""Periods of which few models are: walking through all by downloads until thirty were met takes longer."""
SECONDS = 2.0
"""A search that takes longer is refused: it would hold up everybody else."""
POPULAR = (Model.download_count.desc(), Model.id.desc())
FEW = 5000
"""So many models with two words are sooner found by these and sorted than met in the order of a list."""
RANKED = 50
"""A search ranks the most downloaded of what it finds, no more: words may be in half of all models."""


@dataclass(frozen=True)
class ModelFilters:
    """`level` is a bit mask of ratings. `own` adds what the viewer owns and has not published.

    `flags` are columns of the model and what they must be.
    """

    query: str = ""
    tag: str = ""
    username: str = ""
    types: Sequence[str] = ()
    base_models: Sequence[str] = ()
    category: str = ""
    period: str = "AllTime"
    level: int = 3
    trained_here: bool = False
    supports_generation: bool | None = None
    ids: Sequence[int] = ()
    version_ids: Sequence[int] = ()
    commercial_use: Sequence[str] = ()
    own: bool = False
    without_types: Sequence[str] = ()
    visibility: Sequence[str] = ()
    archived: bool | None = None
    formats: Sequence[str] = ()
    flags: tuple[tuple[str, bool], ...] = ()


_LISTS = ("types", "base_models", "ids", "version_ids", "without_types", "visibility", "formats")


@dataclass(frozen=True)
class Shape:
    """What makes one statement differ from another."""

    filters: ModelFilters
    """Those asked for, with nothing in place of their values."""
    known: bool
    """Somebody asks who may have something of their own in the list."""
    sort: str = ""
    behind: bool = False
    """There is a cursor."""
    others: bool = False
    """Without what a search shows first for its name."""
    few: bool = False
    """No more than FEW models have the words that are looked for; it says nothing of tags and names."""
    fetched: bool = False
    """Of those alone that were fetched often."""


def list_ids(
    db: Session,
    viewer: User | None,
    filters: ModelFilters,
    *,
    sort: str = "newest",
    cursor: str | None = None,
    limit: int = 30,
    offset: int = 0,
) -> Page[int]:
    """One page; `sort` is a key of ORDERS. Errors: Invalid for a cursor that is not ours, TookTooLong."""
    sort = sort if sort in ORDERS else "newest"
    shape = replace(
        shape_of(filters, viewer, estimate_of(db, filters.query.strip())), sort=sort, behind=bool(cursor)
    )
    return page_of(db, shape, values_of(viewer, filters), cursor, limit, offset)


def page_of(
    db: Session, shape: Shape, values: dict[str, Any], cursor: str | None, limit: int, offset: int = 0
) -> Page[int]:
    keys = _keys(shape)
    values |= edge_values(keys, cursor) | {"offset": offset, "limit": limit + 1}
    with within(db, SECONDS) if shape.filters.query else nullcontext():
        page = page_of_rows(_listing(shape).rows(db, **values), limit, len(keys))
    return Page([row[-1] for row in page.items], page.next_cursor)


def shape_of(filters: ModelFilters, viewer: User | None, estimate: int) -> Shape:
    return Shape(_alike(filters), filters.own and viewer is not None, few=estimate <= FEW)


def estimate_of(db: Session, words: str) -> int:
    """How many models have the words, as Postgres believes; very many without words.

    It knows that well, but not how long comparing words takes.
    """
    if not words:
        return 1 << 30
    plan = _WITH_WORDS.rows(db, words=words)[0][0]
    found = re.search(r"rows=(\d+)", plan)
    return int(found[1]) if found else 0


_WITH_WORDS = Prepared(
    text("explain select from model where search @@ websearch_to_tsquery('simple', :words)")
)


def _alike(filters: ModelFilters) -> ModelFilters:
    """The same for all filters that differ in their values alone."""
    lists: dict[str, Any] = {name: ("…", "…")[: len(getattr(filters, name))] for name in _LISTS}
    return replace(
        filters, query=_kind_of(filters.query), tag="…" if filters.tag else "", level=0,
        username="…" if filters.username else "", category="…" if filters.category else "",
        commercial_use=tuple(sorted({"None" if use == "None" else "…" for use in filters.commercial_use})),
        **lists,
    )  # fmt: skip


def _kind_of(words: str) -> str:
    """`words`, one `word`, or a `short` one of less than three letters, which are in half of all names."""
    several = len(words.split()) > 1
    return "words" if several else "word" if len(words.strip()) > 2 else "short" if words.strip() else ""


def values_of(viewer: User | None, filters: ModelFilters) -> dict[str, Any]:
    """All that a statement may name as a parameter."""
    words, days = filters.query.strip(), PERIODS.get(filters.period)
    lists = {name: _one_or_all(getattr(filters, name)) for name in _LISTS}
    return lists | {
        "viewer": viewer.id if viewer else None,
        "level": filters.level,
        "tag": filters.tag.strip().lower(),
        "username": filters.username.lower(),
        "category": filters.category,
        "commercial_use": [use for use in filters.commercial_use if use != "None"],
        "bases": list(filters.base_models),
        "since": utcnow() - timedelta(days=days) if days else None,
        "words": words,
        "lowered": words.lower(),
        "part": f"%{literally(words)}%",
        "beginning": f"{literally(words.lower())}%",
    }


def _one_or_all(values: Sequence[Any]) -> Any:
    return values[0] if len(values) == 1 else list(values)


def literally(words: str) -> str:
    """For LIKE: without the meaning that some letters have there."""
    return re.sub(r"([\\%_])", r"\\\1", words)


@lru_cache(maxsize=512)
def _listing(shape: Shape) -> Prepared:
    """The page of `limit` after `offset`, each model with its sort key.

    Each of the ways is looked up by itself, because Postgres cannot use the indexes of several conditions
    that are joined by OR. Few models out of many, chosen by something else than their order, are found by
    that and sorted, instead of met by chance in order.
    """
    keys, ways, limit = _keys(shape), ways_of(shape), bindparam("limit", type_=Integer)
    ascending = shape.sort == "oldest"
    in_order, sorted_here = (_ordered(each, ascending=ascending) for each in (keys, _unindexed(keys)))
    short = shape.filters.period in SHORT and shape.sort in ("downloads", "pictures")
    query = filtered(select(*keys), shape)
    query = query.where(after(keys, ascending=ascending)) if shape.behind else query
    query = query.where(Model.id.not_in(of_that_name(shape))) if shape.others else query
    if len(ways) == 1:
        query = query.where(ways[0].fits)
    else:
        order = sorted_here if short else in_order
        found = numbers_of(query, ways, order, sorted_here, bindparam("offset", type_=Integer) + limit)
        query = query.where(Model.id.in_(select(found)))
    page = query.order_by(*(sorted_here if short or len(ways) > 1 else in_order))
    return Prepared(page.offset(bindparam("offset", type_=Integer)).limit(limit))


def _ordered(keys: Sequence[Any], *, ascending: bool) -> list[ColumnElement[Any]]:
    return [key.asc() if ascending else key.desc() for key in keys]


def of_that_name(shape: Shape) -> Select[Any]:
    """The models that are called just as the words, found by their name: nobody need have fetched them."""
    query = filtered(select(Model.id), shape).where(or_(*seen_by(shape)), is_name())
    return query.order_by(*by_downloads()).limit(RANKED)


def by_downloads() -> list[ColumnElement[Any]]:
    return [key.desc() for key in _unindexed([Model.download_count, Model.id])]


def is_name() -> ColumnElement[bool]:
    same: ColumnElement[bool] = func.lower(Model.name) == bindparam("lowered", type_=String)
    return same


def numbers_of(
    query: Select[Any], ways: Sequence["Way"], order: Sequence[Any], sorted_here: Sequence[Any], most: Any
) -> Any:
    """The models of `query` that are among the first `most` of one of `ways`; by few words in `sorted_here`,
    which is the same order by expressions that no index has."""
    found = [
        query.with_only_columns(Model.id)
        .where(way.fits)
        .order_by(*(sorted_here if way.by_few_words else order))
        .limit(most)
        for way in ways
    ]
    return union(*(one.subquery().select() for one in found)).subquery()


def _keys(shape: Shape) -> list[SQLColumnExpression[Any]]:
    order = ORDERS[shape.sort]
    if order is Model.published_at and shape.known:
        order = Model.listed_at  # a draft has no date of publishing
    return [Model.id] if order is Model.id else [order, Model.id]


def _unindexed(keys: Sequence[Any]) -> list[SQLColumnExpression[Any]]:
    """The same order by expressions that no index has."""
    nothing = func.make_interval() if keys[0].type.python_type is datetime else 0
    return [keys[0] + nothing, *keys[1:]]


def words_asked() -> ColumnElement[Any]:
    return func.websearch_to_tsquery("simple", bindparam("words", type_=String))


@dataclass(frozen=True)
class Way:
    fits: ColumnElement[bool]
    by_few_words: bool = False


def ways_of(shape: Shape) -> list[Way]:
    """Each way in which a model may be in the list: how it may be seen, and how it fits the words."""
    fitting = [(seen, fit) for seen in seen_by(shape) for fit in _fits(shape)]
    return [Way(and_(seen, fit.fits), fit.by_few_words) for seen, fit in fitting]


def seen_by(shape: Shape) -> list[ColumnElement[bool]]:
    """A public model has a published version: the rules of `service` see to that."""
    rated = Model.rating.op("&")(bindparam("level", type_=Integer)) != 0
    public = and_(Model.visibility == "public", rated)
    return [public, Model.user_id == bindparam("viewer", type_=Integer)] if shape.known else [public]


def _fits(shape: Shape) -> list[Way]:
    """How a model can be what is looked for: words of it, its tag, its person, a part of its name.

    A person's name is one word, and only of one are parts looked for.
    """
    kind = shape.filters.query
    if not kind:
        return [Way(true())]
    ways = [Way(Model.search.op("@@")(words_asked()), shape.few), Way(_has_tag("lowered"))]
    if kind != "words":
        ways.append(Way(func.lower(Model.username) == bindparam("lowered", type_=String)))
    if kind == "word":
        ways.append(Way(Model.name.ilike(bindparam("part", type_=String))))
    return ways


def _has_tag(name: str) -> ColumnElement[bool]:
    tag = bindparam(name, type_=String)
    return exists().where(ModelTag.model_id == Model.id, ModelTag.tag == tag)


def filtered(query: Select[Any], shape: Shape) -> Select[Any]:
    filters = shape.filters
    query = query.where(Model.taken_down_at.is_(None))
    if filters.tag:
        query = query.where(_has_tag("tag"))
    if filters.username:
        query = query.where(func.lower(Model.username) == bindparam("username", type_=String))
    if filters.types:
        query = query.where(_among(Model.type, "types", filters.types))
    if filters.category:
        query = query.where(Model.category == bindparam("category", type_=String))
    if filters.ids:
        query = query.where(_among(Model.id, "ids", filters.ids))
    if filters.period in PERIODS:
        moment = Model.listed_at if shape.known else Model.published_at
        query = query.where(moment >= bindparam("since", type_=Model.created_at.type))
    return _of_versions(query.where(*_page_conditions(filters)), shape)


def _among(column: Any, name: str, values: Sequence[object]) -> ColumnElement[bool]:
    """One of them; a single one is compared plainly, because then an index gives the order as well."""
    if len(values) == 1:
        same: ColumnElement[bool] = column == bindparam(name, type_=column.type)
        return same
    among: ColumnElement[bool] = column == func.any(bindparam(name, type_=ARRAY(column.type)))
    return among


def _page_conditions(filters: ModelFilters) -> list[ColumnElement[bool]]:
    """What the owner has said of the page."""
    wanted: list[ColumnElement[bool]] = [getattr(Model, name).is_(value) for name, value in filters.flags]
    if filters.without_types:
        wanted.append(~_among(Model.type, "without_types", filters.without_types))
    if filters.visibility:
        wanted.append(_among(Model.visibility, "visibility", filters.visibility))
    if filters.archived is not None:
        wanted.append(Model.archived_at.is_not(None) if filters.archived else Model.archived_at.is_(None))
    if filters.commercial_use:
        allowed = Model.allow_commercial_use.op("?|")(bindparam("commercial_use", type_=ARRAY(String)))
        nothing = func.jsonb_array_length(Model.allow_commercial_use) == 0
        wanted.append(or_(allowed, nothing) if "None" in filters.commercial_use else allowed)
    return wanted


def _of_versions(query: Select[Any], shape: Shape) -> Select[Any]:
    """Conditions that one version must meet together, and one that may be spoken of."""
    filters, wanted = shape.filters, list[ColumnElement[bool]]()
    if filters.version_ids:
        wanted.append(_among(ModelVersion.id, "version_ids", filters.version_ids))
    if filters.trained_here:
        wanted.append(ModelVersion.upload_type == "Trained")
    if filters.supports_generation is not None:
        has = ModelVersion.family.is_not(None)
        wanted.append(has if filters.supports_generation else ~has)
    if filters.formats:
        known = _among(ModelFile.format, "formats", filters.formats)
        wanted.append(exists().where(ModelFile.version_id == ModelVersion.id, known))
    if filters.base_models:
        if not wanted and not shape.known:  # what is published alone is in the model's own row
            return query.where(Model.bases.overlap(bindparam("bases", type_=ARRAY(Text))))
        wanted.append(_among(ModelVersion.base_model, "base_models", filters.base_models))
    if not wanted:
        return query
    told = ModelVersion.status == "Published"
    told = or_(told, Model.user_id == bindparam("viewer", type_=Integer)) if shape.known else told
    return query.where(exists().where(ModelVersion.model_id == Model.id, told, *wanted))
