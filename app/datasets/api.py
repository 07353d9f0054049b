"""REST: data sets, their pictures and labels."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from app.accounts.deps import CurrentUser, Scoped
from app.accounts.models import User
from app.core.db import unit_of_work
from app.core.storage import Storage
from app.datasets import service
from app.datasets.example import add_example
from app.datasets.intake import Received
from app.datasets.models import Dataset
from app.datasets.queries import dataset_etag, item_etag
from app.datasets.receive import BODY_BYTES, received_files
from app.datasets.schemas import (
    AddedOut,
    DatasetIn,
    DatasetList,
    DatasetOut,
    DatasetPatch,
    FromUpload,
    ItemList,
    ItemOut,
    ItemPatch,
    ItemQuery,
    LabelChange,
    LabelChanged,
    PageQuery,
    Undo,
    Undone,
    WindowQuery,
    WindowsOut,
)
from app.datasets.views import added_out, dataset_out, item_out, windows_out
from app.jobs import idempotency
from app.jobs.views import job_out
from app.uploads.service import create_complete, delete_upload, get_complete
from app.web.deps import Db, Store
from app.web.downloads import content_disposition, send_blob
from app.web.streaming import counted, pause

router = APIRouter(prefix="/api/v1/datasets", tags=["datasets"])
Trainer = Annotated[User, Scoped("train")]
IfMatch = Annotated[str | None, Header()]
IdempotencyKey = Annotated[str | None, Header(max_length=255)]
JSON_BYTES = 1 << 20
FIRST_ETAG = '"1"'

FILES_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "files": {"type": "array", "items": {"type": "string", "format": "binary"}}
                    },
                    "required": ["files"],
                }
            },
            "application/json": {"schema": FromUpload.model_json_schema()},
        },
    }
}


def _shown(db: Db, response: Response, dataset: Dataset) -> DatasetOut:
    response.headers["ETag"] = dataset_etag(dataset)
    return dataset_out(dataset, service.describe(db, dataset))


def _link(request: Request, response: Response, cursor: str | None) -> None:
    if cursor:
        response.headers["Link"] = f'<{request.url.include_query_params(cursor=cursor)}>; rel="next"'


@router.post("", status_code=201, response_model=DatasetOut)
def create_dataset(
    body: DatasetIn, db: Db, user: Trainer, idempotency_key: IdempotencyKey = None
) -> Response:
    """An empty set."""

    def make() -> idempotency.Answer:
        made = service.create_dataset(db, user, name=body.name, media=body.media, label_type=body.label_type)
        shown = dataset_out(made, service.describe(db, made)).model_dump(mode="json")
        return idempotency.Answer(201, shown, f"/api/v1/datasets/{made.id}")

    answer = idempotency.answer(db, user, "datasets", idempotency_key, body.model_dump(mode="json"), make)
    answer.headers["ETag"] = FIRST_ETAG
    return answer


@router.get("")
def list_datasets(
    db: Db, user: CurrentUser, query: Annotated[PageQuery, Query()], request: Request, response: Response
) -> DatasetList:
    """One's own sets, newest first."""
    page = service.page_datasets(db, user, cursor=query.cursor, limit=query.limit)
    _link(request, response, page.next_cursor)
    return DatasetList(items=[dataset_out(d, facts) for d, facts in page.items], next_cursor=page.next_cursor)


@router.get("/{id}")
def get_dataset(id: str, db: Db, user: CurrentUser, response: Response) -> DatasetOut:
    return _shown(db, response, service.get_dataset(db, user, id))


@router.patch("/{id}")
def update_dataset(
    id: str, body: DatasetPatch, db: Db, user: Trainer, response: Response, if_match: IfMatch = None
) -> DatasetOut:
    dataset = service.update_dataset(
        db, user, id, name=body.name, label_type=body.label_type, if_match=if_match
    )
    return _shown(db, response, dataset)


@router.delete("/{id}", status_code=204)
def delete_dataset(id: str, db: Db, user: Trainer) -> None:
    """The set with all its pictures. Trainings keep the pictures that they took."""
    service.delete_dataset(db, user, id)


@router.post(
    "/{id}/items", response_model=AddedOut, openapi_extra=FILES_BODY, max_body_size=BODY_BYTES,
    responses={202: {"description": "A large zip or clip: the job that adds it."}},
)  # fmt: skip
async def add_items(id: str, request: Request, db: Db, store: Store, user: Trainer) -> Any:
    """Pictures, labels of the same stem, zips; or `{"upload": id}`. Each bad file has its own error.

    A set of clips takes MP4, WebM, MOV and GIF too; a picture there is a clip of one frame.
    """
    await run_in_threadpool(service.get_dataset, db, user, id, edit=True)
    if request.headers.get("content-type", "").startswith("application/json"):
        body = await _from_upload(request)
        return await run_in_threadpool(_add_upload, db, store, user, id, body.upload)
    await pause(db)
    async with received_files(request, store) as files:
        large = await run_in_threadpool(_start_large, store, user, id, files)
        if large is not None:
            return JSONResponse(large, 202, headers={"Location": large["links"]["self"]})
        report = await run_in_threadpool(service.add_files, store, user, id, files)
    return await run_in_threadpool(_report, id, report)


async def _from_upload(request: Request) -> FromUpload:
    try:
        body = b"".join(
            [chunk async for chunk in counted(request, JSON_BYTES, "A JSON body has 1 MB at most.")]
        )
        return FromUpload.model_validate_json(body)
    except ValidationError as error:
        raise RequestValidationError([{**e, "loc": ("body", *e["loc"])} for e in error.errors()]) from error


def _add_upload(db: Db, store: Storage, user: User, id: str, upload_id: str) -> Any:
    upload = get_complete(db, user, upload_id)
    if upload.size > service.IN_REQUEST_BYTES:
        job = job_out(db, service.start_import(db, user, id, upload))
        return JSONResponse(job, 202, headers={"Location": job["links"]["self"]})
    db.close()
    report = service.import_upload(store, user, id, upload_id)
    delete_upload(db, store, user, upload_id)
    return _report(id, report)


def _start_large(store: Storage, user: User, id: str, files: list[Received]) -> dict[str, Any] | None:
    """The job for one large zip or clip; None for everything that is added at once."""
    with unit_of_work() as db:
        dataset = service.get_dataset(db, user, id, edit=True)
        if len(files) != 1 or not service.is_for_a_job(dataset, files[0]):
            return None
        upload = create_complete(db, store, user, name=files[0].name, path=files[0].path)
        return job_out(db, service.start_import(db, user, id, upload))


def _report(id: str, report: service.Report) -> AddedOut:
    with unit_of_work() as db:
        return added_out(report, service.get_items(db, id, report.accepted))


@router.get("/{id}/items")
def list_items(
    id: str,
    db: Db,
    user: CurrentUser,
    query: Annotated[ItemQuery, Query()],
    request: Request,
    response: Response,
) -> ItemList:
    """Pictures in the order in which they came; by one tag, without a label, or with a warning."""
    page = service.list_items(
        db, user, id, tag=query.tag, unlabelled=query.unlabelled, warning=query.warning,
        cursor=query.cursor, limit=query.limit,
    )  # fmt: skip
    _link(request, response, page.next_cursor)
    return ItemList(items=[item_out(item) for item in page.items], next_cursor=page.next_cursor)


@router.get("/{id}/items/{item}")
def get_item(id: str, item: str, db: Db, user: CurrentUser, response: Response) -> ItemOut:
    _, found = service.get_item(db, user, id, item)
    response.headers["ETag"] = item_etag(found)
    return item_out(found)


@router.patch("/{id}/items/{item}")
def set_label(
    id: str, item: str, body: ItemPatch, db: Db, user: Trainer, response: Response, if_match: IfMatch = None
) -> ItemOut:
    """Write the label. `If-Match` takes the set's ETag or the picture's `etag`."""
    dataset, changed = service.set_label(db, user, id, item, label=body.label, if_match=if_match)
    response.headers["ETag"] = dataset_etag(dataset)
    return item_out(changed)


@router.delete("/{id}/items/{item}", status_code=204)
def delete_item(id: str, item: str, db: Db, user: Trainer) -> None:
    service.delete_item(db, user, id, item)


@router.get("/{id}/items/{item}/file", response_class=Response)
def get_file(id: str, item: str, request: Request, db: Db, store: Store, user: CurrentUser) -> Response:
    """The picture or clip as it is trained on: PNG, JPEG, or MP4 with ranges."""
    _, found = service.get_item(db, user, id, item)
    kind = service.media_type(db, found)
    return send_blob(request, store, found.blob_sha256, name=found.name, media_type=kind, inline=True)


@router.get("/{id}/items/{item}/thumb", response_class=Response)
def get_thumb(id: str, item: str, request: Request, db: Db, store: Store, user: CurrentUser) -> Response:
    """At most 384 pixels a side, WebP; of a clip the first frame."""
    _, found = service.get_item(db, user, id, item)
    return send_blob(
        request, store, found.thumb_sha256, name="thumb.webp", media_type="image/webp", inline=True
    )


@router.get("/{id}/items/{item}/strip", response_class=Response)
def get_strip(id: str, item: str, request: Request, db: Db, store: Store, user: CurrentUser) -> Response:
    """Frames of a clip, evenly spaced in time, side by side in one WebP. 404 for pictures."""
    strip = service.get_strip(db, user, id, item)
    return send_blob(request, store, strip, name="strip.webp", media_type="image/webp", inline=True)


@router.get("/{id}/items/{item}/windows")
def get_windows(
    id: str, item: str, db: Db, user: CurrentUser, query: Annotated[WindowQuery, Query()]
) -> WindowsOut:
    """What a training would cut of this clip, at the rate and in the lengths of a family."""
    _, found = service.get_item(db, user, id, item)
    return windows_out(found, query)


@router.post("/{id}/labels")
def change_labels(id: str, body: LabelChange, db: Db, user: Trainer) -> LabelChanged:
    """One change of a tag in all pictures, or in those named."""
    changed, undo = service.change_labels(
        db, user, id, op=body.op, tag=body.tag, to=body.to or "", items=body.items
    )
    return LabelChanged(changed=changed, undo=undo)


@router.post("/{id}/labels/undo")
def undo_labels(id: str, body: Undo, db: Db, user: Trainer) -> Undone:
    """Take one change back; the last 50 can be."""
    return Undone(changed=service.undo_labels(db, user, id, undo=body.undo))


@router.get("/{id}/export", response_class=StreamingResponse)
def export_dataset(id: str, db: Db, store: Store, user: CurrentUser) -> StreamingResponse:
    """A zip of `000.png` + `000.txt` and so on."""
    dataset, pieces = service.export_zip(db, store, user, id)
    headers = {"Content-Disposition": content_disposition(f"{dataset.name}.zip"), "Cache-Control": "no-store"}
    return StreamingResponse(pieces, media_type="application/zip", headers=headers)


@router.post("/{id}/example", response_model=AddedOut)
def add_example_set(id: str, db: Db, store: Store, user: Trainer) -> AddedOut:
    """Fill a set of pictures with “Tuscan afternoon”: fifteen drawn ones with ten tags each."""
    media = service.get_dataset(db, user, id, edit=True).media
    db.close()
    return _report(id, add_example(store, user, id, media))
