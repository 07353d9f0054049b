"""The wizard's three steps, the job page with its results, and the publish form."""

from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Form, Request, Response

from app.accounts.deps import CurrentUser
from app.core.errors import AppError, Invalid
from app.datasets import service as datasets
from app.gallery.picker import list_choices
from app.jobs import events, workers
from app.jobs import service as jobs
from app.training import drafts, publishing, service, words
from app.training.plan import default_prompts, describe_plan, plan_training
from app.training.schemas import PermissionsIn, PublishIn
from app.web.deps import Db, FormFields
from app.web.forms import checked
from app.web.templating import is_htmx, redirect, render
from worker.families import catalog

router = APIRouter(include_in_schema=False)
ADVANCED = (
    (
        "Length",
        ("epochs", "repeats", "max_steps", "batch_size", "gradient_accumulation", "save_every_epochs"),
    ),
    ("Rates", ("unet_lr", "text_encoder_lr", "lr_scheduler", "lr_cycles", "lr_warmup", "optimizer")),
    ("Network", ("network_dim", "network_alpha", "conv_dim", "conv_alpha")),
    ("Pictures", ("resolution", "enable_bucket", "flip", "holdout")),
    ("Labels", ("shuffle_tags", "keep_tokens", "caption_dropout", "clip_skip")),
    ("Noise and machine", ("min_snr_gamma", "noise_offset", "precision", "gradient_checkpointing", "seed")),
)

ASKED = {
    "sample": "Asked for. The samples are drawn after the step that runs now.",
    "save": "Asked for. It is saved after the step that runs now.",
}
LICENCE = ("allow_no_credit", "allow_commercial", "allow_derivatives", "allow_different_license")


@router.get("/train")
def start_page(request: Request, db: Db, user: CurrentUser) -> Response:
    context: dict[str, Any] = {
        "drafts": drafts.list_drafts(db, user),
        "bases": drafts.list_bases(db, user),
        "workers": "train" in workers.served_queues(db),
    }
    return render(request, "training/start.html", **context)


@router.post("/train")
def new_draft(request: Request, db: Db, user: CurrentUser, dataset: Annotated[str, Form()] = "") -> Response:
    """`dataset` when somebody comes from the page of a set."""
    draft = drafts.create_draft(db, user)
    if dataset:
        drafts.use_dataset(db, user, draft.id, dataset)
    return redirect(request, f"/train/{draft.id}/about")


@router.post("/train/{draft_id}/delete")
def delete_draft(request: Request, db: Db, user: CurrentUser, draft_id: str) -> Response:
    drafts.delete_draft(db, user, draft_id)
    return redirect(request, "/train")


@router.get("/train/{draft_id}/about")
def about_page(request: Request, db: Db, user: CurrentUser, draft_id: str) -> Response:
    return _about(request, db, user, draft_id, {})


def _about(request: Request, db: Db, user: CurrentUser, draft_id: str, errors: dict[str, str]) -> Response:
    draft = drafts.get_draft(db, user, draft_id)
    return render(
        request,
        "training/about.html",
        status=422 if errors else 200,
        draft=draft,
        offer=drafts.list_offer(db, user),
        types=drafts.TYPES,
        errors=errors,
    )


@router.post("/train/{draft_id}/about")
def save_about(
    request: Request,
    db: Db,
    user: CurrentUser,
    draft_id: str,
    name: Annotated[str, Form()] = "",
    type: Annotated[str, Form()] = "",
    base: Annotated[int | None, Form()] = None,
    vae: Annotated[int | None, Form()] = None,
    trigger_word: Annotated[str, Form()] = "",
    autosave: bool = False,
) -> Response:
    try:
        drafts.save_about(db, user, draft_id, type=type, name=name, base=base, vae=vae, trigger=trigger_word)
    except Invalid as error:
        if autosave:
            return render(request, "training/_saved.html")
        return _about(request, db, user, draft_id, _by_field(error))
    if autosave:
        return render(request, "training/_saved.html")
    return redirect(request, f"/train/{draft_id}/images")


def _by_field(error: Invalid) -> dict[str, str]:
    return {e.pointer.removeprefix("#/").split("/")[-1]: e.detail for e in error.errors} or {"": error.detail}


@router.get("/train/{draft_id}/images")
def images_page(request: Request, db: Db, user: CurrentUser, draft_id: str) -> Response:
    return _images(request, db, user, draft_id, {})


def _images(request: Request, db: Db, user: CurrentUser, draft_id: str, errors: dict[str, str]) -> Response:
    draft = drafts.get_draft(db, user, draft_id)
    dataset = drafts.open_dataset(db, user, draft)
    base = list_choices(db, user, "Checkpoint", version_ids=[draft.fields.get("base") or 0])
    spec = catalog.specs().get(base[0].family or "") if base else None
    trigger = draft.fields.get("trigger_word", "")
    context = datasets.editor_context(
        db, user, dataset.id, trigger_word=trigger, resolution=spec.resolution if spec else None
    )
    usable = datasets.trained_media()
    others = [d for d in datasets.list_datasets(db, user) if d.id != dataset.id and d.media in usable]
    context |= {"draft": draft, "others": others, "base": base[0] if base else None, "errors": errors}
    return render(request, "training/images.html", status=422 if errors else 200, **context)


@router.post("/train/{draft_id}/images")
def confirm_images(
    request: Request, db: Db, user: CurrentUser, draft_id: str, rights: Annotated[bool, Form()] = False
) -> Response:
    try:
        drafts.confirm_rights(db, user, draft_id, rights=rights)
    except Invalid as error:
        return _images(request, db, user, draft_id, _by_field(error))
    return redirect(request, f"/train/{draft_id}/review")


@router.post("/train/{draft_id}/dataset")
def choose_dataset(
    request: Request, db: Db, user: CurrentUser, draft_id: str, dataset: Annotated[str, Form()]
) -> Response:
    drafts.use_dataset(db, user, draft_id, dataset)
    return redirect(request, f"/train/{draft_id}/images")


@router.get("/train/{draft_id}/review")
def review_page(request: Request, db: Db, user: CurrentUser, draft_id: str) -> Response:
    return render(request, "training/review.html", **_review(db, user, draft_id))


def _review(db: Db, user: CurrentUser, draft_id: str) -> dict[str, Any]:
    """Plan of the chosen preset and of its neighbours; a wrong field is shown, never a dead end."""
    draft = drafts.get_draft(db, user, draft_id)
    context: dict[str, Any] = {
        "draft": draft,
        "errors": {},
        "plan": None,
        "presets": [],
        "spec": None,
        "planned": None,
    }
    base = list_choices(db, user, "Checkpoint", version_ids=[draft.fields.get("base") or 0])
    context["base"] = base[0] if base else None
    context["spec"] = catalog.specs().get(base[0].family or "") if base else None
    context["groups"] = ADVANCED
    try:
        body = drafts.draft_body(draft)
        planned = plan_training(db, user, body)
        context |= {"planned": planned, "plan": describe_plan(db, planned)}
        context["memory_words"] = words.memory_need(planned.memory)
        for preset in ("quick", "normal", "best"):
            other = plan_training(db, user, body.model_copy(update={"preset": preset}))
            context["presets"].append((preset, describe_plan(db, other)))
        _prefill_prompts(draft, planned)
    except Invalid as error:
        context["errors"] = _by_field(error)
        context["problem"] = error.detail
        context["cure"] = error.extra.get("would_fit")
    except AppError as error:
        context["errors"] = {"base": error.detail}
        context["problem"] = error.detail
    return context


def _prefill_prompts(draft: Any, planned: Any) -> None:
    if "sample_prompts" not in draft.fields:
        prompts = default_prompts(planned.job.items, planned.job.trigger_word)
        draft.fields = {**draft.fields, "sample_prompts": [p.model_dump(exclude_none=True) for p in prompts]}


@router.post("/train/{draft_id}/review")
def save_review(request: Request, db: Db, user: CurrentUser, draft_id: str, form: FormFields) -> Response:
    """Save what was changed and show the new figures; with `start` also start."""
    changes = _review_changes(form)
    drafts.save_review(db, user, draft_id, changes)
    if "start" not in form:
        return render(
            request,
            "training/review.html",
            block="form" if is_htmx(request) else None,
            **_review(db, user, draft_id),
        )
    try:
        job = drafts.start_draft(db, user, draft_id)
    except Invalid as error:
        context = _review(db, user, draft_id)
        context["problem"] = error.detail
        return render(request, "training/review.html", status=422, **context)
    return redirect(request, f"/trainings/{job.id}")


def _seed(typed: str) -> int:
    """A seed as typed; 1 where that is no seed."""
    return min(int(typed), 2**32 - 1) if typed.isdecimal() else 1


def _review_changes(form: dict[str, str]) -> dict[str, Any]:
    prompts = [
        {"prompt": form[key].strip(), "seed": _seed(form.get(f"seed-{key[7:]}", ""))}
        for key in sorted(form)
        if key.startswith("prompt-") and form[key].strip()
    ]
    switches = {"enable_bucket", "flip", "holdout", "shuffle_tags", "gradient_checkpointing"}
    params: dict[str, Any] = {}
    for key, value in form.items():
        if key.startswith("p-") and value != "":
            name = key[2:]
            params[name] = value == "true" if name in switches else value
    for name, value in parse_qsl(form.get("cure", "")):  # settings that fit the memory there is
        params[name] = value == "True" if name in switches else value
    return {"preset": form.get("preset", "normal"), "sample_prompts": prompts, "params": params}


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
        return _publish(request, db, user, training_id, chosen, form, _by_field(error))
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
