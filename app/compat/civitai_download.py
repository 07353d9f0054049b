"""GET /api/download/models/:id: 307 to the file, as Civitai leads to its storage."""

from typing import Annotated
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from app.accounts.deps import CompatReader
from app.accounts.models import User
from app.compat.answers import CivitaiRoute
from app.compat.query import Query, path_id
from app.gallery import files
from app.gallery.models import ModelFile
from app.web.deps import Db
from app.web.links import origin

router = APIRouter(tags=["civitai"], route_class=CivitaiRoute)
NO_STORE = {"Cache-Control": "no-store, max-age=0"}


@router.head("/api/download/models/{version_id}", include_in_schema=False)
@router.get("/api/download/models/{version_id}", response_class=Response)
def download(
    request: Request, db: Db, viewer: Annotated[User | None, CompatReader], version_id: str
) -> Response:
    """307 to the file. `type`, `format`, `size`, `fp` choose among several; a token opens private ones."""
    query = Query(request)
    key = query.text("key") or None
    version = files.get_version_to_download(db, viewer, path_id(version_id), key=key)
    wanted = files.Wanted(
        query.text("type"),
        query.text("format"),
        query.text("size"),
        query.text("fp"),
        query.integer("fileId"),
    )
    file = files.choose_file(version.files, wanted)
    if request.method == "GET":
        files.count_download(db, viewer, file, request.client.host if request.client else "")
    return RedirectResponse(_place(request, query, file), 307, headers=NO_STORE)


def _place(request: Request, query: Query, file: ModelFile) -> str:
    """Where the bytes are. Programs read the name of the file out of `response-content-disposition`."""
    plain = file.name.replace('"', "_").replace("\\", "_")
    words = {name: value for name in ("token", "key") if (value := query.text(name))}
    words["response-content-disposition"] = f'attachment; filename="{plain}"'
    address = f"{origin(request)}/files/{file.id}/{quote(file.name, safe='')}"
    return f"{address}?{urlencode(words, quote_via=quote)}"
