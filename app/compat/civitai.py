"""Civitai's public API, version 1, for programs that speak it: models, versions, pictures, downloads.

Without a token only what is public and published; with one, the owner's own too.
"""

from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Body, Request, Response
from fastapi.responses import RedirectResponse

from app.accounts.deps import CompatUser
from app.accounts.models import User
from app.compat.answers import CivitaiRoute, Query, Refused, path_id
from app.core.errors import NotFound, RateLimited, Unauthorized
from app.gallery import files, queries, service
from app.gallery.models import Model
from app.gallery.schemas import COMMERCIAL_USE, MODEL_TYPES
from app.gallery.shapes import model_out, version_out
from app.images.queries import ImageFilters, list_images
from app.images.shapes import image_out
from app.web.deps import Db
from app.web.links import origin

router = APIRouter(tags=["civitai"], route_class=CivitaiRoute)
SORTS = {
    "Highest Rated": "downloads", "Most Downloaded": "downloads", "Most Liked": "downloads",
    "Most Discussed": "downloads", "Most Collected": "downloads", "Most Images": "pictures",
    "Newest": "newest", "Oldest": "oldest",
}  # fmt: skip
PERIODS = ("AllTime", "Year", "Month", "Week", "Day")
TOO_MANY_PAGES = "You've requested too many pages, please use cursors instead"


@router.get("/api/v1/models")
def list_models(request: Request, db: Db, viewer: CompatUser) -> dict[str, Any]:
    """Models by cursor. Parameters as in Civitai's API; unknown ones are ignored."""
    query = Query(request)
    if viewer is None and ("favorites" in query.raw or "hidden" in query.raw):
        raise Unauthorized("Unauthorized")
    limit = query.integer("limit", 100, most=100) or 100
    page = query.integer("page", least=1)
    _check_page(query, page, limit)
    (sort, period) = (query.many("sort", tuple(SORTS)), query.many("period", PERIODS))
    filters = _model_filters(query, period[0] if period else "AllTime")
    found = queries.list_models(
        db,
        viewer,
        filters,
        sort=SORTS[sort[0] if sort else "Highest Rated"],
        cursor=query.text("cursor") or None,
        limit=limit,
        offset=0 if query.text("cursor") or page is None else (page - 1) * limit,
    )
    items = [_trimmed(model_out(request, model, viewer), query, filters) for model in found.items]
    numbers = {"currentPage": page, "pageSize": limit} if page and not query.text("cursor") else {}
    return {"items": items, "metadata": numbers | query.next_page(found.next_cursor)}


def _check_page(query: Query, page: int | None, limit: int) -> None:
    if page is None:
        return
    if query.text("query"):
        raise Refused("Cannot use page param with query search. Use cursor-based pagination.")
    if page * limit > 1000:
        raise RateLimited(TOO_MANY_PAGES, 60)


def _model_filters(query: Query, period: str) -> queries.ModelFilters:
    return queries.ModelFilters(
        query=query.text("query"),
        tag=query.text("tag", "tagname"),
        username=query.text("username", "user"),
        types=query.many("types", MODEL_TYPES),
        base_models=query.many("baseModels"),
        period=period,
        level=query.level(),
        supports_generation=query.flag("supportsGeneration"),
        ids=query.integers("ids"),
        version_ids=query.integers("modelVersionIds"),
        commercial_use=query.many("allowCommercialUse", ("None", *COMMERCIAL_USE)),
        own=True,
    )


def _trimmed(model: dict[str, Any], query: Query, filters: queries.ModelFilters) -> dict[str, Any]:
    """Only the versions of the wanted base models, only primary files where that was asked."""
    if filters.base_models:
        model["modelVersions"] = [v for v in model["modelVersions"] if v["baseModel"] in filters.base_models]
    if query.flag("primaryFileOnly"):
        for version in model["modelVersions"]:
            version["files"] = [file for file in version["files"] if file["primary"]]
    return model


@router.get("/api/v1/models/{model_id}")
def get_model(
    request: Request, response: Response, db: Db, viewer: CompatUser, model_id: str, key: str | None = None
) -> dict[str, Any]:
    model = _model(db, viewer, path_id(model_id), key)
    response.headers["ETag"] = service.model_etag(model)
    return model_out(request, model, viewer)


def _model(db: Db, viewer: User | None, number: int, key: str | None) -> Model:
    try:
        return service.get_model(db, viewer, number, key=key)
    except NotFound as error:
        raise NotFound(f"No model with id {number}") from error


@router.get("/api/v1/model-versions/by-hash/{digits}")
def get_by_hash(request: Request, db: Db, viewer: CompatUser, digits: str) -> dict[str, Any]:
    """The version that has a file with this hash: AutoV1, AutoV2, AutoV3, SHA256, CRC32 or BLAKE3."""
    version = queries.find_by_hash(db, viewer, digits)
    if version is None:
        raise NotFound("Model not found")
    return version_out(request, version, viewer)


@router.post("/api/v1/model-versions/by-hash")
def list_by_hash(
    request: Request, db: Db, viewer: CompatUser, hashes: Annotated[list[str], Body()]
) -> list[dict[str, Any]]:
    """Versions of up to 100 SHA256; what is not known is left out."""
    if len(hashes) > 100 or any(len(h) != 64 for h in hashes):
        raise Refused("Request must include an array of SHA256 Hashes. At most 100, each of 64 digits.")
    return [
        version_out(request, version, viewer) for version, _ in queries.list_by_hashes(db, viewer, hashes)
    ]


@router.get("/api/v1/model-versions/{version_id}")
def get_version(
    request: Request, db: Db, viewer: CompatUser, version_id: str, key: str | None = None
) -> dict[str, Any]:
    try:
        version = service.get_version(db, viewer, path_id(version_id), key=key)
    except NotFound as error:
        raise NotFound("Model not found") from error
    return version_out(request, version, viewer)


@router.get("/api/v1/images")
def list_pictures(request: Request, db: Db, viewer: CompatUser) -> dict[str, Any]:
    """Public pictures by cursor; `mine=true` with a token lists one's own history."""
    query = Query(request)
    limit = query.integer("limit", 100, most=200) or 100
    mine = bool(query.flag("mine"))
    filters = _image_filters(query, db, viewer, mine)
    cursor, oldest = query.text("cursor") or None, query.text("sort") == "Oldest"
    found = list_images(db, viewer, filters, cursor=cursor, limit=limit, oldest_first=oldest)
    with_meta = mine or bool(query.flag("withMeta"))
    with_tags = bool(query.flag("withTags"))
    items = [image_out(request, i, viewer, with_meta=with_meta, with_tags=with_tags) for i in found.items]
    return {"items": items, "metadata": query.next_page(found.next_cursor)}


def _image_filters(query: Query, db: Db, viewer: User | None, mine: bool) -> ImageFilters:
    period = query.many("period", PERIODS)
    return ImageFilters(
        mine=mine,
        username=query.text("username"),
        user_id=query.integer("userId"),
        image_id=query.integer("imageId"),
        version_ids=_wanted_versions(query, db, viewer),
        base_models=query.many("baseModels"),
        period=period[0] if period else "AllTime",
        level=query.level(),
        with_meta_only=bool(query.flag("requiringMeta")),
    )


def _wanted_versions(query: Query, db: Db, viewer: User | None) -> list[int] | None:
    version = query.integer("modelVersionId")
    if version is not None:
        return [version]
    model = query.integer("modelId")
    return None if model is None else queries.version_ids_of(db, viewer, model)


@router.get("/api/v1/tags")
def list_tags(request: Request, db: Db) -> dict[str, Any]:
    """Tags of public models, commonest first."""
    query, page, limit = _page(request)
    rows, total = queries.list_tags(db, query.text("query"), offset=(page - 1) * limit, limit=limit)
    link = f"{origin(request)}/api/v1/models?tag="
    items = [{"name": name, "modelCount": count, "link": link + quote(name)} for name, count in rows]
    return {"items": items, "metadata": query.numbered(total, page, limit)}


@router.get("/api/v1/creators")
def list_creators(request: Request, db: Db) -> dict[str, Any]:
    """People who have published models."""
    query, page, limit = _page(request)
    rows, total = queries.list_creators(db, query.text("query"), offset=(page - 1) * limit, limit=limit)
    link = f"{origin(request)}/api/v1/models?username="
    items = [{"username": name, "modelCount": count, "link": link + quote(name)} for name, count in rows]
    return {"items": items, "metadata": query.numbered(total, page, limit)}


def _page(request: Request) -> tuple[Query, int, int]:
    query = Query(request)
    return query, query.integer("page", 1) or 1, query.integer("limit", 20, most=200) or 20


@router.head("/api/download/models/{version_id}", include_in_schema=False)
@router.get("/api/download/models/{version_id}", response_class=Response)
def download(request: Request, db: Db, viewer: CompatUser, version_id: str) -> Response:
    """307 to the file. `type`, `format`, `size`, `fp` choose among several; a token opens private ones."""
    query = Query(request)
    key = query.text("key") or None
    version = files.get_version_to_download(db, viewer, path_id(version_id), key=key)
    wanted = files.Wanted(
        query.text("type"),
        query.text("format"),
        query.text("size"),
        query.text("fp"),
        query.integer("fileId"),
    )
    file = files.choose_file(version, wanted)
    if request.method == "GET":
        files.count_download(db, viewer, file, request.client.host if request.client else "")
    passed = {name: value for name in ("token", "key") if (value := query.text(name))}
    target = f"{origin(request)}/files/{file.id}/{quote(file.name)}" + (
        f"?{urlencode(passed)}" if passed else ""
    )
    return RedirectResponse(target, 307, headers={"Cache-Control": "no-store, max-age=0"})
