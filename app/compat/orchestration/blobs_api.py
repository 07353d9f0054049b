"""Blobs of version 2: send pictures and zips, fetch what was made. Signed addresses work without a token."""

import tempfile
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from app.accounts import signatures
from app.accounts.deps import CurrentUser, Identified, OptionalUser, Scoped
from app.accounts.models import User
from app.compat.orchestration import blobs
from app.compat.orchestration.answers import NO_STORE, OrchestrationRoute
from app.compat.orchestration.scopes import check_any_scope
from app.core.blobs import check_space
from app.core.db import unit_of_work
from app.core.errors import AppError, Unauthorized
from app.core.storage import Storage
from app.images.sending import send_image
from app.uploads.service import renew_upload
from app.web.deps import Db, Store
from app.web.downloads import send_blob
from app.web.links import origin
from app.web.streaming import pause, read_body

router = APIRouter(tags=["orchestration"], route_class=OrchestrationRoute)
Reader = Annotated[User, Scoped("read")]
MAX_BYTES = 1 << 30
TOO_LARGE = "One blob may have 1 GB. Larger files go by /api/v1/uploads."
UPLOAD = "upload a blob"
"""What the signature of an address for uploads is made over."""
UPLOADERS = ("generate", "train")
BYTES = {"requestBody": {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}}


def _signed(
    request: Request, db: Db, viewer: OptionalUser, user: int | None = None, until: int | None = None,
    sig: Annotated[str | None, Query(max_length=64)] = None,
) -> User:  # fmt: skip
    """Who signed the address, else who is logged in. Errors: Unauthorized."""
    blob_id = request.path_params.get("blob_id")
    said = UPLOAD if blob_id is None else blobs.words(str(blob_id))
    if sig is not None:
        signer = signatures.find_signer(db, said, user or 0, until or 0, sig)
        if signer is None:
            raise Unauthorized("This address has expired, or it was changed. Ask for a new one.")
        return signer
    if viewer is None:
        raise Unauthorized("Send a token (Authorization: Bearer …), or use the signed address of the blob.")
    return viewer


SignedUser = Annotated[User, Depends(_signed)]


def _blob_out(request: Request, db: Db, user: User, blob_id: str) -> dict[str, Any]:
    found = blobs.find_blob(db, user, blob_id)
    links = blobs.make_links(db, origin(request), user.id)
    return blobs.blob_out(links, blob_id, blobs.KIND.get(found.media_type, "file"))


@router.post(
    blobs.PATH, status_code=201, max_body_size=MAX_BYTES + (1 << 20), openapi_extra=BYTES
)  # fmt: skip
async def upload_blob(request: Request, db: Db, store: Store, user: SignedUser) -> Response:
    """The body is a picture or a zip of pictures with their .txt files; the answer has its address."""
    length = request.headers.get("content-length", "")
    await run_in_threadpool(check_space, store, int(length) if length.isdigit() else 0)
    await pause(db)
    with tempfile.TemporaryDirectory(prefix="bottega-blob-") as folder:
        path = Path(folder) / "body"
        await read_body(request, path, MAX_BYTES, TOO_LARGE)
        body = await run_in_threadpool(_keep, request, store, user, path)
    return JSONResponse(body, 201, headers=NO_STORE)


def _keep(request: Request, store: Storage, user: User, path: Path) -> dict[str, Any]:
    if path.stat().st_size == 0:
        raise AppError("The body is empty. Send the bytes of a picture or of a zip.")
    with unit_of_work(getattr(request.app.state, "sessions", None)) as db:
        upload = blobs.keep_blob(db, store, db.get_one(User, user.id), path)
        return _blob_out(request, db, db.get_one(User, user.id), upload.id)


@router.get(f"{blobs.PATH}/upload")
def get_upload_url(request: Request, db: Db, user: CurrentUser, identity: Identified) -> dict[str, str]:
    """An address to which a browser may POST one blob without a token."""
    check_any_scope(identity, UPLOADERS)
    links = blobs.make_links(db, origin(request), user.id)
    address = f"{links.origin}{blobs.PATH}?{links.signer.query(UPLOAD)}"
    return {"uploadUrl": address, "expiresAt": blobs.expiry(links)}


@router.head(f"{blobs.PATH}/{{blob_id}}", status_code=204, include_in_schema=False)
def head_blob(db: Db, user: SignedUser, blob_id: str) -> Response:
    """204 where it is there."""
    blobs.find_blob(db, user, blob_id)
    return Response(status_code=204)


@router.get(f"{blobs.PATH}/{{blob_id}}", response_class=Response)
def get_blob(
    request: Request, db: Db, store: Store, user: SignedUser, blob_id: str,
    filename: Annotated[str, Query(max_length=200)] = "", download: bool = False,
) -> Response:  # fmt: skip
    """The bytes, with the generation data inside where it is a picture that was drawn here."""
    found = blobs.find_blob(db, user, blob_id)
    name = filename or found.name
    if found.image is not None:
        return send_image(request, store, found.image, plain=False, attachment=download, name=name)
    return send_blob(
        request, store, found.sha256, name=name, media_type=found.media_type, inline=not download
    )


@router.get(f"{blobs.PATH}/{{blob_id}}/refresh")
def show_blob(request: Request, db: Db, user: Reader, blob_id: str) -> dict[str, Any]:
    """A new address of a blob."""
    return _blob_out(request, db, user, blob_id)


@router.post(f"{blobs.PATH}/{{blob_id}}/refresh")
def refresh_blob(request: Request, db: Db, user: CurrentUser, blob_id: str) -> dict[str, Any]:
    """A new address; what was uploaded is kept for another week."""
    if blob_id.startswith("up_"):
        renew_upload(db, user, blob_id)
    return _blob_out(request, db, user, blob_id)
