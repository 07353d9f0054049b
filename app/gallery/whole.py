"""Models with all that they have, in one statement: for answers that show versions, files and pictures.

Postgres makes one JSON text of each. What is made of it belongs to no session, and is looked at by the same
rules and shapes as what a change has loaded.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any
from weakref import proxy

from pydantic_core import from_json
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Integer,
    Select,
    Text,
    bindparam,
    cast,
    func,
    literal_column,
    null,
    select,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import Session, class_mapper

from app.accounts.models import User
from app.core.errors import NotFound
from app.core.prepared import Prepared, build
from app.gallery.models import Model, ModelFile, ModelTag, ModelVersion, VersionPicture
from app.gallery.permissions import can_view_model, can_view_version
from app.images.models import Image, ImageResource

_PICTURE = (
    "id", "user_id", "visibility", "share_key", "rating", "taken_down_at", "origin", "media_type", "size",
    "width", "height", "frames", "fps", "prompt", "meta",
)  # fmt: skip
"""Without details, of the last two only whether they are empty."""
_EMPTY: ColumnElement[Any] = literal_column("'{}'::jsonb")
_RESOURCE = ("kind", "name", "model_version_id", "weight")


def model_texts(db: Session, model_ids: Sequence[int], *, details: bool = True) -> list[str]:
    """Each of these models as a text that `model_of` reads, in their order; of those that are still there.

    Without `details` it is not read how their pictures were made.
    """
    rows = _models(details=details).rows(db, numbers=list(model_ids)) if model_ids else ()
    found = {row[0]: row[1] for row in rows}
    return [found[number] for number in model_ids if number in found]


def model_of(text: str) -> Model:
    """Its versions see it as long as it is there: thousands of objects in a circle would wait for the garbage
    collector, which holds everybody up while it looks for them."""
    *values, versions = from_json(text)
    model = _bare_model(values)
    model.versions = [_version(proxy(model), parts) for parts in versions or ()]
    return model


def view_model(db: Session, viewer: User | None, model_id: int, *, key: str | None = None) -> Model:
    """Errors: NotFound, also for what this person may not see."""
    model = next(map(model_of, model_texts(db, [model_id])), None)
    if model is None or not can_view_model(model, viewer, key):
        raise NotFound("This model does not exist, or it is not shared with you.")
    return model


def view_version(
    db: Session, viewer: User | None, version_id: int, *, key: str | None = None
) -> ModelVersion:
    """With its model, which knows of no version. Errors: NotFound, also for what this person may not see."""
    rows = _version_alone().rows(db, number=version_id)
    version = _lone_version(rows[0][0]) if rows else None
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
_FILE = _names(ModelFile)


@cache
def _models(*, details: bool) -> Prepared:
    versions = _list_of(ModelVersion, _version_parts(details=details), ModelVersion.id.desc())
    mine = versions.where(ModelVersion.model_id == Model.id).correlate(Model).scalar_subquery()
    wanted = func.any(bindparam("numbers", type_=ARRAY(Integer)))
    return Prepared(select(Model.id, _text(mine)).where(Model.id == wanted), steady=True)


@cache
def _version_alone() -> Prepared:
    alone = _text(func.json_build_array(*_version_parts(details=True)))
    query = select(alone).join_from(Model, ModelVersion, ModelVersion.model_id == Model.id)
    return Prepared(query.where(ModelVersion.id == bindparam("number", type_=Integer)), steady=True)


def _text(versions: ColumnElement[Any]) -> ColumnElement[str]:
    """A model's columns, its tags, and `versions`."""
    tags = select(func.json_agg(aggregate_order_by(ModelTag.tag, ModelTag.tag)))
    tagged = tags.where(ModelTag.model_id == Model.id).correlate(Model).scalar_subquery()
    return cast(func.json_build_array(*_columns(Model, _MODEL), tagged, versions), Text)


def _version_parts(*, details: bool) -> list[ColumnElement[Any]]:
    files = _list_of(ModelFile, _columns(ModelFile, _FILE), ModelFile.id)
    pictures = _list_of(Image, _picture_parts(details=details), VersionPicture.position)
    pictured = pictures.join(VersionPicture, VersionPicture.image_id == Image.id)
    return [
        *_columns(ModelVersion, _VERSION),
        files.where(ModelFile.version_id == ModelVersion.id).correlate(ModelVersion).scalar_subquery(),
        pictured.where(VersionPicture.version_id == ModelVersion.id)
        .correlate(ModelVersion)
        .scalar_subquery(),
    ]


def _picture_parts(*, details: bool) -> list[ColumnElement[Any]]:
    if details:
        return [*_columns(Image, _PICTURE), _resources()]
    return [*_columns(Image, _PICTURE[:-2]), Image.prompt != "", Image.meta != _EMPTY, null()]


def _resources() -> ColumnElement[Any]:
    used = _list_of(ImageResource, _columns(ImageResource, _RESOURCE), ImageResource.position)
    return used.where(ImageResource.image_id == Image.id).correlate(Image).scalar_subquery()


def _columns(kind: type[Any], names: Iterable[str]) -> list[ColumnElement[Any]]:
    return [getattr(kind, name) for name in names]


def _list_of(kind: type[Any], parts: Sequence[ColumnElement[Any]], order: Any) -> Select[Any]:
    """A JSON list of one list for each row: names would be longer than the values."""
    return select(func.json_agg(aggregate_order_by(func.json_build_array(*parts), order))).select_from(kind)


def _lone_version(text: str) -> ModelVersion:
    *values, version = from_json(text)
    return _version(_bare_model(values), version)


def _bare_model(parts: list[Any]) -> Model:
    *values, tags = parts
    model = build(Model, dict(zip(_MODEL, _with_moments(values, _MODEL_MOMENTS), strict=True)))
    model.tags = [build(ModelTag, {"model_id": model.id, "tag": tag}) for tag in tags or ()]
    return model


def _version(model: Model, parts: list[Any]) -> ModelVersion:
    *values, files, pictures = parts
    version = build(ModelVersion, dict(zip(_VERSION, _with_moments(values, _VERSION_MOMENTS), strict=True)))
    version.model, owner = model, proxy(version)
    version.files = [_file(owner, each) for each in files or ()]
    version.pictures = [_picture(version, place, each) for place, each in enumerate(pictures or ())]
    return version


def _file(version: ModelVersion, values: list[Any]) -> ModelFile:
    file = build(ModelFile, dict(zip(_FILE, _with_moments(values, _FILE_MOMENTS), strict=True)))
    file.version = version
    return file


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


_MODEL_MOMENTS = _moments(Model, _MODEL)
_VERSION_MOMENTS = _moments(ModelVersion, _VERSION)
_FILE_MOMENTS = _moments(ModelFile, _FILE)


def _with_moments(values: list[Any], places: tuple[int, ...]) -> list[Any]:
    for place in places:
        if values[place] is not None:
            values[place] = datetime.fromisoformat(values[place])
    return values
