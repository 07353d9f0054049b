"""From an uploaded file to a model's page: what its form starts with, and what becomes of it.

The form offers only what can be true of the file; what the header tells is filled in. The page is made
private with a draft, gets its pictures, and is published where that was asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.blobs import Blob
from app.core.errors import FieldError, Forbidden, Invalid
from app.core.storage import Storage
from app.gallery import service
from app.gallery.headers import recognise_blob
from app.gallery.matching import recognised
from app.gallery.models import ModelVersion
from app.gallery.queries import find_by_hash, link_resource
from app.gallery.schemas import MODEL_TYPES as ALL_TYPES
from app.gallery.schemas import PageIn, VersionIn, VersionPageIn
from app.images.models import Image
from app.images.permissions import can_edit_image
from app.images.service import get_image, read_generation_data
from app.recognition import MODEL_TYPES, HeaderRefused, Recognised
from app.recognition.bases import BASES, names_of
from app.uploads.models import Upload
from app.uploads.service import get_complete

MAX_COVERS = 20
OTHER = "Other"
_USUAL = ("Checkpoint", "LORA", "LoCon", "DoRA", "TextualInversion", "VAE", "Controlnet")


@dataclass(frozen=True)
class Look:
    """A complete upload: what it was recognised as, or in `refusal` why no page can be made of it."""

    upload: Upload
    seen: Recognised | None
    refusal: str = ""
    twin: ModelVersion | None = None
    """A version with the same bytes that this person may see."""


def look_at(db: Session, storage: Storage, user: User, upload_id: str) -> Look:
    """Read the header of one's own complete upload. Errors: NotFound, Conflict."""
    upload = get_complete(db, user, upload_id)
    blob = db.get_one(Blob, upload.blob_sha256)
    twin = find_by_hash(db, user, blob.sha256)
    try:
        return Look(upload, recognise_blob(storage, blob), twin=twin)
    except HeaderRefused as refused:
        return Look(upload, None, refused.detail)


def type_choices(seen: Recognised | None) -> list[str]:
    """Model types that this file may be called, the usual one first; all where nothing is known of it."""
    fitting = MODEL_TYPES.get(seen.kind, ()) if seen else ()
    if fitting:
        return list(
            dict.fromkeys([*([seen.model_type] if seen and seen.model_type else []), *fitting, OTHER])
        )
    return list(dict.fromkeys([*_USUAL, *ALL_TYPES]))


def base_choices(seen: Recognised | None) -> list[str]:
    """Base models that it can be for: those of its architecture, or all where that is not known."""
    if seen is None or seen.architecture not in BASES:
        names = [name for base in BASES.values() for name in base.names]
        return [*dict.fromkeys(name for name in names if name != OTHER), OTHER]
    told = [seen.base_model] if seen.base_model else []
    return list(dict.fromkeys([*told, *names_of(seen.architecture)]))


def version_bases(version: ModelVersion) -> list[str]:
    """What the owner may say later: the present word first, then what else can be true."""
    return list(dict.fromkeys([version.base_model, *base_choices(recognised(version))]))


def create_page(db: Session, user: User, body: PageIn) -> ModelVersion:
    """A new page with its first version. Errors: as those of `create_version_page`."""
    model = service.create_model(db, user, body.model())
    return create_version_page(db, user, model.id, body)


def create_version_page(db: Session, user: User, model_id: int, body: VersionPageIn) -> ModelVersion:
    """A further version with the file of an upload and with pictures, published where `publish` says so.

    Errors: NotFound, Forbidden, Conflict, Invalid.
    """
    version = service.create_version(db, user, model_id, _version_in(body))
    add_covers(db, user, version.id, body.images)
    service.publish_version(db, user, version, body.publish)
    return version


def _version_in(body: VersionPageIn) -> VersionIn:
    return VersionIn(
        name=body.version_name, base_model=body.base_model, description=body.about, upload=body.upload,
        trained_words=body.trained_words, strength=body.strength, clip_skip=body.clip_skip,
    )  # fmt: skip


def add_covers(db: Session, user: User, version_id: int, image_ids: Sequence[int]) -> ModelVersion:
    """Put one's own pictures on the page, behind those that are there; each at most once.

    A private picture from elsewhere becomes part of the page and follows its visibility; its generation data
    is read again, because it may name the very file of this version. Errors: NotFound, Forbidden, Invalid.
    """
    version = service.own_version(db, user, version_id)
    images = [_own_image(db, user, image_id) for image_id in dict.fromkeys(image_ids)]
    there = {picture.image_id for picture in version.pictures}
    if len(there | {image.id for image in images}) > MAX_COVERS:
        words = f"A version shows at most {MAX_COVERS} pictures."
        raise Invalid(words, [FieldError("#/images", words, "too-many")], code="too-many-pictures")
    position = max((picture.position for picture in version.pictures), default=-1)
    for number, image in enumerate(images, position + 1):
        _belong(db, user, version, image)
        service.add_picture(db, version, image, number)
    return version


def _own_image(db: Session, user: User, image_id: int) -> Image:
    image = get_image(db, user, image_id)
    if not can_edit_image(image, user):
        raise Forbidden("Only one's own pictures can be put on a page.")
    return image


def _belong(db: Session, user: User, version: ModelVersion, image: Image) -> None:
    if image.origin != "uploaded" or image.visibility != "private":
        return
    image.origin = "page"
    image.rating = max(image.rating, version.model.rating)
    image.base_model = image.base_model or version.base_model
    if image.infotext:
        read_generation_data(image, lambda digits, name: link_resource(db, user, digits, name))
    db.flush()
