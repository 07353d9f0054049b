"""Pages of models: the gallery, the model page with its owner's forms, reports."""

from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import APIRouter, Form, Request, Response
from starlette.responses import RedirectResponse

from app.accounts.deps import CurrentUser, OptionalUser
from app.accounts.models import User
from app.gallery import file_pages, making, making_pages, queries, reports, service, words
from app.gallery.cards import cards_of
from app.gallery.listing import ModelFilters, list_ids
from app.gallery.matching import recognised
from app.gallery.models import Model, ModelVersion
from app.gallery.permissions import can_edit_model, can_view_version
from app.gallery.refs import LORA_TYPES, lacks
from app.gallery.schemas import COMMERCIAL_USE, REASONS, ModelPatch, ReportIn, VersionPatch
from app.gallery.shapes import download_path, model_path, shown_hashes, version_pictures
from app.gallery.standing import standing_of
from app.gallery.whole import view_model
from app.images.pages import PERIODS, RATINGS
from app.images.permissions import browsing_level
from app.images.queries import ImageFilters, list_images
from app.images.rows import TILES
from app.images.schemas import Visibility
from app.recognition.telling import rows
from app.web.deps import Db
from app.web.forms import checked
from app.web.kept import for_everybody
from app.web.links import origin, with_query
from app.web.templating import is_htmx, redirect, render

router = APIRouter(include_in_schema=False)
router.include_router(making_pages.router)
router.include_router(file_pages.router)
SORTS = (
    ("newest", "Newest"),
    ("downloads", "Most downloaded"),
    ("pictures", "Most pictures"),
    ("oldest", "Oldest"),
)


@router.get("/")
@router.get("/models")
@for_everybody
def gallery(
    request: Request, db: Db, viewer: OptionalUser,
    query: str = "", tag: str = "", username: str = "", type: str = "", base: str = "", category: str = "",
    period: str = "AllTime", sort: str = "newest", trained: bool = False, cursor: str | None = None,
) -> Response:  # fmt: skip
    """Models that people have published; with one's own name in `username` the drafts too."""
    own = viewer is not None and username.lower() == viewer.username.lower()
    filters = ModelFilters(
        query=query, tag=tag, username=username, types=[type] if type else [],
        base_models=[base] if base else [],
        category=category, period=period, level=browsing_level(viewer), trained_here=trained, own=own,
    )  # fmt: skip
    page = list_ids(db, viewer, filters, sort=sort, cursor=cursor, limit=30)
    more = with_query(request, cursor=page.next_cursor) if page.next_cursor else ""
    return render(
        request, "gallery/index.html", block="cards" if is_htmx(request) and cursor else None,
        cards=cards_of(db, viewer, page.items), more=more, filters=filters, sort=sort, period=period, own=own,
        facets=queries.list_facets(db) if not cursor else {}, sorts=SORTS, periods=PERIODS,
        words=words, path_of=model_path,
        link=lambda **q: with_query(request, cursor=None, **q),
        filtered=any((query, tag, username, type, base, category, trained, period != "AllTime")),
    )  # fmt: skip


@router.get("/model-versions/{version_id:int}")
def show_version(db: Db, viewer: OptionalUser, version_id: int) -> Response:
    """From a version's number to its page."""
    version = service.get_version(db, viewer, version_id)
    return RedirectResponse(model_path(version.model, version=version), 302)


@router.get("/models/{model_id:int}/edit")
def edit_form(request: Request, db: Db, user: CurrentUser, model_id: int) -> Response:
    return _edit_page(request, service.own_model(db, user, model_id))


def _edit_page(request: Request, model: Model) -> Response:
    return render(
        request, "gallery/edit.html", model=model, categories=words.CATEGORIES, ratings=RATINGS,
        uses=COMMERCIAL_USE, path_of=model_path, bases_of=making.version_bases, part_words=words.part_words,
    )  # fmt: skip


@router.get("/models/{model_id:int}")
@router.get("/models/{model_id:int}/{slug}")
@for_everybody
def show(
    request: Request, db: Db, viewer: OptionalUser, model_id: int,
    version: int | None = None, key: str | None = None,
) -> Response:  # fmt: skip
    """The model page; another or no slug goes to the right address."""
    model = view_model(db, viewer, model_id, key=key)
    right = model_path(model)
    if unquote(request.url.path) != unquote(right):
        return RedirectResponse(f"{right}?{request.url.query}".rstrip("?"), 302)
    return _page(request, db, viewer, model, version=version, key=key)


def _page(
    request: Request, db: Db, viewer: User | None, model: Model, *, version: int | None, key: str | None
) -> Response:
    mine = can_edit_model(model, viewer)
    versions = [v for v in model.versions if can_view_version(v, viewer, key)]
    chosen = next((v for v in versions if v.id == version), versions[0] if versions else None)
    made = ImageFilters(version_ids=[v.id for v in model.versions], level=browsing_level(viewer))
    return render(
        request, "gallery/show.html", model=model, version=chosen, versions=versions, mine=mine, key=key,
        pictures=version_pictures(chosen, viewer) if chosen else [],
        primary=service.primary_file(chosen) if chosen else None,
        made_with=list_images(db, viewer, made, limit=18, extent=TILES).items if versions else [],
        share_url=origin(request) + model_path(model, with_key=True) if mine else "",
        words=words, path_of=model_path, download_of=lambda f: download_path(f, key), hashes_of=shown_hashes,
        canonical=origin(request) + model_path(model), **_told(db, viewer, chosen),
    )  # fmt: skip


def _told(db: Db, viewer: User | None, version: ModelVersion | None) -> dict[str, Any]:
    """What the page says of the file: what it was recognised as, and what can be done with it here."""
    seen = recognised(version) if version is not None else None
    if version is None or seen is None:
        return {"standing": None, "recognised": [], "file_words": "", "can_create": _can_create(version)}
    missing = lacks(db, viewer, version)
    return {
        "standing": standing_of(version, missing), "recognised": rows(seen),
        "file_words": words.file_words(seen), "can_create": _can_create(version) and not missing,
    }  # fmt: skip


def _can_create(version: ModelVersion | None) -> bool:
    usable = ("Checkpoint", *LORA_TYPES)
    return version is not None and version.family is not None and version.model.type in usable


@router.post("/models/{model_id:int}/edit")
def edit(
    request: Request, db: Db, user: CurrentUser, model_id: int,
    name: Annotated[str, Form(min_length=1, max_length=200)],
    description: Annotated[str, Form(max_length=50_000)] = "",
    category: Annotated[str, Form()] = "",
    tags: Annotated[str, Form(max_length=2000)] = "",
    licence: Annotated[str, Form(max_length=100)] = "",
    rating: Annotated[int, Form()] = 1,
    no_credit: Annotated[bool, Form()] = False,
    derivatives: Annotated[bool, Form()] = False,
    different_license: Annotated[bool, Form()] = False,
    commercial: Annotated[list[str] | None, Form()] = None,
    archived: Annotated[bool, Form()] = False,
) -> Response:  # fmt: skip
    """The whole form of the model; what is not ticked is off."""
    patch = checked(
        ModelPatch, name=name, description=description, category=category, tags=tags.split(","),
        licence=licence, rating=rating, allow_no_credit=no_credit, allow_derivatives=derivatives,
        allow_different_license=different_license, allow_commercial_use=commercial or [], archived=archived,
    )  # fmt: skip
    return redirect(request, model_path(service.set_model(db, user, model_id, patch)))


@router.post("/models/{model_id:int}/versions/{version_id:int}/edit")
def edit_version(
    request: Request, db: Db, user: CurrentUser, model_id: int, version_id: int,
    name: Annotated[str, Form(min_length=1, max_length=200)],
    description: Annotated[str, Form(max_length=50_000)] = "",
    trained_words: Annotated[str, Form(max_length=2000)] = "",
    strength: Annotated[float, Form(ge=-1, le=2)] = 0.8,
    base_model: Annotated[str, Form(max_length=60)] = "",
) -> Response:  # fmt: skip
    service.version_of(db, user, model_id, version_id)
    patch = VersionPatch(
        name=name,
        description=description,
        trained_words=trained_words.split(","),
        strength=strength,
        base_model=base_model or None,
    )
    version = service.set_version(db, user, version_id, patch)
    return redirect(request, model_path(version.model, version=version))


@router.post("/models/{model_id:int}/visibility")
def set_visibility(
    request: Request, db: Db, user: CurrentUser, model_id: int, visibility: Annotated[Visibility, Form()]
) -> Response:
    """Publish, share by link, or make private again."""
    return redirect(request, model_path(service.set_visibility(db, user, model_id, visibility)))


@router.post("/models/{model_id:int}/key")
def renew_key(request: Request, db: Db, user: CurrentUser, model_id: int) -> Response:
    return redirect(request, model_path(service.renew_key(db, user, model_id)))


@router.post("/models/{model_id:int}/delete")
def delete(request: Request, db: Db, user: CurrentUser, model_id: int) -> Response:
    service.delete_model(db, user, model_id)
    return redirect(request, f"/models?username={user.username}")


@router.post("/models/{model_id:int}/versions/{version_id:int}/publish")
def publish_version(request: Request, db: Db, user: CurrentUser, model_id: int, version_id: int) -> Response:
    """Publish a draft as visible as the page is."""
    version = service.version_of(db, user, model_id, version_id)
    shown = version.model.visibility
    service.publish_version(db, user, version, "public" if shown == "private" else shown)
    return redirect(request, model_path(version.model, version=version))


@router.post("/models/{model_id:int}/versions/{version_id:int}/delete")
def delete_version(request: Request, db: Db, user: CurrentUser, model_id: int, version_id: int) -> Response:
    model = service.version_of(db, user, model_id, version_id).model
    service.delete_version(db, user, version_id)
    return redirect(request, model_path(model))


@router.post("/models/{model_id:int}/versions/{version_id:int}/pictures/{image_id:int}/remove")
def remove_picture(
    request: Request, db: Db, user: CurrentUser, model_id: int, version_id: int, image_id: int
) -> Response:
    version = service.version_of(db, user, model_id, version_id)
    service.remove_picture(db, user, version_id, image_id)
    return redirect(request, model_path(version.model, version=version))


@router.get("/report")
def report_form(
    request: Request, db: Db, viewer: OptionalUser, kind: str, id: int, key: str | None = None
) -> Response:
    target = reports.get_target(db, viewer, kind, id, key=key)
    return render(
        request, "gallery/report.html", kind=kind, target=target, key=key, reasons=REASONS, sent=False
    )


@router.post("/report")
def report(
    request: Request, db: Db, viewer: OptionalUser,
    kind: Annotated[str, Form()], id: Annotated[int, Form()], reason: Annotated[str, Form()],
    detail: Annotated[str, Form(max_length=2000)] = "", key: Annotated[str | None, Form()] = None,
) -> Response:  # fmt: skip
    """Needs no login."""
    body = checked(ReportIn, kind=kind, id=id, reason=reason, detail=detail)
    reports.create_report(db, viewer, body, key=key or None)
    return render(
        request, "gallery/report.html", kind=kind, target=None, key=None, reasons=REASONS, sent=True
    )
