"""Blobs: what clients fetch and send, each by an id that says what it is.

`<job>-0` is a picture of a job (known before it is drawn), `<job>-e1` an epoch, `<job>-s7` a sample picture
of a training, `up_…` what somebody sent. Their addresses are signed, because clients fetch them without a
token.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.accounts import signatures
from app.accounts.models import User
from app.accounts.signatures import Signer
from app.core.blobs import Blob
from app.core.errors import Invalid, NotFound
from app.core.storage import Storage
from app.datasets.archives import is_zip
from app.generation.sources import keep_picture
from app.images import service as images
from app.images.models import Image
from app.images.queries import pictures_of_jobs
from app.training import service as training
from app.uploads import service as uploads
from app.uploads.models import Upload
from app.web.times import iso

PATH = "/v2/consumer/blobs"
_MADE = re.compile(r"(job_[0-9A-Z]{26})-([es]?)(\d{1,9})", re.ASCII)
_ADDRESS = re.compile(rf"(?:https?://[^/\s]+)?{PATH}/([\w-]{{1,60}})(?:\?\S*)?", re.ASCII)
MISSING = "There is no such blob, or it is not yours. Pictures that are not drawn yet are not there either."
KIND = {"image/png": "image", "image/jpeg": "image", "image/webp": "image", "video/mp4": "video"}


@dataclass(frozen=True)
class Found:
    """Stored bytes with the name to save them under; `image` is set for pictures drawn by a job."""

    sha256: str
    name: str
    media_type: str
    image: Image | None = None


@dataclass(frozen=True)
class Links:
    """Makes the addresses of one answer: one person's, under one origin."""

    origin: str
    signer: Signer

    def url(self, blob_id: str) -> str:
        return f"{self.origin}{PATH}/{blob_id}?{self.signer.query(words(blob_id))}"


def words(blob_id: str) -> str:
    """What a signature is made over."""
    return f"blob {blob_id}"


def make_links(db: Session, origin: str, user_id: int) -> Links:
    return Links(origin, signatures.make_signer(db, user_id))


def picture_id(job_id: str, index: int) -> str:
    return f"{job_id}-{index}"


def epoch_id(job_id: str, epoch: int) -> str:
    return f"{job_id}-e{epoch}"


def sample_id(job_id: str, sample: int) -> str:
    return f"{job_id}-s{sample}"


def id_in(text: str) -> str | None:
    """The blob that an address of this server, or an id alone, names; None for anything else."""
    text = text.strip()
    if (match := _ADDRESS.fullmatch(text)) is not None:
        return match[1]
    return text if _MADE.fullmatch(text) or re.fullmatch(r"up_[0-9A-Z]{26}", text) else None


def find_blob(db: Session, viewer: User, blob_id: str) -> Found:
    """Errors: NotFound, also for other people's."""
    if blob_id.startswith("up_"):
        upload = uploads.get_complete(db, viewer, blob_id)
        kind = db.get_one(Blob, upload.blob_sha256).media_type
        return Found(upload.blob_sha256 or "", upload.name, kind)
    match = _MADE.fullmatch(blob_id)
    if match is None:
        raise NotFound(MISSING)
    job_id, kind, number = match[1], match[2], int(match[3])
    if kind == "e":
        epoch = training.get_checkpoint(db, viewer, job_id, number)
        return Found(epoch.blob_sha256, epoch.name, "application/octet-stream")
    if kind == "s":
        sample = training.get_sample(db, viewer, job_id, number)
        return Found(sample.blob_sha256, f"{blob_id}.png", db.get_one(Blob, sample.blob_sha256).media_type)
    return _picture(db, viewer, job_id, number)


def _picture(db: Session, viewer: User, job_id: str, index: int) -> Found:
    image = find_picture(db, viewer, job_id, index)
    return Found(image.blob_sha256, f"{job_id}-{index}.png", image.media_type, image)


def find_picture(db: Session, viewer: User, job_id: str, index: int) -> Image:
    """A picture of a job, for who made it. Errors: NotFound."""
    drawn = pictures_of_jobs(db, [job_id]).get(job_id, {}).get(index)
    if drawn is None or drawn.user_id != viewer.id:
        raise NotFound(MISSING)
    return images.get_image(db, viewer, drawn.id)


def source_of(db: Session, user: User, text: str) -> dict[str, Any] | None:
    """A picture to start from, as a generation takes it; None for what is not on this server.

    Errors: NotFound for a blob that is not there.
    """
    if text.startswith("data:"):
        return {"data": text}
    blob_id = id_in(text)
    match = _MADE.fullmatch(blob_id or "")
    if match is not None and not match[2]:
        return {"image": find_picture(db, user, match[1], int(match[3])).id}
    if blob_id is not None and blob_id.startswith("up_"):
        return {"upload": uploads.get_complete(db, user, blob_id).id}
    plain = re.sub(r"\s", "", text) if len(text) > 100 else ""
    return {"data": f"data:image/png;base64,{plain}"} if re.fullmatch(r"[A-Za-z0-9+/]+=*", plain) else None


def keep_blob(db: Session, storage: Storage, user: User, path: Path) -> Upload:
    """Keep what came: a zip as it is, a picture decoded. Errors: Invalid, QuotaExceeded, DiskFull."""
    with path.open("rb") as head:
        if is_zip(head.read(8)):
            return uploads.create_complete(db, storage, user, name="blob.zip", path=path)
        head.seek(0)
        try:
            return keep_picture(db, user, head, name="blob.png")
        except Invalid as error:
            words = "This is neither a picture nor a zip. Send PNG, JPEG or WebP, or a zip of pictures."
            raise Invalid(words, code=error.code) from error


def blob_out(links: Links, blob_id: str, kind: str, *, available: bool = True, **more: Any) -> dict[str, Any]:
    """A blob as version 2 shows it; one that is not there yet has no address."""
    body: dict[str, Any] = {"type": kind, "id": blob_id, "available": available, **more}
    if available:
        body |= {"url": links.url(blob_id), "urlExpiresAt": expiry(links)}
    return body


def expiry(links: Links) -> str:
    return iso(datetime.fromtimestamp(links.signer.until, UTC)) or ""
