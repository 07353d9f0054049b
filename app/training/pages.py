"""The wizard: its start and its three steps."""

from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Form, Request, Response

from app.accounts.deps import CurrentUser
from app.core.errors import AppError, Invalid
from app.datasets import service as datasets
from app.gallery.picker import list_choices
from app.jobs import workers
from app.training import drafts, job_pages, words
from app.training.plan import SAMPLES, default_prompts, describe_plan, plan_training
from app.web.deps import Db, FormFields
from app.web.templating import is_htmx, redirect, render
from worker.families import catalog

router = APIRouter(include_in_schema=False)
router.include_router(job_pages.router)
ADVANCED = (
    (
        "Length",
        ("epochs", "repeats", "max_steps", "batch_size", "gradient_accumulation", "save_every_epochs"),
    ),
    ("Rates", ("unet_lr", "text_encoder_lr", "lr_scheduler", "lr_cycles", "lr_warmup", "optimizer")),
    ("Network", ("network_dim", "network_alpha", "conv_dim", "conv_alpha")),
    ("Clips", ("clip_frames", "clip_windows", "clip_count", "clip_stride")),
    ("Pictures", ("resolution", "enable_bucket", "flip", "holdout")),
    ("Labels", ("shuffle_tags", "keep_tokens", "caption_dropout", "clip_skip")),
    ("Noise", ("min_snr_gamma", "noise_offset", "flow_shift", "timestep_density")),
    ("Machine", ("precision", "gradient_checkpointing", "seed")),
)


@router.get("/train")
def start_page(request: Request, db: Db, user: CurrentUser) -> Response:
    context: dict[str, Any] = {
        "drafts": drafts.list_drafts(db, user),
        "bases": drafts.list_bases(db, user),
        "media": datasets.trained_media(),
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
        media=drafts.draft_media(draft),
        media_of=drafts.media_of,
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
    text: Annotated[int | None, Form()] = None,
    trigger_word: Annotated[str, Form()] = "",
    media: Annotated[str, Form()] = "image",
    autosave: bool = False,
) -> Response:
    try:
        drafts.save_about(
            db, user, draft_id, type=type, name=name, base=base, vae=vae, text=text, trigger=trigger_word,
            media=media,
        )  # fmt: skip
    except Invalid as error:
        if autosave:
            return render(request, "training/_saved.html")
        return _about(request, db, user, draft_id, words.by_field(error))
    if autosave:
        return render(request, "training/_saved.html")
    return redirect(request, f"/train/{draft_id}/images")


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
        db,
        user,
        dataset.id,
        trigger_word=trigger,
        resolution=spec.resolution if spec else None,
        cut=drafts.draft_cut(draft, spec),
    )
    able = spec.media if spec else datasets.trained_media()
    others = [d for d in datasets.list_datasets(db, user) if d.id != dataset.id and d.media in able]
    context |= {"draft": draft, "others": others, "base": base[0] if base else None, "errors": errors}
    return render(request, "training/images.html", status=422 if errors else 200, **context)


@router.post("/train/{draft_id}/images")
def confirm_images(
    request: Request, db: Db, user: CurrentUser, draft_id: str, rights: Annotated[bool, Form()] = False
) -> Response:
    try:
        drafts.confirm_rights(db, user, draft_id, rights=rights)
    except Invalid as error:
        return _images(request, db, user, draft_id, words.by_field(error))
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
        "cure": None,
    }
    base = list_choices(db, user, "Checkpoint", version_ids=[draft.fields.get("base") or 0])
    context["base"] = base[0] if base else None
    context["spec"] = catalog.specs().get(base[0].family or "") if base else None
    context |= {"groups": ADVANCED, "media": drafts.draft_media(draft)}
    context["samples"] = SAMPLES[context["media"]]
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
        context["errors"] = words.by_field(error)
        context["problem"] = error.detail
        context["cure"] = error.extra.get("would_fit")
    except AppError as error:
        context["errors"] = {"base": error.detail}
        context["problem"] = error.detail
    return context


def _prefill_prompts(draft: Any, planned: Any) -> None:
    if "sample_prompts" not in draft.fields:
        prompts = default_prompts(planned.job.items, planned.job.trigger_word, SAMPLES[planned.media])
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


def _frames(typed: str) -> dict[str, int]:
    """The length of a sample as typed; nothing where that is no length: then the default is taken."""
    return {"frames": max(1, min(int(typed), 1000))} if typed.isdecimal() and len(typed) < 9 else {}


def _review_changes(form: dict[str, str]) -> dict[str, Any]:
    prompts = [
        {"prompt": form[key].strip(), "seed": _seed(form.get(f"seed-{key[7:]}", ""))}
        | _frames(form.get(f"frames-{key[7:]}", ""))
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
