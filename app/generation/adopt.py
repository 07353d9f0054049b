"""A picture or clip from elsewhere: decoded apart, its generation data read, its resources found by hash."""

import tempfile
from pathlib import Path
from typing import BinaryIO

from sqlalchemy.orm import Session

from app.accounts.models import User
from app.accounts.quotas import check_quota
from app.core.blobs import put_blob
from app.core.config import get_settings
from app.core.errors import FieldError, Invalid, TooLarge
from app.core.storage import Storage
from app.datasets.decode import Decoded, Undecodable, get_decoder
from app.datasets.kinds import film_format
from app.gallery.queries import link_resource
from app.images.models import Image
from app.images.service import create_uploaded
from worker.inference.metadata.reading import read_file

NO_CLIP = "is a clip, and a picture is wanted here. Choose a PNG, JPEG or WebP."


def adopt_picture(
    db: Session, user: User, file: BinaryIO, *, storage: Storage, name: str = "", title: str = ""
) -> Image:
    """A private picture or clip of `user`, whatever its content is.

    Errors: Invalid (neither), TooLarge, QuotaExceeded, DiskFull.
    """
    with tempfile.TemporaryDirectory(prefix="bottega-picture-") as folder:
        source = Path(folder) / "source"
        save_bounded(file, source)
        decoded = decode_apart(source, Path(folder), name or "The picture", media=media_of(source))
        check_quota(db, user, decoded.picture.stat().st_size)
        blob = put_blob(db, storage, decoded.picture, decoded.media_type)
        poster = put_blob(db, storage, decoded.poster, "image/jpeg") if decoded.poster else None
        found = read_file(source)
    return create_uploaded(
        db,
        user,
        blob,
        width=decoded.width,
        height=decoded.height,
        poster=poster,
        clip=decoded.clip,
        infotext=found.text if found else "",
        program=found.tool if found else "",
        notes=found.notes if found else (),
        title=title,
        link=lambda digits, shown: link_resource(db, user, digits, shown),
    )


def save_bounded(file: BinaryIO, target: Path) -> None:
    """Copy what was sent to a file. Errors: TooLarge."""
    limit = get_settings().limits.upload_bytes
    left = limit
    with target.open("wb") as out:
        while chunk := file.read(1 << 20):
            left -= len(chunk)
            if left < 0:
                raise TooLarge(f"What is sent here may have {limit >> 20} MB. Make it smaller.", limit=limit)
            out.write(chunk)


def media_of(source: Path) -> str:
    """`video` for a film, by its first bytes; `image` for all else."""
    with source.open("rb") as file:
        return "video" if film_format(file.read(512)) else "image"


def decode_apart(source: Path, folder: Path, name: str, *, media: str = "image") -> Decoded:
    """The picture (with `video` the clip) in its normal form, made in a decoder's process.

    Errors: Invalid in words.
    """
    if media == "image" and media_of(source) == "video":
        raise _refused(name, Undecodable("unsupported-format", NO_CLIP))
    try:
        return get_decoder(media).decode(source, folder)
    except Undecodable as error:
        raise _refused(name, error) from error


def _refused(name: str, error: Undecodable) -> Invalid:
    words = f"{name} {error.words}"
    return Invalid(words, [FieldError("#/file", words, error.code)], code=error.code)
