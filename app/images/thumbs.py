"""Thumbnails, made once and kept as blobs. Only of pictures drawn here or already decoded safely."""

import io

from PIL import Image as Pillow
from PIL import ImageOps
from sqlalchemy.orm import Session

from app.core.blobs import Blob, put_blob
from app.core.storage import Storage

WIDTH = 450
"""Pixels; cards are at most 232 px wide, so this is sharp on dense screens too."""


def shrink(data: bytes, width: int = WIDTH) -> bytes | None:
    """The picture as WebP, `width` pixels wide; None when it is not wider than that."""
    with Pillow.open(io.BytesIO(data)) as picture:
        if picture.width <= width:
            return None
        small = ImageOps.contain(picture.convert("RGB"), (width, picture.height))
    out = io.BytesIO()
    small.save(out, "WEBP", quality=82, method=4)
    return out.getvalue()


def thumbnail(db: Session, storage: Storage, blob: Blob, width: int) -> Blob:
    """The blob of the thumbnail: the picture's own when `width`, its width in pixels, is small enough."""
    if width <= WIDTH:
        return blob
    small = shrink(storage.get(blob.key))
    return put_blob(db, storage, small, "image/webp") if small else blob
