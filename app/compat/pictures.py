"""POST /api/v1/images: a picture from elsewhere. It stands here because it joins pictures with models."""

from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Request, UploadFile

from app.accounts.deps import Scoped
from app.accounts.models import User
from app.core.errors import FieldError, Invalid
from app.generation.adopt import adopt_picture
from app.images.shapes import image_out
from app.web.deps import Db, Store

router = APIRouter(tags=["images"])
MAX_BODY = 64 << 20
"""Bytes that a request may bring; what a picture may have is a setting and less."""


@router.post("/api/v1/images", status_code=201, max_body_size=MAX_BODY)
def add_picture(
    request: Request,
    db: Db,
    store: Store,
    user: Annotated[User, Scoped("generate")],
    file: Annotated[UploadFile | None, File()] = None,
    image: Annotated[UploadFile | None, File(description="The same as `file`.")] = None,
    title: Annotated[str, Form(max_length=200)] = "",
) -> dict[str, Any]:
    """Add a picture from elsewhere, privately: generation data is read, resources are linked by hash."""
    sent = file or image
    if sent is None:
        raise Invalid(
            "Send the picture as `file`.", [FieldError("#/file", "this field is required", "missing")]
        )
    made = adopt_picture(db, user, sent.file, storage=store, name=sent.filename or "", title=title)
    return image_out(request, made, user)
