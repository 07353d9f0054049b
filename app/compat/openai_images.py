"""OpenAI's picture routes: draw from words, or from a picture and a mask; answer when it is done.

A `url` is signed and works for about an hour without a token; the picture stays private.
"""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Request, Response, UploadFile
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session

from app.accounts import signatures
from app.accounts.deps import CompatScoped, LenientlyIdentified
from app.accounts.models import User
from app.compat.a1111_drawing import encoded, size_like
from app.compat.holding import Held, labels_of
from app.compat.openai_answers import OpenAIRoute, refusal
from app.compat.openai_fields import PicturesIn, fields_of
from app.compat.openai_models import find_model
from app.contract.jobs import GenerateJob
from app.core.blobs import blob_key
from app.core.errors import Conflict, FieldError, Invalid, NotFound
from app.core.storage import Storage
from app.generation import service
from app.generation.masks import has_holes, keep_mask
from app.generation.schemas import GenerationIn
from app.generation.sources import at_field, keep_picture
from app.images import service as images
from app.images.models import Image
from app.images.sending import send_image
from app.jobs.models import Job
from app.web.deps import Db, Store
from app.web.forms import checked
from app.web.links import origin

router = APIRouter(prefix="/v1/images", tags=["openai"], route_class=OpenAIRoute)
FACE = "openai"
MAX_BODY = 64 << 20
LINK_SECONDS = 3600
Maker = Annotated[User, CompatScoped("generate")]


@router.post("/generations", response_model=None)
def generate(
    request: Request, db: Db, store: Store, user: Maker, identity: LenientlyIdentified, wanted: PicturesIn
) -> Response:
    """Draw `n` pictures. 504 with the job's address in `Location` where it takes too long."""
    return _draw(request, db, store, user, identity, wanted, {})


async def read_fields(request: Request) -> dict[str, Any]:
    """The text fields of a form; of lists of objects as OpenAI's clients write them, `loras[][name]`."""
    form = await request.form()
    fields: dict[str, Any] = {name: value for name, value in form.items() if isinstance(value, str)}
    columns = {key: form.getlist(f"loras[][{key}]") for key in ("model_version_id", "name", "weight")}
    filled = {key: values for key, values in columns.items() if values}
    if filled:
        if len({len(values) for values in filled.values()}) > 1:
            words = "say the same of every LoRA, or send loras as JSON in a text"
            raise Invalid(f"Please correct: {words}.", [FieldError("#/loras", words, "incomplete")])
        fields["loras"] = [dict(zip(filled, row, strict=True)) for row in zip(*filled.values(), strict=True)]
    elif names := form.getlist("loras[]"):
        fields["loras"] = names
    return fields


@router.post("/edits", response_model=None, max_body_size=MAX_BODY)
def edit(
    request: Request, db: Db, store: Store, user: Maker, identity: LenientlyIdentified,
    fields: Annotated[dict[str, Any], Depends(read_fields)],
    image: Annotated[list[UploadFile] | None, File()] = None,
    images: Annotated[list[UploadFile] | None, File(alias="image[]")] = None,
    mask: Annotated[UploadFile | None, File()] = None,
) -> Response:  # fmt: skip
    """Draw from a picture. Where the mask, or the picture itself, is transparent, it is drawn anew."""
    wanted = checked(PicturesIn, **fields)
    start = _start(db, user, [*(image or []), *(images or [])], mask)
    return _draw(request, db, store, user, identity, wanted, start)


def _start(db: Session, user: User, sent: list[UploadFile], mask: UploadFile | None) -> dict[str, Any]:
    """The picture and the mask, kept. Errors: Invalid that names the field."""
    if len(sent) != 1:
        words = "send one picture as image"
        raise Invalid(f"Please correct: {words}.", [FieldError("#/image", words, "missing")])
    with at_field("#/image"):
        upload = keep_picture(db, user, sent[0].file, name=sent[0].filename or "")
        sent[0].file.seek(0)
        holes = sent[0].file.read()
        holes = holes if mask is None and has_holes(holes) else b""
    cut = mask.file.read() if mask is not None else holes
    if not cut:
        return {"init_image": upload.id}
    with at_field("#/mask"):
        return {"init_image": upload.id, "mask": {"upload": keep_mask(db, user, cut, drawn="clear").id}}


def _draw(
    request: Request, db: Session, store: Storage, user: User, identity: LenientlyIdentified,
    wanted: PicturesIn, start: dict[str, Any],
) -> Response:  # fmt: skip
    model = find_model(db, user, identity, wanted.model)
    fields = fields_of(db, user, wanted) | start | {"model_version_id": model.version_id}
    if start and wanted.strength is not None:
        fields["denoise"] = wanted.strength
    if start and "width" not in fields:
        fields |= size_like(db, user, start["init_image"], model.family or "")
    body = checked(GenerationIn, **fields)
    job = service.start_generation(db, user, body, labels=labels_of(FACE, identity))

    def finish(db: Session, job: Job, pictures: list[Image]) -> Response:
        return _answer(request, db, store, wanted, job, pictures)

    return Held(request, job, finish, refusal)


def _answer(
    request: Request, db: Session, store: Storage, wanted: PicturesIn, job: Job, pictures: list[Image]
) -> Response:
    if not pictures:
        raise Conflict("The drawing was stopped before a picture was done.", code="job-canceled")
    payload = GenerateJob.model_validate(job.payload)
    if wanted.response_format == "b64_json":
        data = [{"b64_json": encoded(store.get(blob_key(image.blob_sha256)))} for image in pictures]
    else:
        signer = signatures.make_signer(db, job.user_id, lifetime=LINK_SECONDS)
        place = f"{origin(request)}/v1/images"
        data = [{"url": f"{place}/{image.id}/file?{signer.query(_words(image.id))}"} for image in pictures]
    body = {
        "created": int(time.time()),
        "data": data,
        "output_format": "png",
        "size": f"{payload.width}x{payload.height}",
        "seeds": [payload.seeds[image.job_index or 0] for image in pictures],
        "warnings": [note["detail"] for note in job.input.get("warnings") or []],
    }
    return JSONResponse(body, headers={"X-Job-Id": job.id})


def _words(image_id: int) -> str:
    return f"picture {image_id}"


@router.head("/{image_id}/file", include_in_schema=False)
@router.get("/{image_id}/file", response_class=Response)
def file(
    request: Request, db: Db, store: Store, image_id: int, user: int = 0, until: int = 0, sig: str = ""
) -> Response:
    """The picture behind a signed `url`."""
    owner = signatures.find_signer(db, _words(image_id), user, until, sig)
    if owner is None:
        raise NotFound("This address has expired, or there is no such picture.")
    image = images.get_image(db, owner, image_id)
    response = send_image(request, store, image, plain=images.is_sent_plain(db, owner, image))
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"  # programs show it on pages of theirs
    return response
