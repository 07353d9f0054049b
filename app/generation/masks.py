"""Masks as other programs send them: painted, cut out of the picture, or the other way round.

Here a mask is bright where the picture is drawn anew; a picture's transparency may say the same. Nothing
is loaded here that the decoder's own process did not open before, and nothing huge.
"""

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from PIL import Image, ImageOps, UnidentifiedImageError
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.errors import Invalid
from app.core.storage import get_storage
from app.generation.adopt import decode_apart, save_bounded
from app.generation.sources import get_picture, keep_picture
from app.uploads.models import Upload
from worker.inference.metadata.texts import DAMAGED

Drawn = Literal["clear", "opaque"]
"""Which part of a mask with transparency is drawn anew."""
FORMATS = ("PNG", "WEBP", "JPEG", "AVIF", "GIF", "BMP", "TIFF")
MAX_PIXELS = 16 << 20
"""Of a mask, and of a picture whose transparency is one."""


def keep_mask(db: Session, user: User, data: bytes, *, drawn: Drawn, invert: bool = False) -> Upload:
    """Keep a mask: by its transparency where it has some, else by its brightness.

    Errors: Invalid for what is no picture or a huge one, TooLarge, QuotaExceeded.
    """
    _check(data)
    with _opened(data) as picture:
        upright = ImageOps.exif_transpose(picture)
        alpha = _alpha(upright)
        mask = alpha or upright.convert("L")
    if alpha is not None and drawn == "clear":
        invert = not invert
    out = io.BytesIO()
    (ImageOps.invert(mask) if invert else mask).save(out, "PNG")
    out.seek(0)
    return keep_picture(db, user, out, name="mask.png")


def has_holes(data: bytes) -> bool:
    """Whether a picture that was kept before is transparent somewhere. Errors: Invalid for a huge one."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            if not picture.has_transparency_data:
                return False
    except UnidentifiedImageError:  # such as HEIC: its transparency is not looked at
        return False
    with _opened(data) as picture:
        return _alpha(picture) is not None


def picture_size(db: Session, user: User, upload_id: str) -> tuple[int, int]:
    """Width and height in pixels of a picture that was kept. Errors: NotFound."""
    blob = get_picture(db, user, upload_id)
    with Image.open(io.BytesIO(get_storage().get(blob.key)), formats=FORMATS) as picture:
        return picture.size


def _check(data: bytes) -> None:
    """Errors: Invalid for what the decoder does not open, TooLarge."""
    with tempfile.TemporaryDirectory(prefix="bottega-mask-") as folder:
        source = Path(folder) / "source"
        save_bounded(io.BytesIO(data), source)
        decode_apart(source, Path(folder), "The mask")


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """Errors: Invalid, also for what breaks while its pixels are read."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                words = f"A mask may have {MAX_PIXELS >> 20} million pixels. Make it smaller."
                raise Invalid(words, code="image-too-large")
            yield picture
    except DAMAGED as error:
        words = "The mask is damaged, or of a kind that cannot be used for this. Send a PNG."
        raise Invalid(words, code="image-unreadable") from error


def _alpha(picture: Image.Image) -> Image.Image | None:
    """Its transparency, 0 where it is clear; None where it is opaque all over."""
    if not picture.has_transparency_data:
        return None
    alpha = picture.convert("RGBA").getchannel("A")
    return None if alpha.getextrema() == (255, 255) else alpha
