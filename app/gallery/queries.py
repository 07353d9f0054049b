"""Reads of the gallery: lists by keyset, look-ups by hash. As many queries for 100 rows as for one."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, func, or_, select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.db import utcnow
from app.core.errors import Invalid
from app.core.paging import Page, keyset_page
from app.gallery.models import FileHash, Model, ModelFile, ModelTag, ModelVersion
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


def list_models(
    db: Session,
    viewer: User | None,
    filters: ModelFilters,
    *,
    sort: str = "newest",
    cursor: str | None = None,
    limit: int = 30,
    offset: int = 0,
) -> Page[Model]:
    """One page; `sort` is a key of ORDERS. Errors: Invalid for a cursor that is not ours."""
    order = ORDERS.get(sort, Model.published_at)
    if order is Model.published_at and filters.own and viewer is not None:
        order = Model.listed_at  # a draft has no date of publishing
    query = _filtered(select(Model).where(_visible(viewer, filters)), viewer, filters)
    if offset:
        query = query.offset(offset)
    keys = [Model.id] if order is Model.id else [order, Model.id]
    return keyset_page(db, query, keys, cursor=cursor, limit=limit, ascending=sort == "oldest")


FOUND = 1000
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
    matched = _filtered(select(Model.id).where(_visible(viewer, filters)), viewer, filters)
    top = matched.order_by(Model.download_count.desc(), Model.id.desc()).limit(FOUND).subquery()
    order = [*_rank(filters.query), Model.download_count.desc(), Model.id.desc()]
    query = select(Model).join(top, top.c.id == Model.id).order_by(*order).offset(offset).limit(limit + 1)
    rows = list(db.scalars(query).unique())
    return Page(rows[:limit], str(offset + limit) if len(rows) > limit else None)


def _rank(words: str) -> list[ColumnElement[Any]]:
    name = words.strip()
    document = func.to_tsvector("simple", Model.name + " " + Model.description)
    return [
        (func.lower(Model.name) == name.lower()).desc(),
        _begins(Model.name, name).desc(),
        func.ts_rank(document, func.websearch_to_tsquery("simple", words)).desc(),
    ]


def _visible(viewer: User | None, filters: ModelFilters) -> ColumnElement[bool]:
    published = exists().where(ModelVersion.model_id == Model.id, ModelVersion.status == "Published")
    public = and_(Model.visibility == "public", published, Model.rating.op("&")(filters.level) != 0)
    shown = or_(public, Model.user_id == viewer.id) if filters.own and viewer else public
    return and_(shown, Model.taken_down_at.is_(None))


def _filtered(query: Select[Any], viewer: User | None, filters: ModelFilters) -> Select[Any]:
    if filters.query:
        query = query.where(_matches(filters.query))
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
        query = query.where(
            func.coalesce(Model.published_at, Model.created_at) >= utcnow() - timedelta(days=days)
        )
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


def _matches(words: str) -> ColumnElement[bool]:
    """Words of name and description, a part of the name, a tag, a person."""
    part = "%" + re.sub(r"([\\%_])", r"\\\1", words.strip()) + "%"
    document = func.to_tsvector("simple", Model.name + " " + Model.description)
    return or_(
        document.op("@@")(func.websearch_to_tsquery("simple", words)),
        Model.name.ilike(part),
        _has_tag(words),
        func.lower(Model.username) == words.strip().lower(),
    )


_LISTED = and_(
    Model.visibility == "public",
    Model.taken_down_at.is_(None),
    Model.rating != 0,
    exists().where(ModelVersion.model_id == Model.id, ModelVersion.status == "Published"),
)
"""Models that anybody may be told of, whatever their rating is."""


def list_facets(db: Session) -> dict[str, list[str]]:
    """What the filters of the gallery can offer: base models and types in use, and the commonest tags."""
    public = (Model.visibility == "public", Model.taken_down_at.is_(None))
    bases = select(ModelVersion.base_model).join(Model, Model.id == ModelVersion.model_id)
    tags = (
        select(ModelTag.tag).join(Model, Model.id == ModelTag.model_id)
        .where(*public, ~Model.built_in, ModelTag.tag.not_in(CATEGORIES))
        .group_by(ModelTag.tag).order_by(func.count().desc(), ModelTag.tag).limit(8)
    )  # fmt: skip
    return {
        "base_models": list(
            db.scalars(
                bases.where(*public, ModelVersion.status == "Published").distinct().order_by("base_model")
            )
        ),
        "types": list(db.scalars(select(Model.type).where(*public).distinct().order_by(Model.type))),
        "tags": list(db.scalars(tags)),
    }


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
    base = (
        select(ModelTag.tag, func.count().label("models")).join(Model, Model.id == ModelTag.model_id)
        .where(_LISTED).group_by(ModelTag.tag)
    )  # fmt: skip
    return _counted(db, base, ModelTag.tag, query, offset=offset, limit=limit)


def list_creators(db: Session, query: str, *, offset: int, limit: int) -> tuple[list[tuple[str, int]], int]:
    """People with public models and how many, and how many people there are."""
    base = (
        select(Model.username, func.count().label("models"))
        .where(_LISTED).group_by(Model.username)
    )  # fmt: skip
    return _counted(db, base, Model.username, query, offset=offset, limit=limit)


def list_people(
    db: Session, *, ids: Sequence[int] = (), prefix: str = "", limit: int = 5
) -> list[tuple[int, str]]:
    """(id, name) of people with public models, by ids or the start of the name; of nobody else."""
    query = select(Model.user_id, Model.username).where(_LISTED).distinct()
    query = query.where(Model.user_id.in_(ids)) if ids else query.where(_begins(Model.username, prefix))
    return [(row[0], row[1]) for row in db.execute(query.order_by(Model.username).limit(limit))]


def list_runnable(db: Session, viewer: User | None, ids: Sequence[int]) -> set[int]:
    """Those of these versions that this person sees and that can run here."""
    query = (
        select(ModelVersion.id).join(Model).where(ModelVersion.id.in_(ids), ModelVersion.family.is_not(None))
    )
    return set(db.scalars(query.where(_versions_visible(viewer))))


def _begins(name: Any, prefix: str) -> ColumnElement[bool]:
    begins: ColumnElement[bool] = name.ilike(re.sub(r"([\\%_])", r"\\\1", prefix) + "%")
    return begins


def _counted(
    db: Session, base: Select[Any, Any], name: Any, query: str, *, offset: int, limit: int
) -> tuple[list[tuple[str, int]], int]:
    if query:
        base = base.where(_begins(name, query))
    total = db.scalar(select(func.count()).select_from(base.subquery())) or 0
    rows = db.execute(base.order_by(func.count().desc(), name).offset(offset).limit(limit))
    return [(str(text), int(count)) for text, count in rows], int(total)
