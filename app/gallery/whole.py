"""Models with all that they have, in one statement: for answers that show versions, files and pictures.

Postgres makes one JSON value of each model's versions. The objects belong to no session: they are looked at
by the same rules and shapes as those that a change has loaded.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any
from weakref import proxy

from sqlalchemy import ARRAY, ColumnElement, Integer, Select, bindparam, func, select
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import Session, class_mapper

from app.accounts.models import User
from app.core.errors import NotFound
from app.core.prepared import AnyRow, Prepared, build
from app.gallery.models import FileHash, Model, ModelFile, ModelTag, ModelVersion, VersionPicture
from app.gallery.permissions import can_view_model, can_view_version
from app.images.models import Image, ImageResource

_PICTURE = (
    "id", "user_id", "visibility", "share_key", "rating", "taken_down_at", "origin", "media_type", "size",
    "width", "height", "frames", "fps", "prompt", "meta",
)  # fmt: skip
_RESOURCE = ("kind", "name", "model_version_id", "weight")


def whole_models(db: Session, model_ids: Sequence[int]) -> list[Model]:
    """These models, in their order; of those that are still there."""
    rows = _models().rows(db, numbers=list(model_ids)) if model_ids else ()
    found = {row[0]: _model(row) for row in rows}
    return [found[number] for number in model_ids if number in found]


def whole_versions(db: Session, version_ids: Sequence[int]) -> list[ModelVersion]:
    """These versions, in their order, each with its model, which knows of no version."""
    rows = _versions().rows(db, numbers=list(version_ids)) if version_ids else ()
    found = {version.id: version for version in map(_lone_version, rows)}
    return [found[number] for number in version_ids if number in found]


def view_model(db: Session, viewer: User | None, model_id: int, *, key: str | None = None) -> Model:
    """Errors: NotFound, also for what this person may not see."""
    model = next(iter(whole_models(db, [model_id])), None)
    if model is None or not can_view_model(model, viewer, key):
        raise NotFound("This model does not exist, or it is not shared with you.")
    return model


def view_version(
    db: Session, viewer: User | None, version_id: int, *, key: str | None = None
) -> ModelVersion:
    """Errors: NotFound, also for what this person may not see."""
    version = next(iter(whole_versions(db, [version_id])), None)
    if version is None or not can_view_version(version, viewer, key):
        raise NotFound("This version does not exist, or it is not shared with you.")
    return version


@cache
def _names(kind: type[Any], *, without: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The columns of a table that are read with its rows."""
    columns = class_mapper(kind).column_attrs
    return tuple(c.key for c in columns if not c.deferred and c.key not in without)


_MODEL = _names(Model, without=("listed_at",))
_VERSION = _names(ModelVersion)
_FILE = _names(ModelFile, without=("hash_values",))


@cache
def _models() -> Prepared:
    versions = _list_of(ModelVersion, _version_parts(), ModelVersion.id.desc())
    mine = versions.where(ModelVersion.model_id == Model.id).correlate(Model).scalar_subquery()
    return Prepared(_model_query(mine).where(Model.id == _numbers()), steady=True)


@cache
def _versions() -> Prepared:
    alone = func.json_build_array(func.json_build_array(*_version_parts()))
    query = _model_query(alone).join(ModelVersion, ModelVersion.model_id == Model.id)
    return Prepared(query.where(ModelVersion.id == _numbers()), steady=True)


def _numbers() -> ColumnElement[Any]:
    return func.any(bindparam("numbers", type_=ARRAY(Integer)))


def _model_query(versions: ColumnElement[Any]) -> Select[Any]:
    tags = select(ModelTag.tag).where(ModelTag.model_id == Model.id).order_by(ModelTag.tag)
    tagged = func.array(tags.correlate(Model).scalar_subquery())
    return select(*(getattr(Model, name) for name in _MODEL), tagged, versions)


def _version_parts() -> list[ColumnElement[Any]]:
    files = _list_of(ModelFile, [*_columns(ModelFile, _FILE), _hashes()], ModelFile.id)
    pictures = _list_of(Image, [*_columns(Image, _PICTURE), _resources()], VersionPicture.position)
    pictured = pictures.join(VersionPicture, VersionPicture.image_id == Image.id)
    return [
        *_columns(ModelVersion, _VERSION),
        files.where(ModelFile.version_id == ModelVersion.id).correlate(ModelVersion).scalar_subquery(),
        pictured.where(VersionPicture.version_id == ModelVersion.id)
        .correlate(ModelVersion)
        .scalar_subquery(),
    ]


def _hashes() -> ColumnElement[Any]:
    pairs = select(func.json_object_agg(FileHash.kind, FileHash.value))
    return pairs.where(FileHash.file_id == ModelFile.id).correlate(ModelFile).scalar_subquery()


def _resources() -> ColumnElement[Any]:
    used = _list_of(ImageResource, _columns(ImageResource, _RESOURCE), ImageResource.position)
    return used.where(ImageResource.image_id == Image.id).correlate(Image).scalar_subquery()


def _columns(kind: type[Any], names: Iterable[str]) -> list[ColumnElement[Any]]:
    return [getattr(kind, name) for name in names]


def _list_of(kind: type[Any], parts: Sequence[ColumnElement[Any]], order: Any) -> Select[Any]:
    """A JSON list of one list for each row: names would be longer than the values."""
    return select(func.json_agg(aggregate_order_by(func.json_build_array(*parts), order))).select_from(kind)


def _model(row: AnyRow) -> Model:
    """Its versions see it as long as it is there: thousands of objects in a circle would wait for the garbage
    collector, and it takes twenty milliseconds for them."""
    model = _bare_model(row)
    model.versions = [_version(proxy(model), parts) for parts in row[-1] or ()]
    return model


def _lone_version(row: AnyRow) -> ModelVersion:
    return _version(_bare_model(row), row[-1][0])


def _bare_model(row: AnyRow) -> Model:
    *values, tags, _ = row
    model = build(Model, dict(zip(_MODEL, values, strict=True)))
    model.tags = [build(ModelTag, {"model_id": model.id, "tag": tag}) for tag in tags]
    return model


def _version(model: Model, parts: list[Any]) -> ModelVersion:
    *values, files, pictures = parts
    version = build(ModelVersion, dict(zip(_VERSION, _with_moments(values, _VERSION_MOMENTS), strict=True)))
    version.model, owner = model, proxy(version)
    version.files = [_file(owner, each) for each in files or ()]
    version.pictures = [_picture(version, place, each) for place, each in enumerate(pictures or ())]
    return version


def _file(version: ModelVersion, parts: list[Any]) -> ModelFile:
    *values, hashes = parts
    known = {"version": version, "hash_values": hashes}
    return build(ModelFile, dict(zip(_FILE, _with_moments(values, _FILE_MOMENTS), strict=True)) | known)


def _picture(version: ModelVersion, position: int, parts: list[Any]) -> VersionPicture:
    *values, resources = parts
    used = [build(ImageResource, dict(zip(_RESOURCE, each, strict=True))) for each in resources or ()]
    image = build(Image, dict(zip(_PICTURE, values, strict=True)) | {"resources": used})
    return build(
        VersionPicture,
        {"version_id": version.id, "image_id": image.id, "position": position, "image": image},
    )


def _moments(kind: type[Any], names: Sequence[str]) -> tuple[int, ...]:
    """Places of what JSON has as text and Python as a moment."""
    columns = class_mapper(kind).columns
    return tuple(place for place, name in enumerate(names) if columns[name].type.python_type is datetime)


_VERSION_MOMENTS = _moments(ModelVersion, _VERSION)
_FILE_MOMENTS = _moments(ModelFile, _FILE)


def _with_moments(values: list[Any], places: tuple[int, ...]) -> list[Any]:
    for place in places:
        if values[place] is not None:
            values[place] = datetime.fromisoformat(values[place])
    return values
