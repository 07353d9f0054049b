"""Pictures that the generator works with: those to start from, masks, and how a drawing looks so far."""

from typing import Annotated, Any

from fastapi import APIRouter, File, Request, Response, UploadFile

from app.accounts.deps import CurrentUser
from app.core.blobs import Blob
from app.generation import service, sources
from app.images import queries as image_queries
from app.uploads import service as uploads
from app.web.deps import Db, Store
from app.web.downloads import SANDBOX, send_blob
from app.web.templating import render

router = APIRouter(prefix="/generate")
MAX_BODY = 64 << 20


@router.post("/pictures", status_code=201, max_body_size=MAX_BODY)
def keep(db: Db, user: CurrentUser, file: Annotated[UploadFile, File()]) -> dict[str, Any]:
    """Keep a picture to start from, or a mask, for a week; `source` is what the form sends."""
    upload = sources.keep_picture(db, user, file.file, name=file.filename or "")
    return {"source": f"upload:{upload.id}", "url": f"/generate/pictures/{upload.id}"}


@router.get("/pictures")
def choose(
    request: Request, db: Db, user: CurrentUser, query: str = "", cursor: str | None = None
) -> Response:
    """One's own pictures, to choose one to start from."""
    filters = image_queries.ImageFilters(mine=True, query=query, media="image")
    page = image_queries.list_images(db, user, filters, cursor=cursor, limit=48)
    return render(request, "generation/_pictures.html", page=page, query=query)


@router.get("/pictures/{upload_id}")
def show(request: Request, db: Db, store: Store, user: CurrentUser, upload_id: str) -> Response:
    """A picture that was kept."""
    upload = uploads.get_complete(db, user, upload_id)
    blob = db.get_one(Blob, upload.blob_sha256)
    return send_blob(request, store, blob.sha256, name=upload.name, media_type=blob.media_type, inline=True)


@router.get("/jobs/{job_id}/preview")
def preview(db: Db, user: CurrentUser, job_id: str) -> Response:
    """How the picture that is being drawn looks so far. Its address changes with each: `?n=3`."""
    headers = {"Cache-Control": "private, max-age=60", "Content-Security-Policy": SANDBOX}
    return Response(service.get_preview(db, user, job_id), media_type="image/jpeg", headers=headers)
