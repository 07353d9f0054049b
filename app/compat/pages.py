"""Pictures from a person's disk onto a model's page, for plain forms.

It stands here for the same reason as `pictures.py`: it joins pictures, their decoder and models.
"""

from typing import Annotated

from fastapi import APIRouter, File, Request, Response, UploadFile

from app.accounts.deps import CurrentUser
from app.core.errors import Invalid
from app.gallery import making, service
from app.gallery.shapes import model_path
from app.generation.adopt import adopt_picture
from app.web.deps import Db, Store
from app.web.templating import redirect

router = APIRouter(include_in_schema=False)
MAX_BODY = 256 << 20


@router.post("/models/{model_id:int}/versions/{version_id:int}/pictures", max_body_size=MAX_BODY)
def add_pictures(
    request: Request, db: Db, store: Store, user: CurrentUser, model_id: int, version_id: int,
    files: Annotated[list[UploadFile], File()],
) -> Response:  # fmt: skip
    """Several pictures at once; their generation data is read and shown with them."""
    version = service.version_of(db, user, model_id, version_id)
    sent = [file for file in files if file.filename]
    if not sent:
        raise Invalid("Choose at least one picture.")
    made = [adopt_picture(db, user, f.file, storage=store, name=f.filename or "") for f in sent]
    making.add_covers(db, user, version.id, [image.id for image in made])
    return redirect(request, model_path(version.model, version=version))
