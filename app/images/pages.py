"""Pages of pictures: the gallery, one picture, and the bytes that both show."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse

from app.accounts.deps import CompatUser, CurrentUser, OptionalUser
from app.images import service
from app.images.models import Image
from app.images.permissions import browsing_level, can_edit_image
from app.images.queries import ImageFilters, list_images, neighbours
from app.images.rows import TILES, view_file, view_image
from app.images.schemas import ImagePatch, Visibility
from app.images.sending import send_image, send_small
from app.images.shapes import share_url
from app.images.thumbs import WIDTH
from app.images.variants import send_variant, wanted_width, wants_still
from app.web.deps import Db, Store
from app.web.forms import checked
from app.web.kept import for_everybody
from app.web.links import with_query
from app.web.templating import is_htmx, redirect, render

router = APIRouter(include_in_schema=False)
PERIODS = (("AllTime", "All time"), ("Year", "This year"), ("Month", "This month"), ("Week", "This week"),
           ("Day", "Today"))  # fmt: skip
Media = Literal["", "image", "video"]
RATINGS = ((1, "For everybody (PG)"), (2, "PG-13"), (4, "R"), (8, "X"), (16, "XXX"))


@router.get("/images")
@for_everybody
def gallery(
    request: Request,
    db: Db,
    viewer: OptionalUser,
    query: str = "",
    username: str = "",
    base: str = "",
    period: str = "AllTime",
    sort: str = "newest",
    media: Media = "",
    mine: bool = False,
    cursor: str | None = None,
) -> Response:
    """Pictures and clips that people have made public, or with `mine` one's own history."""
    filters = ImageFilters(
        mine=mine, query=query, username=username, base_models=[base] if base else [], period=period,
        level=browsing_level(viewer), media=media,
    )  # fmt: skip
    page = list_images(
        db, viewer, filters, cursor=cursor, limit=40, oldest_first=sort == "oldest", extent=TILES
    )
    more = with_query(request, cursor=page.next_cursor) if page.next_cursor else ""
    block = "pictures" if is_htmx(request) and cursor else None
    return render(
        request, "images/index.html", block=block, images=page.items, more=more, filters=filters, base=base,
        period=period, sort=sort, periods=PERIODS, link=lambda **q: with_query(request, cursor=None, **q),
    )  # fmt: skip


@router.get("/images/{image_id:int}")
@for_everybody
def show(request: Request, db: Db, viewer: OptionalUser, image_id: int, key: str | None = None) -> Response:
    """One picture with what it was made with."""
    image = view_image(db, viewer, image_id, key=key)
    mine = can_edit_image(image, viewer)
    filters = ImageFilters(mine=mine, level=browsing_level(viewer))
    listed = mine or image.visibility == "public"
    newer, older = neighbours(db, viewer, image, filters) if listed else (None, None)
    return render(
        request, "images/show.html", image=image, mine=mine, newer=newer, older=older, key=key,
        ratings=RATINGS, share_url=share_url(request, image) if mine else "",
        settings_shown=shown_settings(image),
    )  # fmt: skip


def shown_settings(image: Image) -> list[tuple[str, Any]]:
    """Label and value of the settings that a person reads, in order."""
    labels = {
        "Model": "Model", "sampler": "Sampler", "steps": "Steps", "cfgScale": "CFG", "seed": "Seed",
        "clipSkip": "Clip skip", "shift": "Shift", "Schedule type": "Schedule",
        "Denoising strength": "Denoise",
        "Hires upscale": "Hires scale", "Hires upscaler": "Upscaler", "VAE": "VAE", "program": "Made in",
    }  # fmt: skip
    shown = [
        (label, _figure(image.meta[name]))
        for name, label in labels.items()
        if image.meta.get(name) not in (None, "")
    ]
    return [*shown, ("Size", f"{image.width} × {image.height}"), *_length(image)]


def _length(image: Image) -> list[tuple[str, str]]:
    if not image.is_clip:
        return []
    return [("Length", f"{image.duration:.1f} s, {image.frames} frames at {image.fps:g} a second")]


def _figure(value: Any) -> Any:
    """5.0 reads as 5."""
    return f"{value:g}" if isinstance(value, float) else value


@router.head("/images/{image_id:int}/file")
@router.get("/images/{image_id:int}/file")
def file(
    request: Request, db: Db, store: Store, viewer: OptionalUser, image_id: int,
    key: str | None = None, width: int | None = None, download: bool = False, data: bool = True,
) -> Response:  # fmt: skip
    """The picture; with `width` up to 450 its thumbnail; with `download` to keep; without `data` it tells
    nothing of how it was made."""
    image, plain = view_file(db, viewer, image_id, key=key)
    plain = plain or not data
    if width is not None and 0 < width <= WIDTH:
        return send_small(request, store, image, plain=plain)
    return send_image(request, store, image, plain=plain, attachment=download)


@router.head("/images/{image_id:int}/file.{extension}")
@router.get("/images/{image_id:int}/file.{extension}")
def named_file(
    request: Request,
    db: Db,
    store: Store,
    viewer: OptionalUser,
    image_id: int,
    key: str | None = None,
) -> Response:
    """The same for programs that tell the kind of a file by the end of its address."""
    image, plain = view_file(db, viewer, image_id, key=key)
    return send_image(request, store, image, plain=plain)


@router.head("/images/{image_id:int}/{variant}/{name}")
@router.get("/images/{image_id:int}/{variant}/{name}")
def variant(
    request: Request, db: Db, store: Store, viewer: CompatUser, image_id: int, variant: str,
    name: str, key: str | None = None,
) -> Response:  # fmt: skip
    """The picture as `original=true` or in a width, `width=450`: addresses that the API gives out."""
    image, plain = view_file(db, viewer, image_id, key=key)
    still = wants_still(variant, name)
    return send_variant(request, store, image, wanted_width(variant, image), plain=plain, still=still)


@router.head("/images/{image_id:int}/thumb")
@router.get("/images/{image_id:int}/thumb")
def thumb(
    request: Request, db: Db, store: Store, viewer: OptionalUser, image_id: int, key: str | None = None
) -> Response:
    image, plain = view_file(db, viewer, image_id, key=key)
    return send_small(request, store, image, plain=plain)


@router.post("/images/{image_id:int}/visibility")
def set_visibility(
    request: Request, db: Db, user: CurrentUser, image_id: int, visibility: Annotated[Visibility, Form()]
) -> Response:
    """Publish, share by link, or make private again."""
    service.set_image(db, user, image_id, ImagePatch(visibility=visibility))
    return redirect(request, f"/images/{image_id}")


@router.post("/images/{image_id:int}/edit")
def edit(
    request: Request, db: Db, user: CurrentUser, image_id: int,
    title: Annotated[str, Form(max_length=200)] = "",
    description: Annotated[str, Form(max_length=10_000)] = "",
    tags: Annotated[str, Form(max_length=2000)] = "",
    rating: Annotated[int, Form()] = 1,
) -> Response:  # fmt: skip
    """Title, description, tags and rating."""
    patch = checked(ImagePatch, title=title, description=description, tags=tags.split(","), rating=rating)
    service.set_image(db, user, image_id, patch)
    return redirect(request, f"/images/{image_id}")


@router.post("/images/{image_id:int}/delete")
def delete(request: Request, db: Db, user: CurrentUser, image_id: int) -> Response:
    """The generator takes the picture out of its list and stays where it is."""
    service.delete_image(db, user, image_id)
    return HTMLResponse("") if is_htmx(request) else redirect(request, "/images?mine=true")
