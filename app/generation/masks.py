"""Masks as other programs send them: painted, cut out of the picture, or the other way round.

Here a mask is bright where the picture is drawn anew; a picture's transparency may say the same.
"""

import io
import tempfile
from pathlib import Path
from typing import Literal

from PIL import Image, ImageOps
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.errors import FieldError, Invalid
from app.core.storage import get_storage
from app.generation.adopt import decode_apart, save_bounded
from app.generation.sources import get_picture, keep_picture
from app.uploads.models import Upload

Drawn = Literal["clear", "opaque"]
"""Which part of a mask with transparency is drawn anew."""
FORMATS = ("PNG", "WEBP", "JPEG", "AVIF", "GIF", "BMP", "TIFF")


def keep_mask(db: Session, user: User, data: bytes, *, drawn: Drawn, invert: bool = False) -> Upload:
    """Keep a mask: by its transparency where it has some, else by its brightness.

    Errors: Invalid for what is no picture, TooLarge, QuotaExceeded.
    """
    with _opened(data, "The mask") as picture:
        alpha = _alpha(picture)
        mask = (
            picture.convert("L") if alpha is None else ImageOps.invert(alpha) if drawn == "clear" else alpha
        )
    out = io.BytesIO()
    (ImageOps.invert(mask) if invert else mask).save(out, "PNG")
    out.seek(0)
    return keep_picture(db, user, out, name="mask.png")


def has_holes(data: bytes) -> bool:
    """Whether a picture is transparent somewhere. Errors: Invalid for what is no picture, TooLarge."""
    with _opened(data, "The picture") as picture:
        return _alpha(picture) is not None


def picture_size(db: Session, user: User, upload_id: str) -> tuple[int, int]:
    """Width and height in pixels of a picture that was kept. Errors: NotFound."""
    blob = get_picture(db, user, upload_id)
    with Image.open(io.BytesIO(get_storage().get(blob.key)), formats=FORMATS) as picture:
        return picture.size


def _opened(data: bytes, name: str) -> Image.Image:
    """Upright and loaded. What the decoder's own process could open is safe to open here."""
    with tempfile.TemporaryDirectory(prefix="bottega-mask-") as folder:
        source = Path(folder) / "source"
        save_bounded(io.BytesIO(data), source)
        decode_apart(source, Path(folder), name)
        try:
            with Image.open(source, formats=FORMATS) as picture:
                return ImageOps.exif_transpose(picture).copy()
        except OSError as error:
            words = f"{name} is of a kind that cannot be used for this. Send a PNG."
            raise Invalid(words, [FieldError("#/mask", words, "image-unreadable")]) from error


def _alpha(picture: Image.Image) -> Image.Image | None:
    """Its transparency, 0 where it is clear; None where it is opaque all over."""
    if not picture.has_transparency_data:
        return None
    alpha = picture.convert("RGBA").getchannel("A")
    return None if alpha.getextrema() == (255, 255) else alpha
