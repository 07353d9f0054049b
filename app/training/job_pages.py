"""The page of a training while it runs and after, and the form that publishes one of its epochs."""

from typing import Any

from fastapi import APIRouter, Request, Response

from app.accounts.deps import CurrentUser
from app.core.errors import Invalid
from app.jobs import events, workers
from app.jobs import service as jobs
from app.jobs.models import Job
from app.training import drafts, publishing, service, words
from app.training.plan import NOUNS
from app.training.schemas import PermissionsIn, PublishIn
from app.web.deps import Db, FormFields
from app.web.forms import checked
from app.web.templating import redirect, render

router = APIRouter(include_in_schema=False)
ASKED = {
    "sample": "Asked for. The samples are drawn after the step that runs now.",
    "save": "Asked for. It is saved after the step that runs now.",
}
LICENCE = ("allow_no_credit", "allow_commercial", "allow_derivatives", "allow_different_license")


@router.get("/trainings/{training_id}")
def job_page(
    request: Request,
    db: Db,
    user: CurrentUser,
    training_id: str,
    part: str | None = None,
    asked: str = "",
) -> Response:
    context = _job_context(db, user, training_id) | {"asked": ASKED.get(asked)}
    block = part if part in ("status", "samples", "log") else None
    return render(request, "training/job.html", block=block, **context)


def _job_context(db: Db, user: CurrentUser, training_id: str) -> dict[str, Any]:
    job, run = service.get_training(db, user, training_id)
    samples = service.list_samples(db, job.id)
    checkpoints = service.list_checkpoint_rows(db, job.id)
    place = jobs.queue_positions(db, [job]).get(job.id, 1)
    return {
        "job": job,
        "run": run,
        "noun": _noun(job),
        "status_words": words.STATUS[job.status],
        "sentence": words.sentence(job, place - 1, served="train" in workers.served_queues(db)),
        "phases": words.phases(job),
        "figures": words.figures(job),
        "memory": words.memory_taken(job),
        "silent": words.silent_since(job),
        "rows": sample_rows(samples, checkpoints),
        "prompts": job.payload["sample_prompts"],
        "checkpoints": checkpoints,
        "logs": [events.log_line(e) for e in reversed(events.list_logs(db, job, limit=5000)[-60:])],
        "terminal": job.status in ("succeeded", "failed", "canceled", "expired"),
    }


def _noun(job: Job) -> str:
    return NOUNS[job.input.get("media", "image")][0]


def sample_rows(samples: list[Any], checkpoints: list[Any]) -> list[dict[str, Any]]:
    """Rows of the grid, newest first, the one without the LoRA last.

    Samples that were asked for between two saves have a row of their own, without a checkpoint.
    """
    rows = {(c.epoch, c.step): _sample_row(c.epoch, c.step, checkpoint=c) for c in checkpoints}
    for sample in samples:
        if not sample.baseline:
            key = (sample.epoch, sample.step)
            row = rows.setdefault(key, _sample_row(*key, checkpoint=None))
            row["cells"][sample.prompt_index] = sample
    ordered = [rows[key] for key in sorted(rows, reverse=True)]
    baseline = {s.prompt_index: s for s in samples if s.baseline}
    if baseline:
        ordered.append(_sample_row(0, 0, checkpoint=None) | {"cells": baseline, "baseline": True})
    return ordered


def _sample_row(epoch: int, step: int, *, checkpoint: Any) -> dict[str, Any]:
    if not epoch and not step:
        title = "Without the LoRA"
    else:
        title = f"Epoch {epoch}" if checkpoint else f"Step {step}"
    return {"title": title, "epoch": epoch, "cells": {}, "baseline": False, "checkpoint": checkpoint}


@router.post("/trainings/{training_id}/further/{epoch}")
def train_further(request: Request, db: Db, user: CurrentUser, training_id: str, epoch: int) -> Response:
    draft = drafts.duplicate_settings(db, user, training_id, epoch=epoch)
    return redirect(request, f"/train/{draft.id}/about")


@router.get("/trainings/{training_id}/publish")
def publish_page(
    request: Request, db: Db, user: CurrentUser, training_id: str, epoch: int | None = None
) -> Response:
    return _publish(request, db, user, training_id, epoch, {}, {})


def _publish(
    request: Request,
    db: Db,
    user: CurrentUser,
    training_id: str,
    epoch: int | None,
    values: dict[str, Any],
    errors: dict[str, str],
) -> Response:
    job, run = service.get_training(db, user, training_id)
    checkpoints = service.list_checkpoint_rows(db, job.id)
    chosen = epoch or run.recommended_epoch or (checkpoints[-1].epoch if checkpoints else 0)
    samples = [s for s in service.list_samples(db, job.id) if s.epoch == chosen and not s.baseline]
    defaults = {
        "name": run.name,
        "trained_words": run.trigger_word,
        "strength": "0.8",
        "tags": ", ".join(publishing.top_tags(job)),
        "visibility": "private",
        "rating": "1",
        "description": "",
        "model_id": "",
        "licence": [name for name in LICENCE if name in values or not values],
    }
    context: dict[str, Any] = {
        "job": job,
        "run": run,
        "noun": _noun(job),
        "checkpoints": checkpoints,
        "chosen": chosen,
        "samples": samples,
        "values": defaults | values,
        "mine": publishing.own_models(db, user),
        "errors": errors,
    }
    return render(request, "training/publish.html", status=422 if errors else 200, **context)


@router.post("/trainings/{training_id}/publish")
def publish(request: Request, db: Db, user: CurrentUser, training_id: str, form: FormFields) -> Response:
    try:
        model = publishing.publish_checkpoint(db, user, training_id, _publish_body(form))
    except Invalid as error:
        epoch = form.get("epoch", "")
        chosen = int(epoch) if epoch.isdecimal() else None
        return _publish(request, db, user, training_id, chosen, form, words.by_field(error))
    return redirect(request, f"/models/{model.id}")


def _publish_body(form: dict[str, str]) -> PublishIn:
    """The form as the REST body. Errors: Invalid with words for each field."""

    def listed(name: str) -> list[str]:
        return [part.strip() for part in form.get(name, "").split(",") if part.strip()]

    return checked(
        PublishIn,
        checkpoint=form.get("epoch"),
        name=form.get("name", "").strip() or None,
        model_id=form.get("model_id") or None,
        description=form.get("description", ""),
        tags=listed("tags")[:20],
        visibility=form.get("visibility", "private"),
        rating=int(form["rating"]) if form.get("rating", "").isdecimal() else 1,
        trained_words=listed("trained_words"),
        strength=form.get("strength") or 0.8,
        permissions=PermissionsIn(
            allow_no_credit="allow_no_credit" in form,
            allow_commercial_use=["Image", "RentCivit", "Rent", "Sell"] if "allow_commercial" in form else [],
            allow_derivatives="allow_derivatives" in form,
            allow_different_license="allow_different_license" in form,
        ),
    )


@router.post("/trainings/{training_id}/{action}")
def act(request: Request, db: Db, user: CurrentUser, training_id: str, action: str) -> Response:
    """Buttons of the job page. Unknown actions are a 404."""
    if action == "retry":
        job, _ = service.get_training(db, user, training_id)
        draft = drafts.duplicate_settings(db, user, job.id)
        return redirect(request, f"/train/{draft.id}/images")
    service.control(db, user, training_id, action)
    return redirect(request, f"/trainings/{training_id}" + (f"?asked={action}" if action in ASKED else ""))
