"""Pictures in the width that an address asks for.

Programs made for Civitai's API take `original=true` or `width=450` out of the address of a picture, write
another width there, and expect a picture of that width. Nothing is kept of it but the thumbnail's width.
A clip comes as it is, but as its poster to who writes `anim=false`, or a picture's ending.
"""

import re

from fastapi import Request
from fastapi.responses import Response

from app.core.blobs import blob_key
from app.core.storage import Storage
from app.images.models import Image
from app.images.sending import send_image, send_poster, send_small
from app.images.thumbs import WIDTH, shrink
from app.web.downloads import content_disposition, send_bytes

MAX_WIDTH, MAX_HEIGHT = 1800, 1000
_SIDE = re.compile(r"(width|height)=(\d{1,5})")
_STILL = re.compile(r"anim=false")
_PICTURE = (".jpeg", ".jpg", ".png", ".webp")


def wants_still(words: str, name: str) -> bool:
    """Whether an address means the picture that stands for a clip."""
    return _STILL.search(words) is not None or name.lower().endswith(_PICTURE)


def wanted_width(words: str, image: Image) -> int | None:
    """Pixels that `width=450,anim=false` asks for; None for the picture as it is. It is never enlarged."""
    sides = {name: int(value) for name, value in _SIDE.findall(words) if int(value)}
    widths = [min(sides["width"], MAX_WIDTH)] if "width" in sides else []
    if "height" in sides:
        widths.append(max(1, image.width * min(sides["height"], MAX_HEIGHT) // max(1, image.height)))
    return min(widths) if widths and min(widths) < image.width else None


def send_variant(
    request: Request, storage: Storage, image: Image, width: int | None, *, plain: bool, still: bool = False
) -> Response:
    """Answer GET or HEAD. A smaller picture is WebP and holds no generation data."""
    if image.is_clip and not still:
        return send_image(request, storage, image, plain=plain)
    if width is None:
        return send_poster(request, storage, image, plain=plain)
    if width == WIDTH and image.thumb_sha256 not in (None, image.blob_sha256):
        return send_small(request, storage, image, plain=plain)
    try:
        return _send_smaller(request, storage, image, width)
    except OSError:  # bytes that are no picture: whoever asks gets them as they are
        return send_image(request, storage, image, plain=plain)


def _send_smaller(request: Request, storage: Storage, image: Image, width: int) -> Response:
    source = image.poster_sha256 or image.blob_sha256
    headers = {
        "ETag": f'"{source}-{width}"',
        "Cache-Control": "private, max-age=31536000, immutable",
        "Content-Disposition": content_disposition(f"bottega-{image.id}.webp", inline=True),
    }
    content = shrink(storage.get(blob_key(source)), width) or b""
    return send_bytes(request, content, "image/webp", headers)
