"""Pictures to start from and masks: brought, decoded apart from this process, and named in a job.

What somebody brings is kept as a complete upload of theirs, so it goes by itself after its time.
"""

import base64
import binascii
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from sqlalchemy.orm import Session

from app.accounts.models import User
from app.accounts.quotas import check_quota
from app.contract.family import FamilySpec
from app.contract.jobs import BlobRef, StartPicture
from app.core.blobs import Blob, put_blob
from app.core.errors import AppError, FieldError, Invalid
from app.core.storage import get_storage
from app.generation.adopt import decode_apart, save_bounded
from app.generation.schemas import DENOISE, MASK_BLUR, GenerationIn, SourceIn
from app.images import service as images
from app.uploads import service as uploads
from app.uploads.models import Upload

READY = {"image/png": "png", "image/jpeg": "jpg"}
"""What a worker takes as it is: our own decoder's and our own drawings."""


def keep_picture(db: Session, user: User, file: BinaryIO, *, name: str = "") -> Upload:
    """Decode and keep a picture for later use. Errors: Invalid (no picture), TooLarge, QuotaExceeded."""
    with tempfile.TemporaryDirectory(prefix="bottega-picture-") as folder:
        source = Path(folder) / "source"
        save_bounded(file, source)
        return _keep(db, user, source, Path(folder), name)


def _keep(db: Session, user: User, source: Path, folder: Path, name: str) -> Upload:
    decoded = decode_apart(source, folder, name or "The picture")
    check_quota(db, user, decoded.picture.stat().st_size)
    storage = get_storage()
    put_blob(db, storage, decoded.picture, decoded.media_type)  # its kind is kept with it
    stem = Path(name).stem[:80] or "picture"
    kept = f"{stem}.{READY[decoded.media_type]}"
    return uploads.create_complete(db, storage, user, name=kept, path=decoded.picture)


def get_picture(db: Session, user: User, upload_id: str) -> Blob:
    """The blob of a picture that was kept with keep_picture. Errors: NotFound, Conflict, Invalid."""
    upload = uploads.get_complete(db, user, upload_id)
    blob = db.get_one(Blob, upload.blob_sha256)
    if blob.media_type in READY:
        return blob
    with tempfile.TemporaryDirectory(prefix="bottega-picture-") as folder:
        source = Path(folder) / "source"
        get_storage().fetch(blob.key, source)
        made = _keep(db, user, source, Path(folder), upload.name)
    return db.get_one(Blob, made.blob_sha256)


def keep_data(db: Session, user: User, body: GenerationIn) -> GenerationIn:
    """The request with its pictures as uploads where they came inside it. Errors: Invalid at the field."""
    kept = {}
    for name in ("init_image", "mask"):
        source = getattr(body, name)
        if source is not None and source.data is not None:
            with at_field(f"#/{name}"):
                upload = keep_picture(db, user, io.BytesIO(bytes_of(source.data)))
            kept[name] = SourceIn(upload=upload.id)
    return body.model_copy(update=kept) if kept else body


def start_picture(db: Session, user: User, body: GenerationIn, spec: FamilySpec) -> StartPicture | None:
    """What a request starts from, or a clip's first frame; of a clip that is named its poster.

    Errors: Invalid that names the field.
    """
    if body.init_image is None:
        return None
    if spec.clips is not None:
        return StartPicture(file=_ref(_blob(db, user, body.init_image, "#/init_image"), "first"), denoise=1.0)
    mask = _blob(db, user, body.mask, "#/mask") if body.mask is not None else None
    return StartPicture(
        file=_ref(_blob(db, user, body.init_image, "#/init_image"), "start"),
        denoise=DENOISE if body.denoise is None else body.denoise,
        mask=_ref(mask, "mask") if mask else None,
        mask_blur=MASK_BLUR if body.mask_blur is None else body.mask_blur,
        mask_padding=body.mask_padding,
    )


def _ref(blob: Blob, name: str) -> BlobRef:
    return BlobRef(sha256=blob.sha256, size=blob.size, name=f"{name}.{READY.get(blob.media_type, 'png')}")


def _blob(db: Session, user: User, source: SourceIn, pointer: str) -> Blob:
    with at_field(pointer):
        if source.image is not None:
            image = images.get_image(db, user, source.image)
            return db.get_one(Blob, image.poster_sha256 or image.blob_sha256)
        return get_picture(db, user, source.upload or "")


@contextmanager
def at_field(pointer: str) -> Iterator[None]:
    """What goes wrong with a picture is told at the field that named it."""
    try:
        yield
    except AppError as error:
        if error.status not in (404, 409, 422):
            raise
        code = error.code if error.status == 422 else "image-missing"
        raise Invalid(error.detail, [FieldError(pointer, error.detail, code)], code=code) from error


def bytes_of(data: str, *, bare: bool = False) -> bytes:
    """The content of a `data:` address, or with `bare` of base64 without one. Errors: Invalid."""
    head, _, content = data.partition(",") if data.startswith("data:") or not bare else ("", "", data)
    try:
        if (head or not bare) and not head.endswith(";base64"):
            raise ValueError(head)
        return base64.b64decode("".join(content.split()) if bare else content, validate=True)
    except (ValueError, binascii.Error) as error:
        raise Invalid("This is no picture: write data:image/png;base64,… and the picture.") from error
