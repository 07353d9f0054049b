"""The generator: one form, the queue and the history beside it."""

from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from app.accounts.deps import CurrentUser
from app.contract.samplers import SAMPLERS
from app.core.errors import FieldError, Invalid
from app.gallery.picker import list_fitting
from app.generation import prefill, service
from app.generation.schemas import GenerationIn
from app.images import queries as image_queries
from app.jobs import service as jobs
from app.web.deps import Db, FormFields
from app.web.forms import plain_words
from app.web.templating import is_htmx, redirect, render
from worker.families import catalog

router = APIRouter(include_in_schema=False)
PickerKind = Literal["Checkpoint", "LORA", "VAE", "TextualInversion"]


@router.get("/generate")
def generator(
    request: Request,
    db: Db,
    user: CurrentUser,
    version: int | None = None,
    image: int | None = None,
    training: str | None = None,
    epoch: int | None = None,
    key: str | None = None,
) -> Response:
    """The page, filled from a model, from a picture (Remix) or from an epoch of a training."""
    filled = prefill.from_query(
        db, user, version=version, image=image, training=training, epoch=epoch, key=key
    )
    return render(request, "generation/index.html", **_context(db, user, filled))


def _context(db: Db, user: CurrentUser, filled: prefill.Filled) -> dict[str, Any]:
    spec = catalog.specs().get(filled.base.family or "") if filled.base else None
    return {
        "filled": filled,
        "spec": spec,
        "samplers": SAMPLERS,
        "eta": prefill.eta_label(db, spec) if spec else "",
        "running": service.unfinished(db, user),
        "history": image_queries.list_images(db, user, image_queries.ImageFilters(mine=True), limit=24).items,
    }


@router.post("/generate")
def generate(request: Request, db: Db, user: CurrentUser, form: FormFields) -> Response:
    """Queue it. htmx gets the new card for the queue; a plain form goes back to the page."""
    job = service.start_generation(db, user, _body(form))
    if is_htmx(request):
        return render(request, "generation/_card.html", **service.card(db, job))
    return redirect(request, "/generate")


@router.get("/generate/jobs/{job_id}")
def card(request: Request, db: Db, user: CurrentUser, job_id: str) -> Response:
    """One job of the queue as a card that renews itself until it is finished."""
    return render(request, "generation/_card.html", **service.card(db, jobs.get_job(db, user, job_id)))


@router.post("/generate/jobs/{job_id}/cancel")
def cancel(request: Request, db: Db, user: CurrentUser, job_id: str) -> Response:
    job = jobs.cancel_job(db, user, job_id)
    return render(request, "generation/_card.html", **service.card(db, job))


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
    """Cards to choose from; what does not fit the checkpoint `version` is greyed, with the reason."""
    found = list_fitting(db, user, kind, base=version, base_model=base, query=query)
    return render(request, "generation/_picker.html", found=found, kind=kind, base=base)


def _body(form: dict[str, str]) -> GenerationIn:
    """The form as the REST body. Errors: Invalid with words for the field."""
    loras = [
        {"model_version_id": key.removeprefix("lora-"), "strength": value}
        for key, value in form.items()
        if key.startswith("lora-")
    ]
    aspect = form.get("aspect", "")
    width, _, height = (
        aspect.partition("x") if "x" in aspect else (form.get("width", ""), "", form.get("height", ""))
    )
    epoch = None
    if form.get("training"):
        epoch = {
            "id": form["training"],
            "epoch": form.get("epoch"),
            "strength": form.get("epoch_strength") or None,
        }
    fields = {
        "model_version_id": form.get("model_version_id"),
        "prompt": form.get("prompt", ""),
        "negative_prompt": form.get("negative_prompt", ""),
        "resources": loras,
        "sampler": form.get("sampler"),
        "steps": form.get("steps"),
        "cfg_scale": form.get("cfg_scale"),
        "width": width,
        "height": height,
        "seed": form.get("seed"),
        "quantity": form.get("quantity"),
        "clip_skip": form.get("clip_skip"),
        "checkpoint_of_training": epoch,
    }
    try:
        return GenerationIn.model_validate({k: v for k, v in fields.items() if v not in (None, "")})
    except ValidationError as error:
        wrong = [
            FieldError("#/" + "/".join(str(p) for p in e["loc"]), plain_words(e)) for e in error.errors()
        ]
        listed = "; ".join(f"{e.pointer[2:]}: {e.detail}" for e in wrong[:4])
        raise Invalid(f"Please correct: {listed}.", wrong) from error
