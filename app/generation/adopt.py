"""A picture from elsewhere: decoded apart, its generation data read, its resources found by their hashes."""

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
from app.gallery.queries import link_resource
from app.images.models import Image
from app.images.service import create_uploaded
from worker.inference.metadata.reading import read_file


def adopt_picture(
    db: Session, user: User, file: BinaryIO, *, storage: Storage, name: str = "", title: str = ""
) -> Image:
    """A private picture of `user`. Errors: Invalid (no picture), TooLarge, QuotaExceeded, DiskFull."""
    with tempfile.TemporaryDirectory(prefix="bottega-picture-") as folder:
        source = Path(folder) / "source"
        save_bounded(file, source)
        decoded = decode_apart(source, Path(folder), name or "The picture")
        check_quota(db, user, decoded.picture.stat().st_size)
        blob = put_blob(db, storage, decoded.picture, decoded.media_type)
        found = read_file(source)
    return create_uploaded(
        db,
        user,
        blob,
        width=decoded.width,
        height=decoded.height,
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
                raise TooLarge(f"A picture may have {limit >> 20} MB. Make it smaller.", limit=limit)
            out.write(chunk)


def decode_apart(source: Path, folder: Path, name: str) -> Decoded:
    """The picture in its normal form, made in the decoder's process. Errors: Invalid in words."""
    try:
        return get_decoder().decode(source, folder)
    except Undecodable as error:
        words = f"{name} {error.words}"
        raise Invalid(words, [FieldError("#/file", words, error.code)], code=error.code) from error
