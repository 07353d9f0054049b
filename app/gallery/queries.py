"""Reads of the gallery: facets, words, people, look-ups by hash. Lists of models are in `listing`."""

import re
import time
from collections.abc import Sequence
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import (
    ColumnElement,
    Integer,
    String,
    and_,
    bindparam,
    exists,
    func,
    or_,
    select,
    union_all,
)
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.db import is_reader
from app.core.errors import Invalid
from app.core.prepared import Prepared
from app.gallery.listing import literally
from app.gallery.models import FileHash, Model, ModelFile, ModelVersion, Term

CATEGORIES = ("style", "character", "concept")
_HEX = re.compile(r"[0-9A-F]{8,64}")


_LISTED = and_(
    Model.visibility == "public",
    Model.taken_down_at.is_(None),
    Model.rating != 0,
    exists().where(ModelVersion.model_id == Model.id, ModelVersion.status == "Published"),
)
"""Models that anybody may be told of, whatever their rating is."""


SECONDS = 5.0
Facets = dict[str, list[str]]
_remembered: WeakKeyDictionary[Any, tuple[float, Facets]] = WeakKeyDictionary()


def list_facets(db: Session) -> Facets:
    """What the filters of the gallery can offer: base models and types in use, and the commonest tags.

    They are counted now and then, so what anybody is told of them is remembered for some seconds.
    """
    if not is_reader(db):
        return _read_facets(db)
    asked_at, facets = _remembered.get(db.get_bind(), (-SECONDS, {}))
    if time.monotonic() - asked_at > SECONDS:
        facets = _read_facets(db)
        _remembered[db.get_bind()] = (time.monotonic(), facets)
    return facets


def _read_facets(db: Session) -> Facets:
    rows = _facets().rows(db)
    names = {kind: [row[1] for row in rows if row[0] == kind] for kind in ("base", "type", "topic")}
    return {"base_models": sorted(names["base"]), "types": sorted(names["type"]), "tags": names["topic"]}


@cache
def _facets() -> Prepared:
    commonest = select(Term.kind, Term.name).order_by(Term.models.desc(), Term.name)
    topics = commonest.where(Term.kind == "topic", *(Term.name != name for name in CATEGORIES))
    several = [
        commonest.where(Term.kind == "base").limit(60),
        commonest.where(Term.kind == "type").limit(60),
        topics.limit(8),
    ]
    return Prepared(union_all(*(one.subquery().select() for one in several)), steady=True)


def _versions_visible(viewer: User | None) -> ColumnElement[bool]:
    return _seen(None if viewer is None else viewer.id)


def _seen(viewer: Any) -> ColumnElement[bool]:
    public = and_(Model.visibility == "public", ModelVersion.status == "Published", Model.rating != 0)
    shown = public if viewer is None else or_(public, Model.user_id == viewer)
    return and_(shown, Model.taken_down_at.is_(None))


OLDEST_FIRST = (ModelVersion.published_at.asc().nulls_last(), ModelVersion.id)


def find_id_by_hash(db: Session, viewer: User | None, digits: str) -> int | None:
    """The oldest published version with a file of this hash (any kind and case); own drafts count.

    Ten digits may also be the start of an AutoV3.
    """
    digits = digits.strip().upper()
    if not _HEX.fullmatch(digits):
        return None
    asked = _by_hash(viewer is not None, short=len(digits) == 10)
    rows = asked.rows(db, digits=digits, last=digits + "FF", viewer=viewer.id if viewer else None)
    return rows[0][0] if rows else None


@cache
def _by_hash(known: bool, *, short: bool) -> Prepared:
    digits, last = bindparam("digits", type_=String), bindparam("last", type_=String)
    matches = FileHash.value == digits
    if short:
        begins = FileHash.value.between(digits, last)
        matches = or_(matches, and_(FileHash.kind == "AutoV3", begins))
    seen = _seen(bindparam("viewer", type_=Integer) if known else None)
    query = select(ModelVersion.id).join(Model).join(ModelFile).join(FileHash)
    return Prepared(query.where(matches, seen).order_by(*OLDEST_FIRST).limit(1), steady=True)


def find_by_hash(db: Session, viewer: User | None, digits: str) -> ModelVersion | None:
    """As find_id_by_hash."""
    number = find_id_by_hash(db, viewer, digits)
    return None if number is None else db.get(ModelVersion, number)


def get_version_by_hash(db: Session, viewer: User | None, digits: str) -> ModelVersion:
    """As find_by_hash. Errors: Invalid `base-model-missing`."""
    version = find_by_hash(db, viewer, digits)
    if version is None:
        raise Invalid("There is no file with this hash here.", code="base-model-missing")
    return version


def list_by_hashes(db: Session, viewer: User | None, shas: Sequence[str]) -> list[tuple[ModelVersion, str]]:
    """(version, SHA256) of every file among `shas`; several files may share one hash."""
    wanted = {sha.strip().upper() for sha in shas}
    query = select(ModelVersion, FileHash.value).join(Model).join(ModelFile).join(FileHash)
    hashed = query.where(FileHash.kind == "SHA256", FileHash.value.in_(wanted), _versions_visible(viewer))
    return [(version, value) for version, value in db.execute(hashed.order_by(*OLDEST_FIRST)).unique()]


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
    values = {"kind": kind, "beginning": f"{literally(query.lower())}%", "offset": offset, "limit": limit}
    total = _terms_counted(begun=bool(query)).rows(db, **values)[0][0]
    rows = _terms_listed(begun=bool(query)).rows(db, **values)
    return [(name, count) for name, count in rows], total


@cache
def _terms_counted(*, begun: bool) -> Prepared:
    return Prepared(select(func.count()).select_from(Term).where(*_terms_wanted(begun=begun)))


@cache
def _terms_listed(*, begun: bool) -> Prepared:
    query = select(Term.name, Term.models).where(*_terms_wanted(begun=begun))
    page = query.order_by(Term.models.desc(), Term.name).offset(bindparam("offset", type_=Integer))
    return Prepared(page.limit(bindparam("limit", type_=Integer)))


def _terms_wanted(*, begun: bool) -> list[ColumnElement[bool]]:
    wanted = [Term.kind == bindparam("kind", type_=String)]
    begins = func.lower(Term.name).like(bindparam("beginning", type_=String))
    return [*wanted, begins] if begun else wanted


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
    begins: ColumnElement[bool] = func.lower(name).like(f"{literally(prefix.lower())}%")
    return begins
