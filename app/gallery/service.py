"""Rules of models and their versions: made, changed, published, deleted. Reads are in `queries.py`.

A model is private until it is published; unlisted means reachable with the key of its link.
Pictures that belong to a page (samples) are as visible as the page.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.jobs import CheckpointRef
from app.core.blobs import Blob, release_blobs
from app.core.conditional import etag_of, require_match
from app.core.db import utcnow
from app.core.errors import FieldError, Forbidden, Invalid, NotFound
from app.core.security import new_key
from app.core.storage import get_storage
from app.gallery.files import add_file, family_of, safe_name
from app.gallery.headers import check_base, choose_base, recognise_upload, recognised_from
from app.gallery.models import Model, ModelFile, ModelTag, ModelVersion, VersionPicture
from app.gallery.permissions import can_edit_model, can_view_model
from app.gallery.queries import get_version_by_hash
from app.gallery.refs import LORA_TYPES, checkpoint_ref, get_version, lora_ref, primary_file
from app.gallery.schemas import ModelIn, ModelPatch, PublishIn, VersionIn, VersionPatch, Weights
from app.images.models import Image
from app.images.service import clean_tags, remove_images
from app.images.service import set_visibility as set_image_visibility
from app.recognition import Recognised
from app.uploads.models import Upload
from app.uploads.service import delete_upload, get_complete

__all__ = [
    "checkpoint_ref", "get_version", "get_version_by_hash", "lora_ref", "primary_file",
]  # fmt: skip
_FIELDS = (
    "name", "category", "description", "rating", "licence", "poi", "allow_no_credit", "allow_commercial_use",
    "allow_derivatives", "allow_different_license",
)  # fmt: skip


def get_model(db: Session, viewer: User | None, model_id: int, *, key: str | None = None) -> Model:
    """Errors: NotFound, also for what this person may not see."""
    model = db.get(Model, model_id)
    if model is None or not can_view_model(model, viewer, key):
        raise NotFound("This model does not exist, or it is not shared with you.")
    return model


def own_model(db: Session, user: User, model_id: int) -> Model:
    """A model that `user` may change. Errors: NotFound, Forbidden."""
    model = get_model(db, user, model_id)
    if not can_edit_model(model, user):
        raise Forbidden("Only its owner can change this model.")
    return model


def own_version(db: Session, user: User, version_id: int) -> ModelVersion:
    """A version that `user` may change. Errors: NotFound, Forbidden."""
    version = get_version(db, user, version_id)
    own_model(db, user, version.model_id)
    return version


def version_of(db: Session, user: User, model_id: int, version_id: int) -> ModelVersion:
    """A version that `user` may change, of just this model. Errors: NotFound, Forbidden."""
    version = own_version(db, user, version_id)
    if version.model_id != model_id:
        raise NotFound("This version belongs to another model.")
    return version


def create_model(db: Session, user: User, body: ModelIn) -> Model:
    """A private model page without versions. Errors: Invalid."""
    if body.visibility not in (None, "private"):
        words = "A model becomes visible when it is published: add a version with a file first."
        raise Invalid(words, [FieldError("#/visibility", words)])
    model = Model(user_id=user.id, username=user.username, name=body.name.strip(), type=body.type)
    db.add(model)
    _apply(db, model, body)
    return model


def model_etag(model: Model) -> str:
    """Changes with what the owner can change, not with downloads."""
    state = {name: getattr(model, name) for name in (*_FIELDS, "visibility", "archived_at")}
    return etag_of(state | {"tags": sorted(tag.tag for tag in model.tags)})


def set_model(
    db: Session, user: User, model_id: int, patch: ModelPatch, *, if_match: str | None = None
) -> Model:
    """Change what the owner may change. Errors: NotFound, Forbidden, Invalid, PreconditionFailed."""
    model = own_model(db, user, model_id)
    require_match(if_match, model_etag(model))
    _apply(db, model, patch)
    if patch.visibility is not None and patch.visibility != model.visibility:
        set_visibility(db, user, model_id, patch.visibility)
    return model


def _apply(db: Session, model: Model, patch: ModelPatch) -> None:
    for name in _FIELDS:
        value = getattr(patch, name)
        if value is not None:
            setattr(model, name, value)
    if patch.tags is not None:
        set_tags(model, patch.tags)
    if patch.archived is not None:
        model.archived_at = (model.archived_at or utcnow()) if patch.archived else None
    db.flush()


def set_tags(model: Model, tags: Sequence[str]) -> None:
    """Lower-case, without doubles."""
    wanted = clean_tags(tags)
    kept = {tag.tag: tag for tag in model.tags}
    model.tags = [kept.get(tag) or ModelTag(tag=tag) for tag in sorted(wanted)]


def create_version(db: Session, user: User, model_id: int, body: VersionIn) -> ModelVersion:
    """A draft version, with the file of an upload if one is named.

    What the body leaves out (base model, trained words) is taken from the file; what it says against the
    file is refused. Errors: NotFound, Forbidden, Conflict, Invalid.
    """
    model = own_model(db, user, model_id)
    upload = None if body.upload is None else get_complete(db, user, body.upload)
    blob = None if upload is None else db.get_one(Blob, upload.blob_sha256)
    seen = None if blob is None else recognise_upload(get_storage(), blob, model.type)
    version = ModelVersion(model=model, name=body.name, base_model=choose_base(body.base_model, seen))
    if seen is not None and body.trained_words is None:
        version.trained_words = list(seen.trained_words)
    db.add(version)
    _apply_version(version, body)
    if upload is not None:
        take_upload(db, user, version, upload, body, seen)
    db.flush()
    db.expire(model, ["versions"])
    return version


def set_version(db: Session, user: User, version_id: int, patch: VersionPatch) -> ModelVersion:
    """Errors: NotFound, Forbidden; Invalid for a base model that the file cannot be for."""
    version = own_version(db, user, version_id)
    for file in version.files if patch.base_model is not None else ():
        if seen := recognised_from(file.facts):
            check_base(seen, patch.base_model or "")
    _apply_version(version, patch)
    db.flush()
    return version


def _apply_version(version: ModelVersion, patch: VersionPatch) -> None:
    for name in ("name", "base_model", "description", "strength", "clip_skip", "steps", "epochs"):
        value = getattr(patch, name)
        if value is not None:
            setattr(version, name, value)
    if patch.trained_words is not None:
        version.trained_words = [w.strip()[:200] for w in patch.trained_words if w.strip()]
    version.family = family_of(version.model.type, version.base_model, version.files)


def take_upload(
    db: Session, user: User, version: ModelVersion, upload: Upload, body: Weights, seen: Recognised | None
) -> ModelFile:
    """Move the file of a complete upload into the version; its session is over then."""
    hashes = {str(kind): str(value) for kind, value in (upload.hashes or {}).items()}
    blob = db.get_one(Blob, upload.blob_sha256)
    file = add_file(
        db, version, blob, name=safe_name(upload.name, seen), hashes=hashes if "SHA256" in hashes else None,
        fp=body.fp, precision=body.precision, seen=seen,
    )  # fmt: skip
    delete_upload(db, get_storage(), user, upload.id)
    version.family = family_of(version.model.type, version.base_model, version.files)
    return file


def create_trained_version(
    db: Session,
    user: User,
    *,
    blob: Blob,
    file_name: str,
    tensor_sha256: str,
    base: CheckpointRef,
    name: str,
    version_name: str,
    model_id: int | None = None,
    description: str = "",
    category: str = "",
    tags: Sequence[str] = (),
    rating: int = 1,
    permissions: dict[str, Any] | None = None,
    **facts: Any,
) -> ModelVersion:
    """A draft version of an adapter trained here: of a new private model, or of `model_id`.

    `tensor_sha256` (hex) is compared with the stored bytes. `facts` are columns of the version, such as
    trained_words, strength or training_details. Errors: NotFound, Forbidden, Invalid.
    """
    if model_id is None:
        page = {"description": description, "category": category, "rating": rating, **(permissions or {})}
        model = _new_lora(db, user, name, tags, **page)
    else:
        model = own_model(db, user, model_id)
        if model.type not in LORA_TYPES:
            raise Invalid("A trained LoRA can only become a version of a LoRA page.", code="not-a-lora")
    details = facts.get("training_details") or {}
    version = ModelVersion(
        model=model, name=version_name, base_model=base.base_model, family=base.family, upload_type="Trained",
        description=description if model_id is not None else "",
        steps=details.get("steps"), epochs=details.get("epoch"), **facts,
    )  # fmt: skip
    db.add(version)
    add_file(db, version, blob, name=file_name, tensor_sha256=tensor_sha256)
    db.expire(model, ["versions"])
    return version


def _new_lora(db: Session, user: User, name: str, tags: Sequence[str], **fields: Any) -> Model:
    model = Model(user_id=user.id, username=user.username, name=name.strip(), type="LORA", **fields)
    set_tags(model, tags)
    db.add(model)
    return model


def find_trained_version(db: Session, job_id: str, sha256: str) -> ModelVersion | None:
    """The version that this checkpoint of a training became, if it was published before."""
    query = select(ModelVersion).join(ModelVersion.files)
    found = query.where(ModelVersion.training_job_id == job_id, ModelFile.blob_sha256 == sha256).limit(1)
    return db.scalars(found).unique().first()


def add_picture(db: Session, version: ModelVersion, image: Image, position: int) -> None:
    """Put a picture into the version's carousel, at most once."""
    if any(p.image_id == image.id for p in version.pictures):
        return
    version.pictures.append(VersionPicture(version_id=version.id, image=image, position=position))
    if image.origin == "page":
        set_image_visibility(db, image, _picture_visibility(version))
    db.flush()


def remove_picture(db: Session, user: User, version_id: int, image_id: int) -> None:
    """Take a picture off the page; one that belongs to it is deleted. Errors: NotFound, Forbidden."""
    version = own_version(db, user, version_id)
    gone = [p for p in version.pictures if p.image_id == image_id]
    version.pictures = [p for p in version.pictures if p.image_id != image_id]
    db.flush()
    remove_images(db, [p.image for p in gone if p.image.origin == "page"])


def _picture_visibility(version: ModelVersion) -> str:
    shown = version.status == "Published" and version.model.taken_down_at is None
    return version.model.visibility if shown else "private"


def set_visibility(db: Session, user: User, model_id: int, visibility: str) -> Model:
    """Publish (`public`, `unlisted`) with all drafts that have a file, or take back (`private`).

    Errors: NotFound, Forbidden (not the owner; bytes that were taken down), Invalid (nothing to publish).
    """
    model = own_model(db, user, model_id)
    if visibility == "private":
        model.share_key = None
    else:
        _publish_drafts(db, model, [v for v in model.versions if v.files])
    if visibility == "unlisted":
        model.share_key = model.share_key or new_key()
    model.visibility = visibility
    _sync_pictures(db, model)
    return model


def publish_version(db: Session, user: User, version: ModelVersion, visibility: str) -> Model:
    """Publish one draft. A page that is more visible already stays so; `private` leaves the draft a draft."""
    model = own_model(db, user, version.model_id)
    order = ("private", "unlisted", "public")
    if visibility != "private":
        _publish_drafts(db, model, [version])
        if order.index(visibility) > order.index(model.visibility):
            model.visibility = visibility
        if model.visibility == "unlisted":
            model.share_key = model.share_key or new_key()
    _sync_pictures(db, model)
    return model


def publish_model(db: Session, user: User, model_id: int, body: PublishIn) -> Model:
    """What POST /models/{id}/publish does. Errors: as set_visibility."""
    if body.version is None:
        return set_visibility(db, user, model_id, body.visibility)
    version = version_of(db, user, model_id, body.version)
    return publish_version(db, user, version, body.visibility)


def _publish_drafts(db: Session, model: Model, versions: list[ModelVersion]) -> None:
    if not versions or not all(v.files for v in versions):
        raise Invalid("Add a file before you publish.", code="nothing-to-publish")
    refuse_taken_down(db, [f.blob_sha256 for v in versions for f in v.files])
    for version in versions:
        if version.status != "Published":
            version.status, version.published_at = "Published", utcnow()
            model.published_at = version.published_at
    model.published_at = model.published_at or utcnow()


def refuse_taken_down(db: Session, shas: Sequence[str]) -> None:
    """Bytes that were taken down once are not published again under another number."""
    blocked = select(ModelFile.id).join(ModelVersion).join(Model)
    hit = blocked.where(ModelFile.blob_sha256.in_(shas), Model.taken_down_at.is_not(None)).limit(1)
    if db.scalar(hit) is not None:
        words = "This file was taken down here before and cannot be published."
        raise Forbidden(words, code="content-blocked")


def renew_key(db: Session, user: User, model_id: int) -> Model:
    """A new link for an unlisted model; the old one is dead at once."""
    model = own_model(db, user, model_id)
    if model.visibility != "unlisted":
        raise Invalid("Only an unlisted model has a link with a key.")
    model.share_key = new_key()
    for image in _page_pictures(model):
        image.share_key = new_key()
    return model


def _page_pictures(model: Model) -> list[Image]:
    return [p.image for v in model.versions for p in v.pictures if p.image.origin == "page"]


def _sync_pictures(db: Session, model: Model) -> None:
    db.flush()
    for version in model.versions:
        for picture in version.pictures:
            if picture.image.origin == "page" and picture.image.taken_down_at is None:
                set_image_visibility(db, picture.image, _picture_visibility(version))
    db.flush()


def delete_version(db: Session, user: User, version_id: int) -> None:
    """Remove a version with its files and page pictures; frees their bytes. Errors: NotFound, Forbidden."""
    version = own_version(db, user, version_id)
    model = version.model
    _delete_versions(db, [version])
    model.versions = [v for v in model.versions if v is not version]
    if model.visibility != "private" and not any(v.status == "Published" for v in model.versions):
        model.visibility, model.share_key = "private", None
    db.flush()


def _delete_versions(db: Session, versions: Sequence[ModelVersion]) -> None:
    shas: list[str | None] = [f.blob_sha256 for v in versions for f in v.files]
    images = {p.image_id: p.image for v in versions for p in v.pictures if p.image.origin == "page"}
    for version in versions:
        db.delete(version)
    db.flush()
    remove_images(db, list(images.values()))
    release_blobs(db, shas)


def delete_model(db: Session, user: User, model_id: int) -> None:
    """Remove a model with all that only it has, and free the bytes. Errors: NotFound, Forbidden."""
    model = own_model(db, user, model_id)
    _delete_versions(db, list(model.versions))
    db.expire(model, ["versions"])
    db.delete(model)
    db.flush()


def take_down_model(db: Session, admin: User, model_id: int, *, back: bool = False) -> Model:
    """Hide from everybody but admins, or bring back. Rows and bytes stay. Errors: Forbidden, NotFound."""
    if not admin.is_admin:
        raise Forbidden("Only an admin can take things down.")
    model = db.get(Model, model_id)
    if model is None:
        raise NotFound("This model does not exist.")
    model.taken_down_at = None if back else utcnow()
    _sync_pictures(db, model)
    return model
