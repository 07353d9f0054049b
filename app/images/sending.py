"""The bytes of a picture as an answer, with the generation data inside or without, as its owner says."""

from fastapi import Request
from fastapi.responses import Response

from app.core.blobs import blob_key
from app.core.storage import Storage
from app.images.models import Image
from app.images.plain import without_texts
from app.images.shapes import EXTENSIONS
from app.web.downloads import SANDBOX, content_disposition, send_blob


def send_image(
    request: Request, storage: Storage, image: Image, *, plain: bool, attachment: bool = False, name: str = ""
) -> Response:
    """Answer GET or HEAD. `plain` leaves out texts and EXIF; only PNG has any here."""
    name = name or f"bottega-{image.id}.{EXTENSIONS.get(image.media_type, 'png')}"
    if plain and image.media_type == "image/png":
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
        "Content-Security-Policy": SANDBOX,
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    content = without_texts(storage.get(blob_key(image.blob_sha256)))
    headers["Content-Length"] = str(len(content))
    return Response(b"" if request.method == "HEAD" else content, media_type="image/png", headers=headers)
