"""Pages that make a model's page from a file: choose and upload it, then fill in the form.

Both steps work without scripts for files that one request may bring; larger ones need the page's script or
`bottega upload`.
"""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request, Response, UploadFile
from starlette.datastructures import UploadFile as SentFile

from app.accounts.deps import CurrentUser
from app.accounts.models import User
from app.core.errors import Conflict
from app.gallery import making, service, words
from app.gallery.models import Model, ModelVersion
from app.gallery.schemas import COMMERCIAL_USE, PageIn, VersionPageIn
from app.gallery.shapes import model_path
from app.gallery.standing import standing
from app.images.pages import RATINGS
from app.recognition.telling import rows, suggested_name
from app.uploads import service as uploads
from app.uploads.identify import MODELS, PICKLES
from app.web.deps import Db, Store
from app.web.forms import Attempt, attempt, checked
from app.web.templating import redirect, render

router = APIRouter(include_in_schema=False)
LISTS = ("commercial", "images")
PLAIN_BYTES = uploads.AT_ONCE_BYTES
"""The largest file of the plain form; it is put together and checked before the answer."""
PERMISSIONS = ("no_credit", "derivatives", "different_license")


async def read_values(request: Request) -> dict[str, Any]:
    """Text fields by name; those of LISTS as lists."""
    form = await request.form()
    single = {name: value for name, value in form.items() if isinstance(value, str)}
    many = {name: [v for v in form.getlist(name) if not isinstance(v, SentFile)] for name in LISTS}
    return single | many


Values = Annotated[dict[str, Any], Depends(read_values)]


@dataclass(frozen=True)
class Target:
    """What a file is for: a new page, a further version of `model`, or a further file of `version`."""

    model: Model | None = None
    version: ModelVersion | None = None

    @property
    def address(self) -> str:
        """Of the page that takes the file."""
        if self.model is None:
            return "/models/new"
        at = f"/models/{self.model.id}/versions"
        return f"{at}/{self.version.id}/files/new" if self.version else f"{at}/new"

    @property
    def back(self) -> str:
        return model_path(self.model, version=self.version) if self.model else ""


def target_of(db: Db, user: User, model_id: int | None, version_id: int | None = None) -> Target:
    """Errors: NotFound, Forbidden for what is not one's own."""
    if model_id is None:
        return Target()
    model = service.own_model(db, user, model_id)
    return Target(model, service.version_of(db, user, model_id, version_id) if version_id else None)


@router.get("/models/new")
def new_page(request: Request, db: Db, store: Store, user: CurrentUser, upload: str = "") -> Response:
    """Choose a file for a new page; with `upload`, a complete one, the form."""
    return _step(request, db, store, user, upload, Target())


@router.get("/models/{model_id:int}/versions/new")
def new_version(
    request: Request, db: Db, store: Store, user: CurrentUser, model_id: int, *, upload: str = ""
) -> Response:
    """The same for a further version of one's own page."""
    return _step(request, db, store, user, upload, target_of(db, user, model_id))


def _step(
    request: Request, db: Db, store: Store, user: User, upload: str, target: Target
) -> Response:  # fmt: skip
    if not upload:
        return chooser(request, db, user, target)
    try:
        look = making.look_at(db, store, user, upload)
    except Conflict:  # not complete yet: the list says what is missing
        return redirect(request, target.address)
    return _form(request, look, target)


def chooser(request: Request, db: Db, user: User, target: Target, error: str = "") -> Response:
    """Choose a file and send it."""
    return render(
        request, "gallery/new.html", model=target.model, version=target.version, address=target.address,
        error=error, endings=MODELS, pickles=PICKLES, plain_bytes=PLAIN_BYTES, back=target.back,
        unfinished=uploads.list_uploads(db, user, endings=MODELS), arrived=uploads.arrived_bytes,
        status=422 if error else 200,
    )  # fmt: skip


def _form(
    request: Request, look: making.Look, target: Target, tried: Attempt[ModelVersion] | None = None,
    values: dict[str, Any] | None = None,
) -> Response:  # fmt: skip
    seen, bases, model = look.seen, making.base_choices(look.seen), target.model
    shown = values or _prefilled(look, model)
    return render(
        request, "gallery/form.html", look=look, seen=seen, model=model, address=target.address,
        rows=rows(seen) if seen else [], file_words=words.file_words(seen) if seen else "",
        types=making.type_choices(seen), bases=bases, values=shown,
        standing=standing(seen, shown["base_model"], runs=seen.family is not None) if seen else None,
        errors=tried.errors if tried else {}, status=tried.status if tried else 200, type_words=words.TYPES,
        categories=words.CATEGORIES, licences=words.LICENCE_NAMES, ratings=RATINGS,
        base_licence=words.LICENCE_OF_BASE.get((seen.architecture if seen else None) or "", ""),
        back=target.back, twin_path=model_path(look.twin.model) if look.twin else "",
    )  # fmt: skip


def _prefilled(look: making.Look, model: Model | None) -> dict[str, Any]:
    seen = look.seen
    base = (seen.base_model if seen else None) or ""
    return {
        "name": suggested_name(look.upload.name, seen),
        "type": (seen.model_type if seen else None) or "", "base_model": base,
        "version_name": f"v{len(model.versions) + 1}" if model else "v1",
        "trained_words": ", ".join(seen.trained_words) if seen else "", "strength": "0.8", "clip_skip": "",
        "description": "", "about": "", "tags": "", "category": "", "rating": "1", "poi": "",
        "licence": "", "commercial": list(COMMERCIAL_USE), "images": [], "publish": "private",
        **dict.fromkeys(PERMISSIONS, "true"),
    }  # fmt: skip


@router.post("/models/new")
def create_page(request: Request, db: Db, store: Store, user: CurrentUser, sent: Values) -> Response:
    """Make the page of a complete upload."""
    look = making.look_at(db, store, user, sent.get("upload", ""))

    def make(db: Db) -> ModelVersion:
        return making.create_page(db, user, checked(PageIn, **_page(sent), **_version(sent)))

    return _made(request, look, Target(), attempt(db, make), sent)


@router.post("/models/{model_id:int}/versions/new")
def create_version(
    request: Request, db: Db, store: Store, user: CurrentUser, model_id: int, *, sent: Values
) -> Response:
    """Make a further version of a complete upload."""
    target = target_of(db, user, model_id)
    look = making.look_at(db, store, user, sent.get("upload", ""))

    def make(db: Db) -> ModelVersion:
        return making.create_version_page(db, user, model_id, checked(VersionPageIn, **_version(sent)))

    return _made(request, look, target, attempt(db, make), sent)


def _made(
    request: Request, look: making.Look, target: Target, tried: Attempt[ModelVersion],
    sent: dict[str, Any],
) -> Response:  # fmt: skip
    if tried.value is not None:
        return redirect(request, model_path(tried.value.model, version=tried.value))
    off = dict.fromkeys((*PERMISSIONS, "poi"), "")
    return _form(request, look, target, tried, _prefilled(look, target.model) | off | sent)


def _version(sent: dict[str, Any]) -> dict[str, Any]:
    """The form's fields as VersionPageIn names them; what is empty is left to the file."""
    names = ("version_name", "base_model", "strength", "clip_skip", "about", "publish")
    given = {name: sent[name] for name in names if sent.get(name)}
    trained = sent.get("trained_words", "").split(",")
    return given | {"upload": sent["upload"], "trained_words": trained, "images": sent["images"]}


def _page(sent: dict[str, Any]) -> dict[str, Any]:
    names = ("name", "type", "category", "description", "licence", "rating")
    given = {name: sent[name] for name in names if name in sent}
    if str(given.get("rating", "")).isdecimal():
        given["rating"] = int(given["rating"])
    ticked = {f"allow_{name}": bool(sent.get(name)) for name in PERMISSIONS}
    rest = {"allow_commercial_use": sent["commercial"], "poi": bool(sent.get("poi"))}
    return given | ticked | rest | {"tags": sent.get("tags", "").split(",")}


@router.post("/models/new/file", max_body_size=PLAIN_BYTES + (1 << 20))
def plain_upload(
    request: Request, db: Db, store: Store, user: CurrentUser,
    file: UploadFile, model_id: Annotated[int | None, Form()] = None,
    version_id: Annotated[int | None, Form()] = None,
) -> Response:  # fmt: skip
    """A file that comes whole, from a browser without scripts."""
    target = target_of(db, user, model_id, version_id)

    def keep(db: Db) -> str:
        with tempfile.TemporaryDirectory(prefix="bottega-form-") as folder:
            path = Path(folder) / "file"
            with path.open("wb") as out:
                shutil.copyfileobj(file.file, out, 1 << 20)
            return uploads.create_complete(db, store, user, name=file.filename or "", path=path).id

    tried = attempt(db, keep)
    if tried.value is None:
        return chooser(request, db, user, target, " ".join(tried.errors.values()))
    return redirect(request, f"{target.address}?upload={tried.value}")


@router.post("/models/new/uploads/{upload_id}/delete")
def throw_away(
    request: Request, db: Db, store: Store, user: CurrentUser, upload_id: str,
    model_id: Annotated[int | None, Form()] = None, version_id: Annotated[int | None, Form()] = None,
) -> Response:  # fmt: skip
    """End a session that is not wanted any more, and go back to choosing a file."""
    target = target_of(db, user, model_id, version_id)
    uploads.delete_upload(db, store, user, upload_id)
    return redirect(request, target.address)
