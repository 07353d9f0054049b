"""A picture as JSON: Civitai's fields, in Civitai's units, and after them our own."""

from typing import Any

from fastapi import Request

from app.accounts.models import User
from app.images.models import Image, tag_number
from app.images.paths import image_path, page_path, poster_path, variant_path
from app.images.permissions import can_edit_image
from app.web.links import origin
from app.web.times import iso

LEVELS = {1: "None", 2: "Soft", 4: "Mature", 8: "X", 16: "X", 32: "Blocked"}
NO_STATS = {
    "cryCount": 0, "laughCount": 0, "likeCount": 0, "dislikeCount": 0, "heartCount": 0, "commentCount": 0,
}  # fmt: skip


def media_kind(image: Image) -> str:
    return "video" if image.is_clip else "image"


def image_meta(image: Image) -> dict[str, Any]:
    """Generation data under Civitai's names, resources by version id included."""
    linked = [r for r in image.resources if r.model_version_id is not None]
    return {
        **image.meta,
        "civitaiResources": [
            {
                "type": resource.kind,
                "modelVersionId": resource.model_version_id,
                **({} if resource.weight is None else {"weight": resource.weight}),
            }
            for resource in linked
        ],
    }


def image_out(
    request: Request,
    image: Image,
    viewer: User | None = None,
    *,
    with_meta: bool = True,
    with_tags: bool = False,
) -> dict[str, Any]:
    """One item of GET /images. `nsfwLevel` is a word here, a number inside a version: so has Civitai it."""
    level = LEVELS.get(image.rating, "None")
    site = origin(request)
    body = {
        "id": image.id,
        "url": site + variant_path(image),
        "hash": None,
        "width": image.width,
        "height": image.height,
        "nsfwLevel": level,
        "nsfw": level != "None",
        "browsingLevel": image.rating,
        "type": media_kind(image),
        "createdAt": iso(image.created_at),
        "postId": None,
        "stats": dict(NO_STATS),
        "meta": image_meta(image) if with_meta else None,
        "username": image.username,
        "baseModel": image.base_model,
        "modelVersionIds": [r.model_version_id for r in image.resources if r.model_version_id is not None],
        **({"tags": [{"id": tag_number(tag), "name": tag} for tag in image.tags]} if with_tags else {}),
        "thumbnailUrl": site + image_path(image, thumb=True),
        **({"posterUrl": site + poster_path(image)} | image.clip_facts if image.is_clip else {}),
        "pageUrl": site + page_path(image),
    }
    return body | (_for_owner(request, image) if can_edit_image(image, viewer) else {})


def _for_owner(request: Request, image: Image) -> dict[str, Any]:
    return {
        "visibility": image.visibility,
        "rating": image.rating,
        "title": image.title,
        "description": image.description,
        "tags": image.tags,
        "infotext": image.infotext,
        "resources": [
            {"kind": r.kind, "name": r.name, "model_version_id": r.model_version_id, "weight": r.weight}
            for r in image.resources
        ],
        "job": image.job_id,
        "shareUrl": share_url(request, image) or None,
    }


def share_url(request: Request, image: Image) -> str:
    """The link with the key, for the owner to hand on; empty without a key."""
    return f"{origin(request)}/images/{image.id}?key={image.share_key}" if image.share_key else ""


def _film(image: Image) -> dict[str, Any]:
    """What Civitai says of a film beside its size."""
    return {"audio": False, "duration": image.duration} if image.is_clip else {}


def version_image_out(request: Request, image: Image, *, details: bool = True) -> dict[str, Any]:
    """A picture inside a version; without `details` as lists have it."""
    short = {
        "id": image.id,
        "url": origin(request) + variant_path(image),
        "nsfwLevel": image.rating,
        "width": image.width,
        "height": image.height,
        "hash": None,
        "type": media_kind(image),
        "minor": False,
        "poi": False,
        "hasMeta": bool(image.meta),
        "hasPositivePrompt": bool(image.prompt),
        "onSite": image.origin != "uploaded",
        "remixOfId": None,
    }
    return short | _details(image) if details else short


def _details(image: Image) -> dict[str, Any]:
    return {
        "availability": "Public" if image.visibility == "public" else "Private",
        "metadata": {
            "hash": None,
            "size": image.size,
            "width": image.width,
            "height": image.height,
            **_film(image),
        },
        "meta": image_meta(image),
    }
