"""What the generator's form starts with: the last model, a model page, a picture, an epoch, or itself."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.jobs import GenerateJob, LoraRef
from app.contract.passes import picture_job
from app.core.errors import AppError
from app.gallery.picker import find_base_for
from app.gallery.refs import get_version
from app.generation.clips import meta_of
from app.generation.filled import Card, Filled, epoch_card, finish, one_choice
from app.generation.form import loras_of
from app.generation.reading import fill_from, found_in
from app.generation.resolve import EPOCH_STRENGTH
from app.images import service as images
from app.images.models import Image
from app.jobs.models import Job
from app.training import service as training
from app.training.models import TrainingCheckpoint, TrainingRun

OF_ONE_KIND = (
    "aspect", "width", "height", "sampler", "schedule", "steps", "cfg_scale", "frames", "fps", "shift",
    "start", "mask", "hires", "compare",
)  # fmt: skip
"""Fields that pictures and clips do not share: they start anew where a model of the other kind is chosen."""


def from_query(
    db: Session,
    user: User,
    *,
    version: int | None = None,
    image: int | None = None,
    training: str | None = None,
    epoch: int | None = None,
    start: int | None = None,
    key: str | None = None,
    media: str = "",
) -> Filled:
    """Fill from whatever the address names; `key` opens a picture shared by link.

    `media` (`image` or `video`) asks for a model that draws such things where nothing else names one.
    Errors: NotFound for what the user may not see.
    """
    filled = Filled(media=media)
    if image is not None:
        _from_image(db, user, image, key, filled)
    elif training is not None and epoch is not None:
        _from_epoch(db, user, training, epoch, filled)
    elif version is not None:
        _from_version(db, user, version, filled)
    if start is not None:
        filled.fields["start"] = f"image:{images.get_image(db, user, start, key=key).id}"
    return finish(db, user, filled)


def compare_epochs(filled: Filled, training_id: str) -> None:
    """Switch on a grid of all epochs of a training, with a column without the LoRA."""
    filled.fields |= {
        "compare": "on", "x_axis": "epoch", "x_training": training_id, "x_values": "all", "baseline": "on",
    }  # fmt: skip


def from_form(db: Session, user: User, form: dict[str, str]) -> Filled:
    """The form as it was left, drawn anew: after a reload, or with another model."""
    filled = Filled(base=one_choice(db, user, "Checkpoint", form.get("model_version_id")))
    filled.fields = dict(form)
    if filled.spec is not None and ("frames" in form) != (filled.spec.clips is not None):
        filled.fields = {name: text for name, text in form.items() if name not in OF_ONE_KIND}
    width, _, height = str(filled.fields.get("aspect", "")).partition("x")
    if height:
        filled.fields |= {"width": width, "height": height}
    for entry in loras_of(form):
        choice = one_choice(db, user, "LORA", entry["model_version_id"])
        if choice is None:
            filled.notes.append("A LoRA of the list is not here any more.")
        filled.add(choice, _float(entry["strength"]), _float(entry["text_encoder_strength"]))
    if form.get("training") and form.get("epoch", "").isdigit():
        strength = _float(form.get("epoch_strength"))
        _try_epoch(db, user, filled, (form["training"], int(form["epoch"])), strength=strength)
    return finish(db, user, filled)


def _float(text: Any) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def _from_version(db: Session, user: User, version_id: int, filled: Filled) -> None:
    version = get_version(db, user, version_id)
    if version.model.type == "Checkpoint":
        filled.base = one_choice(db, user, "Checkpoint", version_id)
        return
    lora = one_choice(db, user, "LORA", version_id)
    if lora is not None:
        filled.add(lora)
        filled.fields["prompt"] = ", ".join(lora.trained_words)
        filled.base = find_base_for(db, user, lora)
        return
    if version.model.type == "TextualInversion":
        found = one_choice(db, user, "TextualInversion", version_id)
        filled.fields["prompt"] = found.file if found else ""


def _from_epoch(db: Session, user: User, training_id: str, epoch: int, filled: Filled) -> None:
    filled.epoch = epoch_card(db, user, training_id, epoch)
    job, run = training.get_training(db, user, training_id)
    filled.base = one_choice(db, user, "Checkpoint", run.base_version_id)
    prompts = job.payload.get("sample_prompts") or []
    filled.fields["prompt"] = prompts[0]["prompt"] if prompts else run.trigger_word


def _try_epoch(
    db: Session, user: User, filled: Filled, which: tuple[str, int], *, strength: float | None
) -> None:
    try:
        filled.epoch = epoch_card(db, user, *which, EPOCH_STRENGTH if strength is None else strength)
    except AppError:
        filled.notes.append("The epoch of a training that was chosen is not here any more.")


# remix


def _from_image(db: Session, user: User, image_id: int, key: str | None, filled: Filled) -> None:
    """Everything of one's own drawing; of another's what the picture tells."""
    image = images.get_image(db, user, image_id, key=key)
    job = db.get(Job, image.job_id) if image.job_id else None
    if job is not None and job.user_id == user.id and job.type == "generation":
        drawn = picture_job(GenerateJob.model_validate(job.payload), image.job_index or 0)
        _from_job(db, user, job, drawn, filled)
        filled.fields["seed"] = image.meta.get("seed")
    elif image.origin == "uploaded" and (found := found_in(image.infotext)):
        missing = fill_from(db, user, found.info, filled)
        filled.notes += [f"{missing}."] if missing else []
    else:
        _from_meta(db, user, image, filled)


def _from_job(db: Session, user: User, job: Job, drawn: GenerateJob, filled: Filled) -> None:
    filled.base = one_choice(db, user, "Checkpoint", drawn.base.model_version_id)
    if filled.base is None:
        filled.notes.append(f"{drawn.base.name} is not installed here.")
    filled.fields = {
        name: getattr(drawn, name)
        for name in ("prompt", "negative_prompt", "sampler", "schedule", "steps", "cfg_scale", "clip_skip",
                     "width", "height")
    } | meta_of(drawn)  # fmt: skip
    filled.fields |= {name: job.input.get(name) for name in ("vae_version_id", "text_encoder_version_id")}
    for lora in drawn.loras:
        choice = one_choice(db, user, "LORA", lora.model_version_id)
        if choice is not None:
            filled.add(choice, lora.strength, lora.text_encoder_strength)
        elif not _add_epoch(db, user, lora, filled):
            filled.notes.append(f"{lora.title or lora.name} is not installed here.")
    if drawn.hires is not None:
        hires = {f"hires_{name}": value for name, value in drawn.hires.model_dump(exclude_none=True).items()}
        filled.fields |= {"hires": "on"} | hires
    if drawn.start is not None:
        if drawn.shift is None:  # a clip's first frame stays as it is
            start = drawn.start
            filled.fields |= {name: getattr(start, name) for name in ("denoise", "mask_blur", "mask_padding")}
        filled.fields |= _sources(job.input)


def _sources(asked: dict[str, Any]) -> dict[str, str]:
    found = {}
    for name, field in (("start", "init_image"), ("mask", "mask")):
        for kind, which in (asked.get(field) or {}).items():
            found[name] = f"{kind}:{which}"
    return found


def _add_epoch(db: Session, user: User, lora: LoraRef, filled: Filled) -> bool:
    """The epoch of a training of one's own whose file this is; the form has room for one."""
    row = db.scalar(
        select(TrainingCheckpoint)
        .join(TrainingRun, TrainingRun.job_id == TrainingCheckpoint.job_id)
        .where(TrainingRun.user_id == user.id, TrainingCheckpoint.blob_sha256 == lora.file.sha256)
        .limit(1)
    )
    if row is None or filled.epoch is not None:
        return False
    _try_epoch(db, user, filled, (row.job_id, row.epoch), strength=lora.strength)
    return True


def _from_meta(db: Session, user: User, image: Image, filled: Filled) -> None:
    meta = image.meta
    width, _, height = str(meta.get("Size", "")).partition("x")
    filled.fields = {
        "prompt": image.prompt,
        "negative_prompt": image.negative_prompt,
        "sampler": meta.get("sampler"),
        "schedule": meta.get("Schedule type"),
        "steps": meta.get("steps"),
        "cfg_scale": meta.get("cfgScale"),
        "seed": meta.get("seed"),
        "clip_skip": meta.get("clipSkip"),
        "width": width,
        "height": height,
        **{name: meta.get(name) for name in ("frames", "fps", "shift")},
    }
    if meta.get("Hires upscale"):
        told = {"hires_scale": "Hires upscale", "hires_upscaler": "Hires upscaler",
                "hires_steps": "Hires steps", "hires_denoise": "Denoising strength"}  # fmt: skip
        filled.fields |= {"hires": "on"} | {name: meta.get(key) for name, key in told.items()}
    elif meta.get("workflow"):
        filled.notes.append("This picture was made from a start picture, which is not shared with it.")
    apart = {r.get("name"): r.get("textEncoderWeight") for r in meta.get("resources") or []}
    for resource in image.resources:
        _resource(db, user, resource, apart, filled)


def _resource(db: Session, user: User, resource: Any, apart: dict[Any, Any], filled: Filled) -> None:
    kinds = {"checkpoint": "Checkpoint", "lora": "LORA", "vae": "VAE", "embedding": "TextualInversion"}
    choice = one_choice(db, user, kinds.get(resource.kind, "LORA"), resource.model_version_id)
    if choice is None:
        filled.notes.append(f"{resource.name} is not installed here.")
    elif resource.kind == "checkpoint":
        filled.base = choice
    elif resource.kind == "vae":
        filled.fields["vae_version_id"] = choice.version_id
    elif resource.kind == "lora":
        strength = choice.strength if resource.weight is None else resource.weight
        filled.loras.append(Card(choice, strength, apart.get(choice.file)))
