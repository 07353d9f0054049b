"""REST: writing models and versions, files, reports. The compatible reads are `app.compat.civitai`."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import JSONResponse

from app.accounts.deps import AdminUser, CompatUser, OptionalUser, Scoped
from app.accounts.models import User
from app.gallery import files, further, making, reports, service
from app.gallery.schemas import (
    FileIn,
    ModelIn,
    ModelPatch,
    PicturesIn,
    PublishIn,
    ReportIn,
    ReportResolve,
    VersionIn,
    VersionPatch,
)
from app.gallery.shapes import model_out, version_out
from app.images import service as images
from app.images.sending import send_poster
from app.jobs import idempotency
from app.web.deps import Db, Store
from app.web.downloads import content_disposition, send_blob

router = APIRouter(tags=["models"])
Publisher = Annotated[User, Scoped("publish")]
Key = Annotated[str | None, Header(alias="Idempotency-Key", max_length=255)]


@router.post("/api/v1/models", status_code=201, response_model=None)
def create(
    request: Request, db: Db, user: Publisher, body: ModelIn, *, idempotency_key: Key = None
) -> Response:
    """A private model page. Add a version with a file, then publish it."""

    def make() -> idempotency.Answer:
        model = service.create_model(db, user, body)
        return idempotency.Answer(201, model_out(request, model, user), f"/api/v1/models/{model.id}")

    return idempotency.answer(db, user, "models", idempotency_key, body.model_dump(mode="json"), make)


@router.patch("/api/v1/models/{model_id}")
def change(
    request: Request, response: Response, db: Db, user: Publisher, model_id: int, *, body: ModelPatch,
    if_match: Annotated[str | None, Header()] = None,
) -> dict[str, Any]:  # fmt: skip
    """Change what is named. With `If-Match` only where nobody has changed it since: else 412."""
    model = service.set_model(db, user, model_id, body, if_match=if_match)
    response.headers["ETag"] = service.model_etag(model)
    return model_out(request, model, user)


@router.delete("/api/v1/models/{model_id}", status_code=204)
def remove(db: Db, user: Publisher, model_id: int) -> None:
    """Delete the model with its versions and free their files."""
    service.delete_model(db, user, model_id)


@router.post("/api/v1/models/{model_id}/versions", status_code=201, response_model=None)
def add_version(
    request: Request, db: Db, user: Publisher, model_id: int, body: VersionIn, *, idempotency_key: Key = None
) -> Response:
    """A draft version, with the file of a complete upload where one is named."""

    def make() -> idempotency.Answer:
        version = service.create_version(db, user, model_id, body)
        place = f"/api/v1/model-versions/{version.id}"
        return idempotency.Answer(201, version_out(request, version, user), place)

    sent = body.model_dump(mode="json") | {"model": model_id}
    return idempotency.answer(db, user, "versions", idempotency_key, sent, make)


@router.patch("/api/v1/model-versions/{version_id}")
def change_version(
    request: Request, db: Db, user: Publisher, version_id: int, body: VersionPatch
) -> dict[str, Any]:
    return version_out(request, service.set_version(db, user, version_id, body), user)


@router.patch("/api/v1/models/{model_id}/versions/{version_id}")
def change_version_of(
    request: Request, db: Db, user: Publisher, model_id: int, version_id: int, body: VersionPatch
) -> dict[str, Any]:
    service.version_of(db, user, model_id, version_id)
    return version_out(request, service.set_version(db, user, version_id, body), user)


@router.post("/api/v1/model-versions/{version_id}/pictures", status_code=201)
def add_pictures(
    request: Request, db: Db, user: Publisher, version_id: int, body: PicturesIn
) -> dict[str, Any]:
    """Put one's own pictures on the page: send them to POST /api/v1/images first, then name their ids."""
    return version_out(request, making.add_covers(db, user, version_id, body.images), user)


@router.post("/api/v1/model-versions/{version_id}/files", status_code=201, response_model=None)
def add_file(
    request: Request, db: Db, user: Publisher, version_id: int, body: FileIn, *, idempotency_key: Key = None
) -> Response:
    """A further file of the version from a complete upload: a second network, a VAE, a text encoder."""

    def make() -> idempotency.Answer:
        version = further.add_further(db, user, version_id, body).version
        place = f"/api/v1/model-versions/{version.id}"
        return idempotency.Answer(201, version_out(request, version, user), place)

    sent = body.model_dump(mode="json") | {"version": version_id}
    return idempotency.answer(db, user, "files", idempotency_key, sent, make)


@router.delete("/api/v1/model-versions/{version_id}/files/{file_id}", status_code=204)
def remove_file(db: Db, user: Publisher, version_id: int, file_id: int) -> None:
    """Take a further file out of the version; the primary one goes only with it."""
    further.remove_file(db, user, version_id, file_id)


@router.delete("/api/v1/model-versions/{version_id}", status_code=204)
def remove_version(db: Db, user: Publisher, version_id: int) -> None:
    service.delete_version(db, user, version_id)


@router.delete("/api/v1/models/{model_id}/versions/{version_id}", status_code=204)
def remove_version_of(db: Db, user: Publisher, model_id: int, version_id: int) -> None:
    service.version_of(db, user, model_id, version_id)
    service.delete_version(db, user, version_id)


@router.post("/api/v1/models/{model_id}/publish")
def publish(
    request: Request, db: Db, user: Publisher, model_id: int, body: PublishIn | None = None
) -> dict[str, Any]:
    """Publish all drafts that have a file, or the one named; public unless `visibility` says unlisted."""
    return model_out(request, service.publish_model(db, user, model_id, body or PublishIn()), user)


@router.post("/api/v1/models/{model_id}/unpublish")
def unpublish(request: Request, db: Db, user: Publisher, model_id: int) -> dict[str, Any]:
    """Make the model private again; its links are dead at once."""
    return model_out(request, service.set_visibility(db, user, model_id, "private"), user)


@router.post("/api/v1/models/{model_id}/key")
def renew_key(request: Request, db: Db, user: Publisher, model_id: int) -> dict[str, Any]:
    """A new link for an unlisted model; the old one is dead at once."""
    return model_out(request, service.renew_key(db, user, model_id), user)


@router.head("/files/{file_id}/{name}", include_in_schema=False)
@router.get("/files/{file_id}/{name}", include_in_schema=False, response_class=Response)
def file(
    request: Request,
    db: Db,
    store: Store,
    viewer: CompatUser,
    file_id: int,
    key: str | None = None,
) -> Response:
    """The bytes of a file, with ranges. `name` is only there for programs that name files by the address."""
    found = files.get_file(db, viewer, file_id, key=key)
    return send_blob(request, store, found.blob_sha256, name=found.name)


@router.get("/files/{file_id}/sidecar/{name}", include_in_schema=False)
def sidecar(db: Db, viewer: CompatUser, file_id: int, key: str | None = None) -> Response:
    """The .json that A1111, Forge and InvokeAI read beside a LoRA: trigger words, strength, notes."""
    found = files.get_file(db, viewer, file_id, key=key)
    headers = {"Content-Disposition": content_disposition(f"{files.stem(found)}.json")}
    return JSONResponse(files.sidecar(found), headers=headers)


@router.head("/files/{file_id}/preview/{name}", include_in_schema=False)
@router.get("/files/{file_id}/preview/{name}", include_in_schema=False, response_class=Response)
def preview(
    request: Request,
    db: Db,
    store: Store,
    viewer: CompatUser,
    file_id: int,
    key: str | None = None,
) -> Response:
    """The first picture of the version, named as those programs look for it."""
    found = files.get_file(db, viewer, file_id, key=key)
    image = files.preview_image(found, viewer)
    plain = images.is_sent_plain(db, viewer, image)
    name = f"{files.stem(found)}.preview.png"
    return send_poster(request, store, image, plain=plain, attachment=True, name=name)


@router.post("/api/v1/reports", status_code=201, tags=["reports"])
def report(db: Db, viewer: OptionalUser, body: ReportIn) -> dict[str, Any]:
    """Say that something public must not be here. Needs no login."""
    return reports.report_out(reports.create_report(db, viewer, body))


@router.get("/api/v1/reports", tags=["reports"])
def list_reports(db: Db, admin: AdminUser, status: str = "open") -> dict[str, Any]:
    rows = reports.list_reports(db, admin, status=status)
    return {"items": [reports.report_out(row) for row in rows]}


@router.post("/api/v1/reports/{report_id}/resolve", tags=["reports"])
def resolve(db: Db, admin: AdminUser, report_id: int, body: ReportResolve) -> dict[str, Any]:
    """Take down, dismiss, or bring back what was taken down."""
    return reports.report_out(
        reports.resolve_report(db, admin, report_id, action=body.action, note=body.note)
    )
