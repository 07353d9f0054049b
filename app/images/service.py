"""Rules of pictures: made, changed, shared, deleted. Lists are in `queries.py`.

A picture is private until its owner shares it with a key (unlisted) or publishes it. What was
taken down stays as evidence, seen by admins only, and the same bytes cannot be published again.
"""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.blobs import Blob, release_blobs
from app.core.db import utcnow
from app.core.errors import Forbidden, NotFound
from app.core.security import new_key
from app.core.storage import get_storage
from app.images.models import Image, ImageResource
from app.images.permissions import can_edit_image, can_have_data, can_view_image
from app.images.schemas import ImagePatch
from app.images.thumbs import thumbnail
from app.jobs.models import Job
from worker.inference import infotext as texts
from worker.inference.metadata.reading import Resource, resources_of

LinkResource = Callable[[str, str], tuple[int | None, str]]
"""(hash, name) → (model version id or None, name to show)."""


def get_image(db: Session, viewer: User | None, image_id: int, *, key: str | None = None) -> Image:
    """Errors: NotFound, also for what this person may not see."""
    image = db.get(Image, image_id)
    if image is None or not can_view_image(image, viewer, key):
        raise NotFound("This picture does not exist, or it is not shared with you.")
    return image


def is_sent_plain(db: Session, viewer: User | None, image: Image) -> bool:
    """Whether the generation data is taken out of the file for this person."""
    return not can_have_data(image, db.get_one(User, image.user_id), viewer)


def _own(db: Session, user: User, image_id: int) -> Image:
    image = get_image(db, user, image_id)
    if not can_edit_image(image, user):
        raise Forbidden("Only its owner can change this picture.")
    return image


def create_generated(
    db: Session, job: Job, *, blob: Blob, index: int, resources: Sequence[dict[str, Any]], **facts: Any
) -> Image:
    """The row of finished picture or clip `index` of a job; reported twice, it is the same row.

    `facts`: width, height (pixels), infotext, prompt, negative_prompt, base_model, meta (Civitai's names);
    of a clip frames, fps, poster (the blob of a picture).
    Each resource: kind, name, model_version_id, weight, hash.
    """
    found = db.scalar(select(Image).where(Image.job_id == job.id, Image.job_index == index))
    if found is not None:
        return found
    owner = db.get_one(User, job.user_id)
    return _add(db, owner, blob, resources=_resources(resources), job_id=job.id, job_index=index, **facts)


def create_sample(
    db: Session, user: User, *, blob: Blob, prompt: str, seed: int | None = None,
    resources: Sequence[dict[str, Any]] = (), **facts: Any,
) -> Image:  # fmt: skip
    """A picture that belongs to a model page, e.g. a training sample; it follows the page's visibility.

    `facts`: width, height (pixels), negative_prompt, base_model, rating, infotext; of a clip frames, fps,
    poster (the blob of a picture).
    """
    meta = {"prompt": prompt, "negativePrompt": facts.get("negative_prompt", ""), "seed": seed}
    meta["Size"] = f"{facts['width']}x{facts['height']}"
    told = _told(texts.read(facts.get("infotext", "")))
    shown = told | {name: value for name, value in meta.items() if value not in (None, "")}
    return _add(
        db, user, blob, origin="page", prompt=prompt, meta=shown, resources=_resources(resources), **facts
    )


def _resources(facts: Sequence[dict[str, Any]]) -> list[ImageResource]:
    return [ImageResource(position=n, **fact) for n, fact in enumerate(facts)]


def _add(db: Session, owner: User, blob: Blob, *, poster: Blob | None = None, **fields: Any) -> Image:
    """`poster` stands for a clip wherever a picture is wanted."""
    small = thumbnail(db, get_storage(), poster or blob, fields["width"])
    still = blob.media_type if blob.media_type.startswith("image/") else "image/png"
    image = Image(
        user_id=owner.id,
        username=owner.username,
        blob_sha256=blob.sha256,
        thumb_sha256=small.sha256,
        poster_sha256=poster.sha256 if poster else None,
        media_type="video/mp4" if poster else still,
        size=blob.size,
        **fields,
    )
    db.add(image)
    db.flush()
    return image


def create_uploaded(
    db: Session,
    user: User,
    blob: Blob,
    *,
    width: int,
    height: int,
    infotext: str,
    link: LinkResource,
    title: str = "",
    program: str = "",
    notes: Sequence[str] = (),
    poster: Blob | None = None,
    clip: dict[str, float] | None = None,
) -> Image:
    """A picture from elsewhere, already decoded safely: upright, without metadata.

    Of a clip: `poster`, a picture of it, and in `clip` its frames and fps.

    Its generation data is a claim, not a proof; `link` finds resources by hash. `program` wrote the
    data, `notes` tell what could not be brought over.
    """
    length: dict[str, Any] = (
        {"frames": int(clip["frames"]), "fps": clip["fps"], "poster": poster} if clip else {}
    )
    image = _add(
        db,
        user,
        blob,
        origin="uploaded",
        title=title,
        width=width,
        height=height,
        infotext=infotext,
        **length,
    )
    read_generation_data(image, link)
    said = {"program": program, "notes": list(notes)}
    image.meta = image.meta | {name: value for name, value in said.items() if value}
    db.flush()
    return image


def read_generation_data(image: Image, link: LinkResource) -> None:
    """Fill prompt, settings and resources of a picture from its infotext."""
    info = texts.read(image.infotext)
    image.prompt, image.negative_prompt = info.prompt, info.negative_prompt
    image.meta = _told(info)
    image.resources = [_claimed(n, claim, link) for n, claim in enumerate(resources_of(info))]


KEPT = ("Schedule type", "Denoising strength", "Hires upscale", "Hires resize", "Hires upscaler", "VAE")
"""Settings that stand under the same name in Civitai's generation data."""


def _told(info: texts.Infotext) -> dict[str, Any]:
    """An infotext's settings under Civitai's names, without those that it does not name."""
    known = {
        "prompt": info.prompt,
        "negativePrompt": info.negative_prompt,
        "seed": info.seed,
        "steps": info.steps,
        "sampler": info.sampler,
        "cfgScale": info.cfg_scale,
        "clipSkip": info.clip_skip if "Clip skip" in info.settings else None,
        "Size": info.settings.get("Size"),
        "Model": info.model,
        "Model hash": info.model_hash,
        "hashes": info.hashes or None,
        "frames": info.frames,
        "fps": info.fps,
        "shift": info.shift,
        **{name: info.settings.get(name) for name in KEPT},
    }
    return {name: value for name, value in known.items() if value not in (None, "")}


def _claimed(position: int, claim: Resource, link: LinkResource) -> ImageResource:
    version_id, shown = link(claim.hash, claim.name) if claim.hash else (None, claim.name)
    return ImageResource(
        position=position,
        kind=claim.kind,
        name=shown[:200],
        hash=claim.hash[:64],
        model_version_id=version_id,
        weight=claim.weight,
    )


def set_image(db: Session, user: User, image_id: int, patch: ImagePatch) -> Image:
    """Change what the owner may change. Errors: NotFound, Forbidden (not the owner, or taken down before)."""
    image = _own(db, user, image_id)
    if patch.visibility is not None:
        set_visibility(db, image, patch.visibility)
    for name in ("rating", "title", "description"):
        value = getattr(patch, name)
        if value is not None:
            setattr(image, name, value)
    if patch.tags is not None:
        image.tags = clean_tags(patch.tags)
    db.flush()
    return image


def clean_tags(tags: Sequence[str]) -> list[str]:
    """Lower-case, trimmed, without doubles, in the order given; at most 60 characters each."""
    return list(dict.fromkeys(t for tag in tags if (t := " ".join(tag.lower().split())[:60])))


def set_visibility(db: Session, image: Image, visibility: str) -> None:
    """Unlisted makes a key if there is none; private revokes it. Errors: Forbidden for taken-down bytes."""
    if visibility != "private":
        refuse_taken_down(db, image)
    if visibility == "private":
        image.share_key = None
    elif visibility == "unlisted" and image.share_key is None:
        image.share_key = new_key()
    elif visibility == "public" and image.published_at is None:
        image.published_at = utcnow()
    image.visibility = visibility


def refuse_taken_down(db: Session, image: Image) -> None:
    """Bytes that were taken down once are not shown again under another number."""
    blocked = select(Image.id).where(Image.blob_sha256 == image.blob_sha256, Image.taken_down_at.is_not(None))
    if db.scalar(blocked.limit(1)) is not None:
        raise Forbidden(
            "This picture was taken down here before and cannot be shared.", code="content-blocked"
        )


def share_image(db: Session, user: User, image_id: int) -> Image:
    """Give the picture a key for a link; a public one stays public. Errors: NotFound, Forbidden."""
    image = _own(db, user, image_id)
    refuse_taken_down(db, image)
    image.share_key = image.share_key or new_key()
    if image.visibility == "private":
        image.visibility = "unlisted"
    return image


def unshare_image(db: Session, user: User, image_id: int) -> Image:
    """Revoke the key; the link is dead at once."""
    image = _own(db, user, image_id)
    image.share_key = None
    if image.visibility == "unlisted":
        image.visibility = "private"
    return image


def delete_image(db: Session, user: User, image_id: int) -> None:
    """Remove the picture and free its bytes. Errors: NotFound, Forbidden."""
    remove_images(db, [_own(db, user, image_id)])


def remove_images(db: Session, images: Sequence[Image]) -> None:
    """Delete rows that somebody has the right to delete, and free what only they named."""
    shas = [sha for image in images for sha in _blobs_of(image)]
    for image in images:
        db.delete(image)
    release_blobs(db, shas)


def _blobs_of(image: Image) -> list[str | None]:
    return [image.blob_sha256, image.thumb_sha256, image.poster_sha256]


def take_down_image(db: Session, admin: User, image_id: int, *, back: bool = False) -> Image:
    """Hide from everybody but admins, or bring back. Row and bytes stay. Errors: Forbidden, NotFound."""
    if not admin.is_admin:
        raise Forbidden("Only an admin can take things down.")
    image = db.get(Image, image_id)
    if image is None:
        raise NotFound("This picture does not exist.")
    image.taken_down_at = None if back else utcnow()
    return image
