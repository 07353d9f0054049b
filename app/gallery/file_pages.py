"""Pages that put a further file into a version, and take it out again.

The file is chosen and uploaded as that of a new page is; then it is told what it would be to the version.
"""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from app.accounts.deps import CurrentUser
from app.core.errors import AppError, Conflict
from app.gallery import further, making, words
from app.gallery.making_pages import Target, chooser, target_of
from app.gallery.matching import has_experts
from app.gallery.models import ModelFile, ModelVersion
from app.gallery.schemas import FileIn
from app.recognition.telling import rows
from app.web.deps import Db, Store
from app.web.forms import Attempt, attempt, checked
from app.web.templating import redirect, render

router = APIRouter(include_in_schema=False)
AT = "/models/{model_id:int}/versions/{version_id:int}/files"
_ROLES = {
    "VAE": "It becomes the VAE of this version, and is taken wherever the version is used.",
    "Text Encoder": "It becomes the text encoder of this version, and is taken wherever the version is used.",
}


@dataclass(frozen=True)
class Role:
    """What the file would be to the version, in a sentence, or in `refusal` why it cannot be added.

    `asks`: its owner has to say for which noise it is.
    """

    words: str = ""
    refusal: str = ""
    asks: bool = False


def role_of(version: ModelVersion, look: making.Look) -> Role:
    if look.refusal:
        return Role(refusal=look.refusal)
    try:
        further.refuse_twice(version, look.upload.blob_sha256 or "")
        place = further.place_of(version, look.seen, look.upload.name)
    except AppError as error:
        if error.code == "noise-unknown":
            return Role("It becomes the second network of this version.", asks=True)
        return Role(refusal=error.detail)
    if not version.files:
        return Role("It becomes the file of this version.")
    if place.noise:
        return Role(f"It becomes the network for {place.noise} noise of this version.")
    return Role(_ROLES.get(place.type, "It is offered beside the file that the version has."))


@router.get(f"{AT}/new")
def new_file(
    request: Request, db: Db, store: Store, user: CurrentUser, model_id: int, version_id: int, *,
    upload: str = "",
) -> Response:  # fmt: skip
    """Choose a file; with `upload`, a complete one, what it would be to the version."""
    target = target_of(db, user, model_id, version_id)
    if not upload:
        return chooser(request, db, user, target)
    try:
        return _form(request, target, making.look_at(db, store, user, upload))
    except Conflict:  # not complete yet: the list says what is missing
        return redirect(request, target.address)


def _form(
    request: Request, target: Target, look: making.Look, tried: Attempt[ModelFile] | None = None
) -> Response:
    version, seen = target.version, look.seen
    assert version is not None
    return render(
        request, "gallery/file.html", model=target.model, version=version, look=look, seen=seen,
        role=role_of(version, look), two=has_experts(version), rows=rows(seen) if seen else [],
        file_words=words.file_words(seen) if seen else "", address=target.address, back=target.back,
        errors=tried.errors if tried else {}, status=tried.status if tried else 200,
    )  # fmt: skip


@router.post(f"{AT}/new")
def add_file(
    request: Request, db: Db, store: Store, user: CurrentUser, model_id: int, version_id: int, *,
    upload: Annotated[str, Form(max_length=40)], noise: Annotated[str, Form(max_length=10)] = "",
) -> Response:  # fmt: skip
    """Put the file of a complete upload into the version."""
    target = target_of(db, user, model_id, version_id)
    look = making.look_at(db, store, user, upload)

    def add(db: Db) -> ModelFile:
        return further.add_further(db, user, version_id, checked(FileIn, upload=upload, noise=noise or None))

    tried = attempt(db, add)
    return redirect(request, target.back) if tried.value else _form(request, target, look, tried)


@router.post(f"{AT}/{{file_id:int}}/remove")
def remove_file(
    request: Request, db: Db, user: CurrentUser, model_id: int, version_id: int, file_id: int
) -> Response:
    """Take a further file out of the version."""
    target = target_of(db, user, model_id, version_id)
    further.remove_file(db, user, version_id, file_id)
    return redirect(request, target.back)
