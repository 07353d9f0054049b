"""REST routes of single pictures. Lists in Civitai's form and uploads are in `app.compat`."""

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response

from app.accounts.deps import OptionalUser, Scoped
from app.accounts.models import User
from app.images import service
from app.images.rows import view_file, view_image
from app.images.schemas import ImagePatch
from app.images.sending import send_image
from app.images.shapes import image_out
from app.web.deps import Db, Store

router = APIRouter(prefix="/api/v1/images", tags=["images"])
Sharer = Annotated[User, Scoped("publish")]
Owner = Annotated[User, Scoped("generate")]


@router.get("/{image_id}")
def show(
    request: Request, db: Db, viewer: OptionalUser, image_id: int, key: str | None = None
) -> dict[str, Any]:
    """One picture with its generation data."""
    return image_out(request, view_image(db, viewer, image_id, key=key), viewer, with_tags=True)


@router.patch("/{image_id}")
def change(request: Request, db: Db, user: Sharer, image_id: int, body: ImagePatch) -> dict[str, Any]:
    """Change visibility, rating, title, description, tags."""
    return image_out(request, service.set_image(db, user, image_id, body), user)


@router.delete("/{image_id}", status_code=204)
def remove(db: Db, user: Owner, image_id: int) -> None:
    """Delete the picture and free its bytes."""
    service.delete_image(db, user, image_id)


@router.post("/{image_id}/share")
def share(request: Request, db: Db, user: Sharer, image_id: int) -> dict[str, Any]:
    """A link that shows the picture to whoever has it, until the sharing is deleted."""
    shared = image_out(request, service.share_image(db, user, image_id), user)
    return {"url": shared["shareUrl"]}


@router.delete("/{image_id}/share", status_code=204)
def unshare(db: Db, user: Sharer, image_id: int) -> None:
    """Revoke the link."""
    service.unshare_image(db, user, image_id)


@router.head("/{image_id}/file", include_in_schema=False)
@router.get("/{image_id}/file", response_class=Response)
def file(
    request: Request, db: Db, store: Store, viewer: OptionalUser, image_id: int, key: str | None = None
) -> Response:
    """The bytes, with generation data inside where the picture was drawn here and its owner lets it be."""
    image, plain = view_file(db, viewer, image_id, key=key)
    return send_image(request, store, image, plain=plain)
