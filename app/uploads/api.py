"""REST: upload sessions for large files."""

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from starlette.concurrency import run_in_threadpool

from app.accounts.deps import CurrentUser
from app.accounts.models import User
from app.core.db import unit_of_work
from app.core.storage import Storage
from app.jobs import idempotency
from app.jobs.schemas import JobOut
from app.jobs.views import job_out
from app.uploads import service
from app.uploads.models import Upload
from app.uploads.schemas import UploadIn, UploadList, UploadOut
from app.web.deps import Db, Store
from app.web.streaming import pause, read_body

BYTES = {"type": "string", "format": "binary"}
router = APIRouter(prefix="/api/v1/uploads", tags=["uploads"])


def upload_out(upload: Upload, missing: list[int]) -> UploadOut:
    return UploadOut(
        id=upload.id, name=upload.name, size=upload.size, part_size=upload.part_size,
        parts=service.part_count(upload), missing=missing, state=upload.state,
        sha256=upload.blob_sha256, announced_sha256=upload.declared_sha256,
        hashes=_public(upload.hashes), job=upload.job_id, created_at=upload.created_at,
        expires_at=upload.expires_at,
    )  # fmt: skip


def _public(hashes: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if hashes is None else {kind: value for kind, value in hashes.items() if kind != "Tensor"}


@router.post("", status_code=201, response_model=UploadOut)
def create_upload(
    body: UploadIn,
    db: Db,
    store: Store,
    user: CurrentUser,
    idempotency_key: Annotated[str | None, Header(max_length=255)] = None,
) -> Response:
    """Begin: announce the file, get the size and the number of its parts."""

    def make() -> idempotency.Answer:
        upload = service.create_upload(db, store, user, name=body.name, size=body.size, sha256=body.sha256)
        shown = upload_out(upload, service.missing_parts(db, upload)).model_dump(mode="json")
        return idempotency.Answer(201, shown, f"/api/v1/uploads/{upload.id}")

    return idempotency.answer(db, user, "uploads", idempotency_key, body.model_dump(mode="json"), make)


@router.get("")
def list_uploads(db: Db, user: CurrentUser) -> UploadList:
    """One's own sessions that are not used up, newest first: what a program looks for to go on."""
    return UploadList(items=[upload_out(*row) for row in service.list_uploads(db, user)])


@router.get("/{id}")
def get_upload(id: str, db: Db, user: CurrentUser) -> UploadOut:
    """What is missing; after a lost connection go on from here."""
    upload = service.get_upload(db, user, id)
    return upload_out(upload, service.missing_parts(db, upload))


@router.put(
    "/{id}/parts/{number}", status_code=204, max_body_size=service.MAX_PART_SIZE + (1 << 20),
    openapi_extra={"requestBody": {"content": {"application/octet-stream": {"schema": BYTES}}}},
)  # fmt: skip
async def put_part(
    id: str, number: int, request: Request, db: Db, store: Store, user: CurrentUser
) -> Response:
    """One part's raw bytes, with or without `Content-Digest: sha-256=:…:`; may be sent again."""
    size = await run_in_threadpool(_part_bytes, db, user, id, number)
    await pause(db)
    with store.scratch(service.part_key(id, number)) as path:
        await read_body(
            request, path, size, f"Part {number} must have {size} bytes, and more came. Send it again."
        )
        await run_in_threadpool(_put_part, store, user, id, number, path)
    return Response(status_code=204)


def _part_bytes(db: Db, user: User, id: str, number: int) -> int:
    return service.part_bytes(service.get_upload(db, user, id), number)


def _put_part(store: Storage, user: User, id: str, number: int, path: Path) -> None:
    with unit_of_work() as db:
        service.put_part(db, store, user, id, number, path=path)


@router.post("/{id}/complete", status_code=202, response_model=JobOut)
def complete_upload(id: str, db: Db, store: Store, user: CurrentUser, response: Response) -> dict[str, Any]:
    """All parts are sent: check and keep the file. Up to 64 MB the job that is answered has ended already."""
    job = service.complete_upload(db, store, user, id)
    response.headers["Location"] = f"/api/v1/jobs/{job.id}"
    return job_out(db, job)


@router.delete("/{id}", status_code=204)
def delete_upload(id: str, db: Db, store: Store, user: CurrentUser) -> None:
    """Abort: what has come is deleted."""
    service.delete_upload(db, store, user, id)
