"""Reads of the gallery: lists by keyset, look-ups by hash. As many queries for 100 rows as for one."""

import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, func, or_, select, true, union, union_all
from sqlalchemy.orm import Session, selectinload
from sqlalchemy.sql.base import ExecutableOption

from app.accounts.models import User
from app.core.db import utcnow, within
from app.core.errors import Invalid
from app.core.paging import Page, keyset_page
from app.gallery.models import FileHash, Model, ModelFile, ModelTag, ModelVersion, Term
from app.images.queries import PERIODS

ORDERS: dict[str, Any] = {
    "newest": Model.published_at,
    "oldest": Model.published_at,
    "downloads": Model.download_count,
    "pictures": Model.image_count,
    "ids": Model.id,
}
CATEGORIES = ("style", "character", "concept")
_HEX = re.compile(r"[0-9A-F]{8,64}")


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
    flags: Mapping[str, bool] = field(default_factory=dict)


WHOLE = (selectinload(Model.versions).lazyload(ModelVersion.model),)
"""Options for a query of models with all that they have: a version's model is at hand and not read again."""


def list_models(
    db: Session,
    viewer: User | None,
    filters: ModelFilters,
    *,
    sort: str = "newest",
    cursor: str | None = None,
    limit: int = 30,
    offset: int = 0,
    options: Sequence[ExecutableOption] = WHOLE,
) -> Page[Model]:
    """One page; `sort` is a key of ORDERS. Errors: Invalid for a cursor that is not ours, TookTooLong."""
    order = ORDERS.get(sort, Model.published_at)
    if order is Model.published_at and filters.own and viewer is not None:
        order = Model.listed_at  # a draft has no date of publishing
    query = _filtered(select(Model).options(*options), viewer, filters)
    keys = [Model.id] if order is Model.id else [order, Model.id]
    with within(db, SECONDS) if filters.query else nullcontext():
        return keyset_page(
            db,
            query,
            keys,
            cursor=cursor,
            limit=limit,
            ascending=sort == "oldest",
            offset=offset,
            ways=_ways(viewer, filters),
            sorted_here=filters.period in SHORT and sort in ("downloads", "pictures"),
        )


SHORT = ("Day", "Week")
"""Periods of which few models are: walking through all by downloads until thirty were met takes longer."""
SECONDS = 2.0
"""A search that takes longer is refused: it would hold up everybody else."""
FOUND = 300
"""A search ranks the most downloaded of what it finds, no more: words may be in half of all models."""


def search_models(
    db: Session, viewer: User | None, filters: ModelFilters, *, cursor: str | None = None, limit: int = 30
) -> Page[Model]:
    """What fits `filters.query`, best first: name, its beginning, words, then downloads.

    The cursor is how many came before. Errors: Invalid for another one.
    """
    if cursor and not re.fullmatch(r"\d{1,4}", cursor, re.ASCII):
        raise Invalid("The cursor is not valid. Start again without it.")
    offset = int(cursor or 0)
    popular = (Model.download_count.desc(), Model.id.desc())
    matched = _filtered(select(Model.id), viewer, filters)
    found = [matched.where(way).order_by(*popular).limit(FOUND) for way in _ways(viewer, filters)]
    numbers = union(*(one.subquery().select() for one in found)).subquery()
    order = [*_rank(filters.query), *popular]
    query = (
        select(Model)
        .options(*WHOLE)
        .join(numbers, numbers.c.id == Model.id)
        .order_by(*order)
        .offset(offset)
        .limit(limit + 1)
    )
    with within(db, SECONDS):
        rows = list(db.scalars(query).unique())
    return Page(rows[:limit], str(offset + limit) if len(rows) > limit else None)


def _rank(words: str) -> list[ColumnElement[Any]]:
    name = words.strip()
    return [
        (func.lower(Model.name) == name.lower()).desc(),
        _begins(Model.name, name).desc(),
        func.ts_rank(Model.search, func.websearch_to_tsquery("simple", words)).desc(),
    ]


def _ways(viewer: User | None, filters: ModelFilters) -> list[ColumnElement[bool]]:
    """Each way in which a model may be in the list: how it may be seen, and how it fits the words."""
    published = exists().where(ModelVersion.model_id == Model.id, ModelVersion.status == "Published")
    seen = [and_(Model.visibility == "public", published, Model.rating.op("&")(filters.level) != 0)]
    if filters.own and viewer:
        seen.append(Model.user_id == viewer.id)
    return [and_(one, fit) for one in seen for fit in _fits(filters.query)]


def _filtered(query: Select[Any], viewer: User | None, filters: ModelFilters) -> Select[Any]:
    query = query.where(Model.taken_down_at.is_(None))
    if filters.tag:
        query = query.where(_has_tag(filters.tag))
    if filters.username:
        query = query.where(func.lower(Model.username) == filters.username.lower())
    if filters.types:
        query = query.where(Model.type.in_(filters.types))
    if filters.category:
        query = query.where(Model.category == filters.category)
    if filters.ids:
        query = query.where(Model.id.in_(filters.ids))
    if days := PERIODS.get(filters.period):
        moment = Model.listed_at if viewer and filters.own else Model.published_at
        query = query.where(moment >= utcnow() - timedelta(days=days))
    return _of_versions(query.where(*_page_conditions(filters)), viewer, filters)


def _page_conditions(filters: ModelFilters) -> list[ColumnElement[bool]]:
    """What the owner has said of the page."""
    wanted: list[ColumnElement[bool]] = [
        getattr(Model, name).is_(value) for name, value in filters.flags.items()
    ]
    if filters.without_types:
        wanted.append(Model.type.not_in(filters.without_types))
    if filters.visibility:
        wanted.append(Model.visibility.in_(filters.visibility))
    if filters.archived is not None:
        wanted.append(Model.archived_at.is_not(None) if filters.archived else Model.archived_at.is_(None))
    if filters.commercial_use:
        allowed = (Model.allow_commercial_use.contains([use]) for use in filters.commercial_use)
        nothing = [func.jsonb_array_length(Model.allow_commercial_use) == 0]
        wanted.append(or_(*allowed, *(nothing if "None" in filters.commercial_use else ())))
    return wanted


def _of_versions(query: Select[Any], viewer: User | None, filters: ModelFilters) -> Select[Any]:
    """Conditions that one version must meet together, and one that may be spoken of."""
    wanted: list[ColumnElement[bool]] = []
    if filters.base_models:
        wanted.append(ModelVersion.base_model.in_(filters.base_models))
    if filters.version_ids:
        wanted.append(ModelVersion.id.in_(filters.version_ids))
    if filters.trained_here:
        wanted.append(ModelVersion.upload_type == "Trained")
    if filters.supports_generation is not None:
        has = ModelVersion.family.is_not(None)
        wanted.append(has if filters.supports_generation else ~has)
    if filters.formats:
        file = exists().where(ModelFile.version_id == ModelVersion.id, ModelFile.format.in_(filters.formats))
        wanted.append(file)
    if not wanted:
        return query
    told = ModelVersion.status == "Published"
    told = or_(told, Model.user_id == viewer.id) if viewer and filters.own else told
    return query.where(exists().where(ModelVersion.model_id == Model.id, told, *wanted))


def _has_tag(tag: str) -> ColumnElement[bool]:
    return exists().where(ModelTag.model_id == Model.id, ModelTag.tag == tag.strip().lower())


def _fits(words: str) -> list[ColumnElement[bool]]:
    """How a model can be what is looked for: words of it, its tag, its person, a part of its name.

    Parts are of three letters or more, and of one word: anything less is in half of all names.
    """
    words = words.strip()
    if not words:
        return [true()]
    ways: list[ColumnElement[bool]] = [
        Model.search.op("@@")(func.websearch_to_tsquery("simple", words)),
        _has_tag(words),
        func.lower(Model.username) == words.lower(),
    ]
    if re.fullmatch(r"\S{3,}", words):
        ways.append(Model.name.ilike("%" + re.sub(r"([\\%_])", r"\\\1", words) + "%"))
    return ways


_LISTED = and_(
    Model.visibility == "public",
    Model.taken_down_at.is_(None),
    Model.rating != 0,
    exists().where(ModelVersion.model_id == Model.id, ModelVersion.status == "Published"),
)
"""Models that anybody may be told of, whatever their rating is."""


def list_facets(db: Session) -> dict[str, list[str]]:
    """What the filters of the gallery can offer: base models and types in use, and the commonest tags."""
    commonest = select(Term.kind, Term.name).order_by(Term.models.desc(), Term.name)
    several = [
        commonest.where(Term.kind == "base").limit(60),
        commonest.where(Term.kind == "type").limit(60),
        commonest.where(Term.kind == "topic", Term.name.not_in(CATEGORIES)).limit(8),
    ]
    rows = db.execute(union_all(*(one.subquery().select() for one in several))).all()
    names = {kind: [row[1] for row in rows if row[0] == kind] for kind in ("base", "type", "topic")}
    return {"base_models": sorted(names["base"]), "types": sorted(names["type"]), "tags": names["topic"]}


def _hash_matches(digits: str) -> ColumnElement[bool]:
    """Any stored hash as it is; ten digits may also be the start of an AutoV3."""
    exact = FileHash.value == digits
    if len(digits) != 10:
        return exact
    return or_(exact, and_(FileHash.kind == "AutoV3", FileHash.value.between(digits, digits + "FF")))


def _versions_visible(viewer: User | None) -> ColumnElement[bool]:
    public = and_(Model.visibility == "public", ModelVersion.status == "Published", Model.rating != 0)
    shown = or_(public, Model.user_id == viewer.id) if viewer else public
    return and_(shown, Model.taken_down_at.is_(None))


def _by_hash(viewer: User | None, condition: ColumnElement[bool]) -> Select[Any]:
    query = select(ModelVersion).join(Model).join(ModelFile).join(FileHash)
    order = (ModelVersion.published_at.asc().nulls_last(), ModelVersion.id)
    return query.where(condition, _versions_visible(viewer)).order_by(*order)


def find_by_hash(db: Session, viewer: User | None, digits: str) -> ModelVersion | None:
    """The oldest published version with a file of this hash (any kind and case); own drafts count."""
    digits = digits.strip().upper()
    if not _HEX.fullmatch(digits):
        return None
    return db.scalars(_by_hash(viewer, _hash_matches(digits)).limit(1)).unique().first()


def get_version_by_hash(db: Session, viewer: User | None, digits: str) -> ModelVersion:
    """As find_by_hash. Errors: Invalid `base-model-missing`."""
    version = find_by_hash(db, viewer, digits)
    if version is None:
        raise Invalid("There is no file with this hash here.", code="base-model-missing")
    return version


def list_by_hashes(db: Session, viewer: User | None, shas: Sequence[str]) -> list[tuple[ModelVersion, str]]:
    """(version, SHA256) of every file among `shas`; several files may share one hash."""
    wanted = {sha.strip().upper() for sha in shas}
    query = _by_hash(viewer, and_(FileHash.kind == "SHA256", FileHash.value.in_(wanted)))
    rows = db.execute(query.add_columns(FileHash.value)).unique()
    return [(version, value) for version, value in rows]


def list_ids_by_hashes(db: Session, viewer: User | None, shas: Sequence[str]) -> list[tuple[int, int, str]]:
    """(version, model, SHA256) of every file among `shas`, without loading any of them."""
    wanted = {sha.strip().upper() for sha in shas}
    query = (
        select(ModelVersion.id, ModelVersion.model_id, FileHash.value)
        .join(Model, Model.id == ModelVersion.model_id)
        .join(ModelFile, ModelFile.version_id == ModelVersion.id)
        .join(FileHash, FileHash.file_id == ModelFile.id)
        .where(FileHash.kind == "SHA256", FileHash.value.in_(wanted), _versions_visible(viewer))
        .order_by(ModelVersion.id, ModelFile.id)
    )
    return [(row[0], row[1], row[2]) for row in db.execute(query)]


def version_ids_of(db: Session, viewer: User | None, model_id: int) -> list[int]:
    """Ids of the versions of a model that lists may speak of."""
    query = (
        select(ModelVersion.id)
        .join(Model)
        .where(ModelVersion.model_id == model_id, _versions_visible(viewer))
    )
    return list(db.scalars(query))


def link_resource(db: Session, viewer: User | None, digits: str, name: str) -> tuple[int | None, str]:
    """What generation data names: (version id, name of its model), or (None, the name as written)."""
    version = find_by_hash(db, viewer, digits)
    return (version.id, version.model.name) if version else (None, name)


def list_tags(db: Session, query: str, *, offset: int, limit: int) -> tuple[list[tuple[str, int]], int]:
    """Tags of public models with their counts, commonest first, and how many tags there are."""
    return _terms(db, "tag", query, offset=offset, limit=limit)


def list_creators(db: Session, query: str, *, offset: int, limit: int) -> tuple[list[tuple[str, int]], int]:
    """People with public models and how many, and how many people there are."""
    return _terms(db, "creator", query, offset=offset, limit=limit)


def _terms(
    db: Session, kind: str, query: str, *, offset: int, limit: int
) -> tuple[list[tuple[str, int]], int]:
    wanted = [Term.kind == kind, *([_begins(Term.name, query)] if query else [])]
    total = db.scalar(select(func.count()).select_from(Term).where(*wanted)) or 0
    order = (Term.models.desc(), Term.name)
    rows = db.execute(
        select(Term.name, Term.models).where(*wanted).order_by(*order).offset(offset).limit(limit)
    )
    return [(name, count) for name, count in rows], total


def list_people(
    db: Session, *, ids: Sequence[int] = (), prefix: str = "", limit: int = 5
) -> list[tuple[int, str]]:
    """(id, name) of people with public models, by ids or the start of the name; of nobody else."""
    query = select(User.id, User.username).where(exists().where(Model.user_id == User.id, _LISTED))
    query = query.where(User.id.in_(ids)) if ids else query.where(_begins(User.username, prefix))
    return [(row[0], row[1]) for row in db.execute(query.order_by(User.username).limit(limit))]


def list_runnable(db: Session, viewer: User | None, ids: Sequence[int]) -> set[int]:
    """Those of these versions that this person sees and that can run here."""
    query = (
        select(ModelVersion.id).join(Model).where(ModelVersion.id.in_(ids), ModelVersion.family.is_not(None))
    )
    return set(db.scalars(query.where(_versions_visible(viewer))))


def _begins(name: Any, prefix: str) -> ColumnElement[bool]:
    start = re.sub(r"([\\%_])", r"\\\1", prefix.lower()) + "%"
    begins: ColumnElement[bool] = func.lower(name).like(start)
    return begins
