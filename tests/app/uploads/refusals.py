"""Who may use the routes of uploads."""

from typing import Any

from app.core.storage import get_storage
from app.uploads.models import UploadPart
from app.uploads.service import create_upload, part_key
from tests.app.refusals import World, row

API = "/api/v1/uploads"


def an_upload(world: World) -> dict[str, Any]:
    upload = create_upload(world.db, get_storage(), world.owner, name="a.zip", size=4)
    return {"id": upload.id, "number": 1}


def a_whole_one(world: World) -> dict[str, Any]:
    ids = an_upload(world)
    get_storage().put(part_key(ids["id"], 1), b"1234")
    world.db.add(UploadPart(upload_id=ids["id"], number=1, size=4))
    world.db.flush()
    return ids


OWN = {"anonymous": 401, "other": 404}
ROWS = [
    row("POST", API, anonymous=401, other=201, owner=201, json={"name": "a.zip", "size": 4}),
    row("GET", API, anonymous=401, other=200, owner=200),
    row("GET", API + "/{id}", **OWN, owner=200, make=an_upload),
    row("PUT", API + "/{id}/parts/{number}", **OWN, owner=204, make=an_upload, content=b"1234"),
    row("POST", API + "/{id}/complete", **OWN, owner=202, make=a_whole_one),
    row("DELETE", API + "/{id}", **OWN, owner=204, make=an_upload),
]
