"""Pictures in the width that an address asks for.

Programs made for Civitai's API take `original=true` or `width=450` out of the address of a picture, write
another width there, and expect a picture of that width. Nothing is kept of it but the thumbnail's width.
"""

import re

from fastapi import Request
from fastapi.responses import Response

from app.core.blobs import blob_key
from app.core.storage import Storage
from app.images.models import Image
from app.images.sending import send_image
from app.images.thumbs import WIDTH, shrink
from app.web.downloads import SANDBOX, content_disposition, send_blob

MAX_WIDTH, MAX_HEIGHT = 1800, 1000
_SIDE = re.compile(r"(width|height)=(\d{1,5})")


def wanted_width(words: str, image: Image) -> int | None:
    """Pixels that `width=450,anim=false` asks for; None for the picture as it is. It is never enlarged."""
    sides = {name: int(value) for name, value in _SIDE.findall(words) if int(value)}
    widths = [min(sides["width"], MAX_WIDTH)] if "width" in sides else []
    if "height" in sides:
        widths.append(max(1, image.width * min(sides["height"], MAX_HEIGHT) // max(1, image.height)))
    return min(widths) if widths and min(widths) < image.width else None


def send_variant(
    request: Request, storage: Storage, image: Image, width: int | None, *, plain: bool
) -> Response:
    """Answer GET or HEAD. A smaller picture is WebP and holds no generation data."""
    small = image.thumb_sha256
    if width is None:
        return send_image(request, storage, image, plain=plain)
    if width == WIDTH and small is not None and small != image.blob_sha256:
        name = f"bottega-{image.id}.webp"
        return send_blob(request, storage, small, name=name, media_type="image/webp", inline=True)
    try:
        return _send_smaller(request, storage, image, width)
    except OSError:  # a clip, or bytes that are no picture: whoever asks gets them as they are
        return send_image(request, storage, image, plain=plain)


def _send_smaller(request: Request, storage: Storage, image: Image, width: int) -> Response:
    headers = {
        "ETag": f'"{image.blob_sha256}-{width}"',
        "Cache-Control": "private, max-age=31536000, immutable",
        "Content-Disposition": content_disposition(f"bottega-{image.id}.webp", inline=True),
        "Content-Security-Policy": SANDBOX,
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    content = shrink(storage.get(blob_key(image.blob_sha256)), width) or b""
    headers["Content-Length"] = str(len(content))
    return Response(b"" if request.method == "HEAD" else content, media_type="image/webp", headers=headers)
