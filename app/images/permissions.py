"""Who may see and change a picture: one function per rule."""

from app.accounts.models import User
from app.core.security import same
from app.images.models import Image

SAFE = 3
"""PG and PG-13: what somebody sees who has not said otherwise."""
ALL = 31


def can_view_image(image: Image, viewer: User | None, key: str | None = None) -> bool:
    """Owner, anybody if public and rated, whoever has the key if unlisted; after a take-down only admins."""
    if image.taken_down_at is not None:
        return viewer is not None and viewer.is_admin
    if viewer is not None and viewer.id == image.user_id:
        return True
    if image.visibility == "public" and image.rating != 0:
        return True
    if image.visibility != "unlisted":
        return False
    by_key = key is not None and image.share_key is not None and same(key, image.share_key)
    return by_key or (viewer is not None and viewer.is_admin)


def can_edit_image(image: Image, viewer: User | None) -> bool:
    """Its owner, unless it was taken down."""
    return viewer is not None and viewer.id == image.user_id and image.taken_down_at is None


def can_have_data(image: Image, owner: User, viewer: User | None) -> bool:
    """Whether the file that this person gets tells how it was made: the owner's choice for all others."""
    return can_edit_image(image, viewer) or owner.preferences.get("embed_data", True) is not False


def browsing_level(viewer: User | None) -> int:
    """Bits of the ratings that lists show to this person."""
    level = viewer.preferences.get("browsing_level", SAFE) if viewer else SAFE
    return level if isinstance(level, int) and 0 < level <= ALL else SAFE
