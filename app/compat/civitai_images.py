"""Civitai's list of pictures."""

from typing import Any

from fastapi import APIRouter, Request

from app.accounts.deps import CompatUser
from app.accounts.models import User
from app.compat.answers import CivitaiRoute, issue
from app.compat.query import PERIODS, Query
from app.core.paging import Page
from app.gallery import queries
from app.images.models import Image
from app.images.queries import ImageFilters, list_images, list_random_images
from app.images.rows import LISTED, WHOLE, Extent
from app.images.shapes import image_out
from app.recognition.bases import base_model_names
from app.web.deps import Db
from app.web.kept import for_everybody

router = APIRouter(tags=["civitai"], route_class=CivitaiRoute)
SORTS = ("Most Reactions", "Most Comments", "Most Collected", "Newest", "Oldest", "Random")
"""Nobody reacts here, so the first three come in the order of the next key: newest first."""
MEDIA = ("image", "video", "audio")
R_AND_MORE = 60
"""What `nsfw=true` means for pictures: R to Blocked."""


@router.get("/api/v1/images")
@for_everybody
def list_pictures(request: Request, db: Db, viewer: CompatUser) -> dict[str, Any]:
    """Public pictures by cursor; `mine=true` with a token lists one's own history."""
    query = Query(request)
    limit = query.integer("limit", 100, most=200) or 100
    page = query.page(limit)
    filters = _filters(query, db, viewer)
    with_meta, with_tags = filters.mine or bool(query.flag("withMeta")), bool(query.flag("withTags"))
    flat = query.flag("flatMeta") is not False
    extent = WHOLE if with_meta or viewer is not None else LISTED
    found = _found(db, viewer, query, filters, page=page, limit=limit, extent=extent)
    items = [image_out(request, i, viewer, with_meta=with_meta, with_tags=with_tags) for i in found.items]
    if with_meta and not flat:
        items = [item | {"meta": {"id": item["id"], "meta": item["meta"]}} for item in items]
    return {"items": items, "metadata": query.paged(found.next_cursor, page, limit, by_page=True)}


def _found(
    db: Db, viewer: User | None, query: Query, filters: ImageFilters, *, page: int | None, limit: int,
    extent: Extent,
) -> Page[Image]:  # fmt: skip
    sort = query.word("sort", SORTS, SORTS[0])
    if query.integer("postId") is not None or query.text("type") == "audio":
        return Page([], None)  # there are no posts and no sounds here
    if sort == "Random":
        return Page(list_random_images(db, viewer, filters, limit=limit, extent=extent), None)
    return list_images(
        db, viewer, filters, cursor=query.text("cursor") or None, limit=limit, oldest_first=sort == "Oldest",
        offset=0 if page is None else (page - 1) * limit, extent=extent,
    )  # fmt: skip


def _filters(query: Query, db: Db, viewer: User | None) -> ImageFilters:
    return ImageFilters(
        mine=bool(query.flag("mine")),
        username=query.text("username"),
        user_id=query.integer("userId"),
        image_id=query.integer("imageId"),
        version_ids=_wanted_versions(query, db, viewer),
        base_models=_base_models(query),
        period=query.word("period", PERIODS, "AllTime"),
        level=query.level(R_AND_MORE),
        with_meta_only=bool(query.flag("requiringMeta")),
        tag_ids=query.integers("tags"),
        media=query.word("type", MEDIA),
    )


def _base_models(query: Query) -> list[str]:
    names = {name.lower() for name in base_model_names()}
    wanted = query.many("baseModels")
    for word in wanted:
        if word.lower() not in names:
            raise issue("baseModels", f"Invalid option: {word}. GET /api/v1/enums lists the base models")
    return wanted


def _wanted_versions(query: Query, db: Db, viewer: User | None) -> list[int] | None:
    version = query.integer("modelVersionId")
    if version is not None:
        return [version]
    model = query.integer("modelId")
    return None if model is None else queries.version_ids_of(db, viewer, model)
