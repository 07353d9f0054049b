"""Paths of a picture's bytes and of its page.

An unlisted picture's key is in them, so they must only be shown to who may see it.
"""

from app.images.models import Image

EXTENSIONS = {
    "image/png": "png", "image/jpeg": "jpeg", "image/webp": "webp", "image/avif": "avif", "video/mp4": "mp4",
}  # fmt: skip


def extension(image: Image) -> str:
    return EXTENSIONS.get(image.media_type, "png")


def _key(image: Image) -> str:
    return f"?key={image.share_key}" if image.visibility == "unlisted" and image.share_key else ""


def image_path(image: Image, *, thumb: bool = False) -> str:
    """Path of the bytes."""
    return f"/images/{image.id}/{'thumb' if thumb else f'file.{extension(image)}'}{_key(image)}"


def variant_path(image: Image) -> str:
    """Path of the picture for programs that write `width=450` where it says `original=true`."""
    return f"/images/{image.id}/original=true/bottega-{image.id}.{extension(image)}{_key(image)}"


def poster_path(image: Image) -> str:
    """Path of the picture that stands for a clip."""
    return f"/images/{image.id}/anim=false/bottega-{image.id}.jpeg{_key(image)}"


def page_path(image: Image) -> str:
    return f"/images/{image.id}{_key(image)}"
