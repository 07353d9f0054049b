"""Reads of the gallery: lists by keyset, look-ups by hash. As many queries for 100 rows as for one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
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
}
CATEGORIES = ("style", "character", "concept")
_HEX = re.compile(r"[0-9A-F]{8,64}")


@dataclass(frozen=True)
class ModelFilters:
    """`level` is a bit mask of ratings. `own` adds what the viewer owns and has not published."""

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
    if order is Model.published_at and filters.own:
        order = Model.updated_at  # a draft has no date of publishing
    query = _filtered(select(Model).where(_visible(viewer, filters)), filters)
    if offset:
        query = query.offset(offset)
    keys = [order, Model.id]
    return keyset_page(db, query, keys, cursor=cursor, limit=limit, ascending=sort == "oldest")


def _visible(viewer: User | None, filters: ModelFilters) -> ColumnElement[bool]:
    published = exists().where(ModelVersion.model_id == Model.id, ModelVersion.status == "Published")
    public = and_(Model.visibility == "public", published, Model.rating.op("&")(filters.level) != 0)
    shown = or_(public, Model.user_id == viewer.id) if filters.own and viewer else public
    return and_(shown, Model.taken_down_at.is_(None))


def _filtered(query: Select[Any], filters: ModelFilters) -> Select[Any]:
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
    if filters.commercial_use:
        query = query.where(
            or_(*(Model.allow_commercial_use.contains([use]) for use in filters.commercial_use))
        )
    if days := PERIODS.get(filters.period):
        query = query.where(
            func.coalesce(Model.published_at, Model.updated_at) >= utcnow() - timedelta(days=days)
        )
    return _of_versions(query, filters)


def _of_versions(query: Select[Any], filters: ModelFilters) -> Select[Any]:
    """Conditions that one version must meet together."""
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
    return query.where(exists().where(ModelVersion.model_id == Model.id, *wanted)) if wanted else query


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
    public = and_(Model.visibility == "public", ModelVersion.status == "Published")
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
        .where(Model.visibility == "public", Model.taken_down_at.is_(None)).group_by(ModelTag.tag)
    )  # fmt: skip
    return _counted(db, base, ModelTag.tag, query, offset=offset, limit=limit)


def list_creators(db: Session, query: str, *, offset: int, limit: int) -> tuple[list[tuple[str, int]], int]:
    """People with public models and how many, and how many people there are."""
    base = (
        select(Model.username, func.count().label("models"))
        .where(Model.visibility == "public", Model.taken_down_at.is_(None)).group_by(Model.username)
    )  # fmt: skip
    return _counted(db, base, Model.username, query, offset=offset, limit=limit)


def _counted(
    db: Session, base: Select[Any, Any], name: Any, query: str, *, offset: int, limit: int
) -> tuple[list[tuple[str, int]], int]:
    if query:
        base = base.where(name.ilike(re.sub(r"([\\%_])", r"\\\1", query) + "%"))
    total = db.scalar(select(func.count()).select_from(base.subquery())) or 0
    rows = db.execute(base.order_by(func.count().desc(), name).offset(offset).limit(limit))
    return [(str(text), int(count)) for text, count in rows], int(total)
