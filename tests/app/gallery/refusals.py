"""Who may use the routes of models, files and reports, and of the compatible reads."""

import io
from typing import Any

from PIL import Image

from app.core.db import utcnow
from app.gallery import service
from app.gallery.models import ModelVersion
from app.images.service import create_sample
from app.uploads.models import Upload
from tests.app.gallery.test_recognised import SD1
from tests.app.gallery.things import published, trained
from tests.app.refusals import World, row
from tests.factories import make_blob, make_file, make_image


def a_draft(world: World) -> dict[str, Any]:
    version = trained(world.db, world.owner)
    blob = make_blob(world.db, b"cover", "image/png")
    cover = create_sample(world.db, world.owner, blob=blob, prompt="p", width=8, height=8)
    service.add_picture(world.db, version, cover, 0)
    file = version.files[0]
    return {
        "model_id": version.model_id, "version_id": version.id, "file_id": file.id, "image_id": cover.id,
        "name": file.name, "slug": "tuscany", "digits": file.blob_sha256,
    }  # fmt: skip


def an_author(world: World) -> dict[str, Any]:
    """Who has published nothing is told of to nobody."""
    a_draft(world)
    return {"user_id": world.owner.id}


def an_upload(world: World) -> dict[str, Any]:
    """A complete one whose number the rows can name."""
    blob = make_blob(world.db, SD1)
    upload = Upload(
        id="up_1", state="complete", blob_sha256=blob.sha256, user_id=world.owner.id, name="m.safetensors",
        size=blob.size, part_size=1, expires_at=utcnow(),
    )  # fmt: skip
    world.db.add(upload)
    return a_draft(world) | {"upload_id": "up_1"}


def a_cover(world: World) -> dict[str, Any]:
    """A picture of the owner's whose number the row can name."""
    make_image(world.db, world.owner, id=4711)
    return a_draft(world)


def a_png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (80, 96)).save(out, "PNG")
    return out.getvalue()


def an_unlisted_model(world: World) -> dict[str, Any]:
    return {"model_id": published(world.db, world.owner, "unlisted").id}


def a_report(world: World) -> dict[str, Any]:
    from app.gallery.reports import create_report
    from app.gallery.schemas import ReportIn

    image = make_image(world.db, world.other, visibility="public")
    body = ReportIn(kind="image", id=image.id, reason="spam")
    return {"report_id": create_report(world.db, None, body).id}


def a_second_file(world: World) -> dict[str, Any]:
    """A version with two files, and an upload that may become a third."""
    params = an_upload(world)
    version = world.db.get_one(ModelVersion, params["version_id"])
    version.base_model = "SD 1.5"
    file = make_file(world.db, version, b"second", is_primary=False)
    world.db.expire(version, ["files"])
    return params | {"file_id": file.id}


MODEL, PAGE = "/api/v1/models/{model_id}", "/models/{model_id:int}"
VERSION, VERSION_PAGE = f"{MODEL}/versions/{{version_id}}", f"{PAGE}/versions/{{version_id:int}}"
ALONE = "/api/v1/model-versions/{version_id}"
FORM = {"upload": "up_1", "name": "x", "type": "LORA", "base_model": "SD 1.5", "version_name": "v2"}
ROWS = [
    row("GET", "/models/new", anonymous=303, other=200, owner=200),
    row("POST", "/models/new", anonymous=401, other=404, owner=303, make=an_upload, data=FORM),
    row("GET", f"{PAGE}/versions/new", anonymous=303, other=404, owner=200, make=a_draft),
    row("POST", f"{PAGE}/versions/new", anonymous=401, other=404, owner=303, make=an_upload, data=FORM),
    row("POST", "/models/new/file", anonymous=401, other=303, owner=303,
        files={"file": ("m.safetensors", SD1)}),
    row("POST", "/models/new/uploads/{upload_id}/delete", anonymous=401, other=404, owner=303,
        make=an_upload),
    row("GET", f"{VERSION_PAGE}/files/new", anonymous=303, other=404, owner=200, make=a_draft),
    row("POST", f"{VERSION_PAGE}/files/new", anonymous=401, other=404, owner=303, make=a_second_file,
        data={"upload": "up_1"}),
    row("POST", f"{VERSION_PAGE}/files/{{file_id:int}}/remove", anonymous=401, other=404, owner=303,
        make=a_second_file),
    row("POST", f"{ALONE}/files", anonymous=401, other=404, owner=201, make=a_second_file,
        json={"upload": "up_1"}),
    row("DELETE", f"{ALONE}/files/{{file_id}}", anonymous=401, other=404, owner=204, make=a_second_file),
    row("POST", f"{VERSION_PAGE}/pictures", anonymous=401, other=404, owner=303, make=a_draft,
        files={"files": ("a.png", a_png())}),
    row("POST", f"{ALONE}/pictures", anonymous=401, other=404, owner=201, make=a_cover,
        json={"images": [4711]}),
    row("POST", "/api/v1/models", anonymous=401, other=201, owner=201, json={"name": "x", "type": "LORA"}),
    row("PATCH", MODEL, anonymous=401, other=404, owner=200, make=a_draft, json={"name": "y"}),
    row("DELETE", MODEL, anonymous=401, other=404, owner=204, make=a_draft),
    row("POST", f"{MODEL}/versions", anonymous=401, other=404, owner=201, make=a_draft,
        json={"name": "v2", "base_model": "Starter 1"}),
    row("PATCH", ALONE, anonymous=401, other=404, owner=200, make=a_draft, json={"name": "y"}),
    row("DELETE", ALONE, anonymous=401, other=404, owner=204, make=a_draft),
    row("PATCH", VERSION, anonymous=401, other=404, owner=200, make=a_draft, json={"name": "y"}),
    row("DELETE", VERSION, anonymous=401, other=404, owner=204, make=a_draft),
    row("POST", f"{MODEL}/publish", anonymous=401, other=404, owner=200, make=a_draft,
        json={"visibility": "unlisted"}),
    row("POST", f"{MODEL}/unpublish", anonymous=401, other=404, owner=200, make=a_draft),
    row("POST", f"{MODEL}/key", anonymous=401, other=404, owner=200, make=an_unlisted_model),
    row("GET", "/files/{file_id}/{name}", anonymous=404, other=404, owner=200, make=a_draft),
    row("GET", "/files/{file_id}/sidecar/{name}", anonymous=404, other=404, owner=200, make=a_draft),
    row("GET", "/files/{file_id}/preview/{name}", anonymous=404, other=404, owner=200, make=a_draft),
    row("POST", "/api/v1/reports", anonymous=404, other=404, owner=404, public_write=True,
        json={"kind": "model", "id": 999999, "reason": "spam"}),
    row("GET", "/api/v1/reports", anonymous=401, other=403, owner=200, as_admin=True),
    row("POST", "/api/v1/reports/{report_id}/resolve", anonymous=401, other=403, owner=200, as_admin=True,
        make=a_report, json={"action": "take-down"}),
    row("GET", "/", anonymous=200, other=200, owner=200),
    row("GET", "/models", anonymous=200, other=200, owner=200),
    row("GET", "/model-versions/{version_id:int}", anonymous=404, other=404, owner=302, make=a_draft),
    row("GET", PAGE, anonymous=404, other=404, owner=302, make=a_draft),
    row("GET", f"{PAGE}/{{slug}}", anonymous=404, other=404, owner=200, make=a_draft),
    row("GET", f"{PAGE}/edit", anonymous=303, other=404, owner=200, make=a_draft),
    row("POST", f"{PAGE}/edit", anonymous=401, other=404, owner=303, make=a_draft, data={"name": "y"}),
    row("POST", f"{PAGE}/visibility", anonymous=401, other=404, owner=303, make=a_draft,
        data={"visibility": "public"}),
    row("POST", f"{PAGE}/key", anonymous=401, other=404, owner=303, make=an_unlisted_model),
    row("POST", f"{PAGE}/delete", anonymous=401, other=404, owner=303, make=a_draft),
    row("POST", f"{VERSION_PAGE}/edit", anonymous=401, other=404, owner=303, make=a_draft,
        data={"name": "y"}),
    row("POST", f"{VERSION_PAGE}/publish", anonymous=401, other=404, owner=303, make=a_draft),
    row("POST", f"{VERSION_PAGE}/delete", anonymous=401, other=404, owner=303, make=a_draft),
    row("POST", f"{VERSION_PAGE}/pictures/{{image_id:int}}/remove", anonymous=401, other=404, owner=303,
        make=a_draft),
    row("GET", "/report", anonymous=404, other=404, owner=404, params={"kind": "model", "id": 999999}),
    row("POST", "/report", anonymous=404, other=404, owner=404,
        data={"kind": "model", "id": 999999, "reason": "spam"}),
    row("GET", "/api/v1/models", anonymous=200, other=200, owner=200),
    row("GET", MODEL, anonymous=404, other=404, owner=200, make=a_draft),
    row("GET", ALONE, anonymous=404, other=404, owner=200, make=a_draft),
    row("GET", "/api/v1/model-versions/by-hash/{digits}", anonymous=404, other=404, owner=200, make=a_draft),
    row("POST", "/api/v1/model-versions/by-hash", anonymous=200, other=200, owner=200, public_write=True,
        json=[]),
    row("POST", "/api/v1/model-versions/by-hash/ids", anonymous=200, other=200, owner=200, public_write=True,
        json=[]),
    row("GET", "/api/v1/model-versions/mini/{version_id}", anonymous=404, other=404, owner=200, make=a_draft),
    row("GET", "/api/v1/users", anonymous=200, other=200, owner=200),
    row("GET", "/api/v1/users/{user_id}", anonymous=404, other=404, owner=404, make=an_author),
    row("GET", "/api/v1/enums", anonymous=200, other=200, owner=200),
    row("GET", "/api/v1/permissions/check", anonymous=200, other=200, owner=200),
    row("GET", "/api/v1/images", anonymous=401, other=200, owner=200, params={"mine": "true"}),
    row("POST", "/api/v1/images", anonymous=401, other=422, owner=422, data={"title": "x"}),
    row("GET", "/api/v1/tags", anonymous=200, other=200, owner=200),
    row("GET", "/api/v1/creators", anonymous=200, other=200, owner=200),
    row("GET", "/api/download/models/{version_id}", anonymous=404, other=404, owner=307, make=a_draft),
]  # fmt: skip
