"""Who may see, fetch and change a model: one function per rule."""

from app.accounts.models import User
from app.core.config import get_settings
from app.core.security import same
from app.gallery.models import Model, ModelVersion


def can_edit_model(model: Model, viewer: User | None) -> bool:
    """Its owner, or an admin for what ships with Bottega; nobody after a take-down."""
    if viewer is None or model.taken_down_at is not None:
        return False
    return viewer.id == model.user_id or (model.built_in and viewer.is_admin)


def can_view_model(model: Model, viewer: User | None, key: str | None = None) -> bool:
    """Owner, anybody if public and rated, whoever has the key if unlisted; after a take-down only admins."""
    if model.taken_down_at is not None:
        return viewer is not None and viewer.is_admin
    if can_edit_model(model, viewer) or (model.visibility == "public" and model.rating != 0):
        return True
    if model.visibility != "unlisted":
        return False
    by_key = key is not None and model.share_key is not None and same(key, model.share_key)
    return by_key or (viewer is not None and viewer.is_admin)


def can_view_version(version: ModelVersion, viewer: User | None, key: str | None = None) -> bool:
    """As the model; a draft is seen by who may edit it."""
    model = version.model
    if not can_view_model(model, viewer, key):
        return False
    return version.status == "Published" or can_edit_model(model, viewer) or model.taken_down_at is not None


def can_download_model(model: Model, viewer: User | None) -> bool:
    """Its files, for whom its page is visible: those of an archived one only its owner gets."""
    return model.archived_at is None or can_edit_model(model, viewer)


def can_download_here(viewer: User | None) -> bool:
    """Whether this installation gives files to this person at all: an admin may want people to log in."""
    return viewer is not None or get_settings().auth.anonymous_downloads
