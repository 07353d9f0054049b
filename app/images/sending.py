"""The bytes of a picture as an answer, with the generation data inside or without, as its owner says."""

from fastapi import Request
from fastapi.responses import Response

from app.core.blobs import blob_key
from app.core.storage import Storage
from app.images.models import Image
from app.images.paths import extension
from app.images.plain import without_texts
from app.web.downloads import content_disposition, send_blob, send_bytes

TELLING = ("image/png", "video/mp4")
"""Kinds of files that have any here."""


def send_image(
    request: Request, storage: Storage, image: Image, *, plain: bool, attachment: bool = False, name: str = ""
) -> Response:
    """Answer GET or HEAD. `plain` leaves out texts and EXIF."""
    name = name or f"bottega-{image.id}.{extension(image)}"
    if plain and image.media_type in TELLING and image.origin != "uploaded":
        return _send_plain(request, storage, image, name, attachment=attachment)
    return send_blob(
        request, storage, image.blob_sha256, name=name, media_type=image.media_type, inline=not attachment
    )


def _send_plain(request: Request, storage: Storage, image: Image, name: str, *, attachment: bool) -> Response:
    """Made at each request and kept by no cache unasked: the owner may change the setting."""
    headers = {
        "ETag": f'"{image.blob_sha256}-plain"',
        "Cache-Control": "private, no-cache",
        "Content-Disposition": content_disposition(name, inline=not attachment),
    }
    content = without_texts(storage.get(blob_key(image.blob_sha256)))
    return send_bytes(request, content, image.media_type, headers)


def send_small(request: Request, storage: Storage, image: Image, *, plain: bool) -> Response:
    """Its thumbnail. A small picture is its own; one that was made for it tells nothing anyway."""
    small = image.thumb_sha256
    if small is None or small == image.blob_sha256:
        return send_image(request, storage, image, plain=plain)
    if small == image.poster_sha256:
        return send_poster(request, storage, image, plain=plain)
    return send_blob(
        request, storage, small, name=f"bottega-{image.id}.webp", media_type="image/webp", inline=True
    )


def send_poster(
    request: Request, storage: Storage, image: Image, *, plain: bool, attachment: bool = False, name: str = ""
) -> Response:
    """A clip's middle frame; a picture is its own."""
    if image.poster_sha256 is None:
        return send_image(request, storage, image, plain=plain, attachment=attachment, name=name)
    return send_blob(
        request, storage, image.poster_sha256, name=name or f"bottega-{image.id}.jpeg",
        media_type="image/jpeg", inline=not attachment,
    )  # fmt: skip
