"""Civitai's public API, version 1: models and their versions. Beside it: pictures, lists, downloads.

Without a token only what is public, published and rated; with one, the owner's own too.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response
from pydantic import Field
from pydantic_core import to_json

from app.accounts.deps import CompatUser
from app.accounts.models import User
from app.compat import faces
from app.compat.answers import CivitaiRoute
from app.compat.query import PERIODS, Query, path_id
from app.core.errors import NotFound, Unauthorized
from app.core.paging import Page
from app.gallery import queries, service
from app.gallery.listing import ModelFilters, list_ids
from app.gallery.models import Model, ModelVersion
from app.gallery.permissions import can_edit_model
from app.gallery.schemas import COMMERCIAL_USE, MODEL_TYPES
from app.gallery.searching import search_ids
from app.gallery.shapes import Shown, mini_out, model_out, version_out
from app.gallery.whole import model_of, model_texts, view_model, view_version
from app.web.deps import Db
from app.web.kept import for_everybody
from app.web.links import origin
from app.web.made import Made

router = APIRouter(tags=["civitai"], route_class=CivitaiRoute)
SORTS = {
    "Highest Rated": "downloads", "Most Downloaded": "downloads", "Most Liked": "downloads",
    "Most Discussed": "ids", "Most Collected": "ids", "Most Images": "pictures",
    "Newest": "newest", "Oldest": "oldest",
}  # fmt: skip
"""Nobody likes, discusses or collects here, so those counters are all the same, and the next key decides."""
STATUSES = (
    "Draft", "Training", "Published", "Scheduled", "Unpublished", "UnpublishedViolation", "GatherInterest",
    "Deleted",
)  # fmt: skip
FORMATS = ("SafeTensor", "PickleTensor", "GGUF", "Diffusers", "Core ML", "ONNX", "Other")
AVAILABILITY = {"Public": "public", "Unsearchable": "unlisted", "Private": "private", "EarlyAccess": "none"}
NOBODY_HAS = ("favorites", "hidden", "followed", "earlyAccess", "needsReview")
"""Filters for what does not exist here: true of nothing."""
FLAGS = {
    "allowNoCredit": "allow_no_credit", "allowDerivatives": "allow_derivatives",
    "allowDifferentLicense": "allow_different_license",
    "allowDifferentLicenses": "allow_different_license",
}  # fmt: skip
Sha256 = Annotated[str, Field(min_length=64, max_length=64)]


@router.get("/api/v1/models")
@for_everybody
def list_models(request: Request, db: Db, viewer: CompatUser) -> Any:
    """Models by cursor. Parameters as in Civitai's API; unknown ones are ignored."""
    query = Query(request)
    if viewer is None and ("favorites" in query.raw or "hidden" in query.raw):
        raise Unauthorized("Unauthorized")
    limit = query.integer("limit", 100, most=100) or 100
    page = query.page(limit)
    filters = _model_filters(query)
    if any(query.flag(name) for name in NOBODY_HAS):
        return {"items": [], "metadata": query.paged(None, page, limit)}
    found = _found(db, viewer, query, filters, page=page, limit=limit)
    only_primary = bool(query.flag("primaryFileOnly"))
    items = [
        _item(request, text, viewer, filters, only_primary=only_primary)
        for text in model_texts(db, found.items, details=False)
    ]
    metadata = to_json(query.paged(found.next_cursor, page, limit))
    body = b'{"items":[' + b",".join(items) + b'],"metadata":' + metadata + b"}"
    return Response(body, media_type="application/json")


made = Made(most=32 << 20)


def _item(
    request: Request, text: str, viewer: User | None, filters: ModelFilters, *, only_primary: bool
) -> bytes:
    """One model of the list: popular ones are in many, and to nobody in particular always the same."""

    def make() -> bytes:
        model = model_of(text)
        how = Shown(filters.level, details=False, base_models=filters.base_models)
        told = model_out(request, model, viewer, how)
        whole = can_edit_model(model, viewer)
        return to_json(faces.in_list(told, only_primary=only_primary, whole=whole))

    if viewer is not None:
        return make()
    how = (str(filters.level), str(only_primary), *filters.base_models)
    return made.of((text, origin(request), *how), make)


def _found(
    db: Db, viewer: User | None, query: Query, filters: ModelFilters, *, page: int | None, limit: int
) -> Page[int]:
    """By relevance where words are looked for and no order is asked for."""
    sort = query.word("sort", tuple(SORTS))
    cursor = query.text("cursor") or None
    if filters.query and not sort:
        return search_ids(db, viewer, filters, cursor=cursor, limit=limit)
    offset = 0 if page is None else (page - 1) * limit
    order = SORTS[sort or "Highest Rated"]
    return list_ids(db, viewer, filters, sort=order, cursor=cursor, limit=limit, offset=offset)


def _model_filters(query: Query) -> ModelFilters:
    query.many("status", STATUSES)  # who may see drafts sees their own in any case
    period = query.word("period", PERIODS, "AllTime")
    mode = query.word("periodMode", ("stats", "published"), "published")
    merge = query.word("checkpointType", ("Trained", "Merge", "Standard")) == "Merge"
    trained_here, archived = query.flag("fromPlatform"), query.flag("archived")
    flags = {name: flag for word, name in FLAGS.items() if (flag := query.flag(word)) is not None}.items()
    return ModelFilters(
        query=query.text("query"),
        tag=query.text("tag", "tagname"),
        username=query.text("username", "user"),
        types=query.many("types", MODEL_TYPES),
        without_types=("Checkpoint",) if merge else (),
        base_models=query.many("baseModels"),
        period=period if mode == "published" else "AllTime",
        level=query.level(31),
        supports_generation=query.flag("supportsGeneration"),
        trained_here=bool(trained_here),
        archived=archived or None,
        ids=query.integers("ids"),
        version_ids=query.integers("modelVersionIds"),
        commercial_use=query.many("allowCommercialUse", ("None", *COMMERCIAL_USE)),
        formats=query.many("fileFormats", FORMATS),
        visibility=[AVAILABILITY[word] for word in query.many("availability", tuple(AVAILABILITY))],
        flags=tuple(flags),
        own=True,
    )


@router.get("/api/v1/models/{model_id}")
@for_everybody
def get_model(
    request: Request, response: Response, db: Db, viewer: CompatUser, model_id: str, key: str | None = None
) -> dict[str, Any]:
    """One model with all its versions; its owner gets the ETag that changes ask for."""
    model = _model(db, viewer, path_id(model_id), key)
    own = can_edit_model(model, viewer)
    if own:
        response.headers["ETag"] = service.model_etag(model)
    return faces.alone(model_out(request, model, viewer, Shown(key=key)), whole=own)


def _model(db: Db, viewer: User | None, number: int, key: str | None) -> Model:
    try:
        return view_model(db, viewer, number, key=key)
    except NotFound as error:
        raise NotFound(f"No model with id {number}") from error


@router.get("/api/v1/model-versions/by-hash/{digits}")
@for_everybody
def get_by_hash(request: Request, db: Db, viewer: CompatUser, digits: str) -> dict[str, Any]:
    """The version that has a file with this hash: AutoV1, AutoV2, AutoV3, SHA256, CRC32 or BLAKE3."""
    number = queries.find_id_by_hash(db, viewer, digits)
    if number is None:
        raise NotFound("Model not found")
    return version_out(request, view_version(db, viewer, number), viewer)


@router.post("/api/v1/model-versions/by-hash")
def list_by_hash(
    request: Request, db: Db, viewer: CompatUser, hashes: Annotated[list[Sha256], Body(max_length=100)]
) -> list[dict[str, Any]]:
    """Versions of up to 100 SHA256; what is not known is left out."""
    return [
        version_out(request, version, viewer) for version, _ in queries.list_by_hashes(db, viewer, hashes)
    ]


@router.post("/api/v1/model-versions/by-hash/ids")
def list_ids_by_hash(
    db: Db, viewer: CompatUser, hashes: Annotated[list[Sha256], Body(max_length=10_000)]
) -> list[dict[str, Any]]:
    """Numbers of versions and models of up to 10000 SHA256; what is not known is left out."""
    found = queries.list_ids_by_hashes(db, viewer, hashes)
    return [{"modelVersionId": version, "modelId": model, "hash": sha} for version, model, sha in found]


@router.get("/api/v1/model-versions/mini/{version_id}")
@for_everybody
def get_mini(
    request: Request, db: Db, viewer: CompatUser, version_id: str, key: str | None = None
) -> dict[str, Any]:
    """What a program needs to fetch one file: `modelFileId` names another than the primary one."""
    wanted = Query(request).integer("modelFileId")
    return mini_out(request, _version(db, viewer, version_id, key), viewer, file_id=wanted)


@router.get("/api/v1/model-versions/{version_id}")
@for_everybody
def get_version(
    request: Request, db: Db, viewer: CompatUser, version_id: str, key: str | None = None
) -> dict[str, Any]:
    return version_out(request, _version(db, viewer, version_id, key), viewer, key=key)


def _version(db: Db, viewer: User | None, number: str, key: str | None) -> ModelVersion:
    try:
        return view_version(db, viewer, path_id(number), key=key)
    except NotFound as error:
        raise NotFound("Model not found") from error
