"""The generator: one form, the queue and the history beside it."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, Request, Response, UploadFile

from app.accounts.deps import CurrentUser
from app.contract.jobs import UPSCALERS
from app.core.errors import AppError, Conflict, Invalid
from app.gallery.matching import Fit
from app.gallery.picker import Choice, Fitting, list_choices, list_fitting
from app.gallery.refs import lacking
from app.generation import estimate, grid_pages, picture_pages, prefill, reading, service
from app.generation.clips import offered_lengths, rates_of, samplers_of, seconds_words
from app.generation.filled import Filled, list_trainings, media_drawn, number
from app.generation.form import body_of
from app.generation.grid import AXES, MAX_CELLS
from app.images import queries as image_queries
from app.jobs import service as jobs
from app.web.deps import Db, FormFields
from app.web.templating import is_htmx, redirect, render

router = APIRouter(include_in_schema=False)
router.include_router(picture_pages.router)
router.include_router(grid_pages.router)
PickerKind = Literal["Checkpoint", "LORA", "VAE", "TextualInversion"]
Media = Literal["", "image", "video"]
QUANTITIES = (1, 2, 4, 8)
MAX_BODY = 64 << 20
"""Bytes that a request may bring; what a picture may have is a setting and less."""


@router.get("/generate")
def generator(
    request: Request,
    db: Db,
    user: CurrentUser,
    version: int | None = None,
    image: int | None = None,
    training: str | None = None,
    epoch: int | None = None,
    compare: bool = False,
    start: int | None = None,
    key: str | None = None,
    media: Media = "",
) -> Response:
    """The page, filled from a model, from a picture (Remix, or as a start) or from an epoch.

    `compare`: with a grid of all epochs of that training. `media`: with a model for pictures or for clips.
    """
    filled = prefill.from_query(
        db, user, version=version, image=image, training=training, epoch=epoch, start=start, key=key,
        media=media,
    )  # fmt: skip
    if compare and training is not None:
        prefill.compare_epochs(filled, training)
    filters = image_queries.ImageFilters(mine=True)
    return render(
        request,
        "generation/index.html",
        running=service.unfinished(db, user),
        history=image_queries.list_images(db, user, filters, limit=24).items,
        **_context(db, user, filled),
    )


def _context(db: Db, user: CurrentUser, filled: Filled) -> dict[str, Any]:
    spec = filled.spec
    return {
        "filled": filled,
        "spec": spec,
        "media": media_drawn(db, user),
        "samplers": samplers_of(spec) if spec else {},
        **_clip_choices(filled),
        "upscalers": UPSCALERS,
        "axes": AXES,
        "max_cells": MAX_CELLS,
        "vaes": _parts(db, user, filled, "VAE"),
        "texts": _parts(db, user, filled, "TextEncoder"),
        "missing": " ".join(lacking(db, user, [filled.base]).values()) if filled.base else "",
        "trainings": list_trainings(db, user, filled.base),
        "has_embeddings": bool(list_choices(db, user, "TextualInversion", limit=1)),
        "quantities": [(str(n), str(n)) for n in QUANTITIES if spec and n <= spec.generation.max_quantity],
        "eta": estimate.words(db, spec) if spec else "",
    }


def _parts(db: Db, user: CurrentUser, filled: Filled, kind: Literal["VAE", "TextEncoder"]) -> list[Choice]:
    """Parts that can be taken instead of the chosen checkpoint's own."""
    found = list_fitting(db, user, kind, base=filled.base.version_id) if filled.base else []
    return [each.choice for each in found if each.fit.usable]


def _clip_choices(filled: Filled) -> dict[str, Any]:
    """Lengths and rates that the form offers; of a model for pictures none."""
    clips = filled.spec.clips if filled.spec else None
    if clips is None:
        return {"clips": None}
    frames, fps = (number(filled.fields.get(name)) for name in ("frames", "fps"))
    return {
        "clips": clips,
        "lengths": offered_lengths(clips, int(frames or 0)),
        "rates": rates_of(clips, fps),
        "seconds": seconds_words,
    }


@router.post("/generate")
def generate(request: Request, db: Db, user: CurrentUser, form: FormFields) -> Response:
    """Queue it. htmx gets the new card for the queue; a plain form goes back to the page."""
    job = service.start_generation(db, user, body_of(form))
    if is_htmx(request):
        return render(request, "generation/_card.html", **service.card(db, job))
    return redirect(request, f"/generate/grids/{job.id}" if job.input.get("grid") else "/generate")


@router.post("/generate/form")
def redraw(request: Request, db: Db, user: CurrentUser, form: FormFields) -> Response:
    """The form as it was left, or with another model: after a reload, an undo, a choice."""
    return _form(request, db, user, prefill.from_form(db, user, form))


def _form(request: Request, db: Db, user: CurrentUser, filled: Filled) -> Response:
    if filled.spec is None:
        raise Conflict("No model can draw here yet. The admin installs one with ./dev up.")
    return render(request, "generation/_form.html", **_context(db, user, filled))


@router.post("/generate/read", max_body_size=MAX_BODY)
def read(
    request: Request,
    db: Db,
    user: CurrentUser,
    file: Annotated[UploadFile | None, File()] = None,
    text: Annotated[str, Form(max_length=64_000)] = "",
    base: Annotated[str, Form(max_length=20)] = "",
) -> Response:
    """The form filled from a dropped picture or from pasted generation data."""
    if file is not None:
        filled = reading.read_picture(db, user, file.file, name=file.filename or "", base=base)
    elif text.strip():
        filled = reading.read_text(db, user, text, base=base)
    else:
        raise Invalid("Drop a picture or paste its generation data.")
    return _form(request, db, user, filled)


@router.post("/generate/estimate")
def footer(db: Db, user: CurrentUser, form: FormFields) -> dict[str, Any]:
    """What the button would do: how many pictures, how long, and what a person should know before."""
    try:
        found = service.estimate(db, user, body_of(form))
    except AppError as error:
        return {"pictures": None, "words": "", "problem": error.detail, "notes": []}
    return {
        "pictures": found.pictures,
        "words": estimate.about(found.eta_seconds),
        "problem": "",
        "notes": [note.detail for note in found.warnings],
    }


@router.get("/generate/jobs/{job_id}")
def card(request: Request, db: Db, user: CurrentUser, job_id: str) -> Response:
    """One job of the queue as a card that renews itself until it is finished."""
    return render(request, "generation/_card.html", **service.card(db, jobs.get_job(db, user, job_id)))


@router.post("/generate/jobs/{job_id}/cancel")
def cancel(request: Request, db: Db, user: CurrentUser, job_id: str) -> Response:
    job = jobs.cancel_job(db, user, job_id)
    return render(request, "generation/_card.html", **service.card(db, job))


def _without(found: Fitting, missing: dict[int, str]) -> Fitting:
    """The card, greyed where its checkpoint lacks something."""
    words = missing.get(found.choice.version_id)
    return replace(found, fit=Fit(False, words)) if words else found


@router.get("/generate/picker")
def picker(
    request: Request,
    db: Db,
    user: CurrentUser,
    kind: PickerKind = "LORA",
    base: str = "",
    version: int | None = None,
    query: str = "",
) -> Response:
    """Cards to choose from; what does not fit the checkpoint `version` (of `base`) is greyed."""
    found = list_fitting(db, user, kind, base=version, base_model=base, query=query)
    missing = lacking(db, user, [each.choice for each in found]) if kind == "Checkpoint" else {}
    found = [_without(each, missing) for each in found]
    found.sort(key=lambda each: not each.fit.usable)
    return render(request, "generation/_picker.html", found=found, kind=kind, base=base)
