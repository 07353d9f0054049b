"""What the generator's form starts with: the last used model, a model page, a picture, or an epoch."""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.family import FamilySpec
from app.gallery.picker import Choice, find_base_for, list_choices
from app.gallery.refs import get_version
from app.generation import service
from app.images import service as images
from app.jobs.models import Job
from app.training import service as training


@dataclass
class Filled:
    """The values of the form. `loras` pairs a card with its strength."""

    base: Choice | None = None
    loras: list[tuple[Choice, float]] = field(default_factory=list)
    epoch: dict[str, Any] | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def from_query(
    db: Session,
    user: User,
    *,
    version: int | None,
    image: int | None,
    training: str | None,
    epoch: int | None,
    key: str | None = None,
) -> Filled:
    """Fill from whatever the address names; `key` opens a picture shared by link.

    Errors: NotFound for what the user may not see.
    """
    filled = Filled()
    if image is not None:
        _from_image(db, user, image, key, filled)
    elif training is not None and epoch is not None:
        _from_epoch(db, user, training, epoch, filled)
    elif version is not None:
        _from_version(db, user, version, filled)
    if filled.base is None:
        filled.base = _last_base(db, user, filled)
    return filled


def _one(db: Session, user: User, kind: str, version_id: int | None) -> Choice | None:
    if version_id is None:
        return None
    found = list_choices(db, user, kind, version_ids=[version_id])
    return found[0] if found else None


def _from_version(db: Session, user: User, version_id: int, filled: Filled) -> None:
    version = get_version(db, user, version_id)
    if version.model.type == "Checkpoint":
        filled.base = _one(db, user, "Checkpoint", version_id)
        return
    lora = _one(db, user, "LORA", version_id)
    if lora is not None:
        filled.loras.append((lora, lora.strength))
        filled.fields["prompt"] = ", ".join(lora.trained_words)
        filled.base = find_base_for(db, user, lora)


def _from_epoch(db: Session, user: User, training_id: str, epoch: int, filled: Filled) -> None:
    row = training.get_checkpoint(db, user, training_id, epoch)
    job, run = training.get_training(db, user, training_id)
    filled.epoch = {"training": job.id, "epoch": epoch, "name": run.name, "strength": 0.8, "size": row.size}
    filled.base = _one(db, user, "Checkpoint", run.base_version_id)
    prompts = job.payload.get("sample_prompts") or []
    filled.fields["prompt"] = prompts[0]["prompt"] if prompts else run.trigger_word


def _from_image(db: Session, user: User, image_id: int, key: str | None, filled: Filled) -> None:
    image = images.get_image(db, user, image_id, key=key)
    meta = image.meta
    width, _, height = str(meta.get("Size", "")).partition("x")
    filled.fields = {
        "prompt": image.prompt,
        "negative_prompt": image.negative_prompt,
        "sampler": meta.get("sampler"),
        "steps": meta.get("steps"),
        "cfg_scale": meta.get("cfgScale"),
        "seed": meta.get("seed"),
        "clip_skip": meta.get("clipSkip"),
        "width": width,
        "height": height,
    }
    for resource in image.resources:
        kind = "Checkpoint" if resource.kind == "checkpoint" else "LORA"
        choice = _one(db, user, kind, resource.model_version_id)
        if choice is None:
            filled.notes.append(f"{resource.name} is not installed here.")
        elif kind == "Checkpoint":
            filled.base = choice
        else:
            filled.loras.append((choice, resource.weight if resource.weight is not None else choice.strength))


def _last_base(db: Session, user: User, filled: Filled) -> Choice | None:
    if filled.loras:
        return find_base_for(db, user, filled.loras[0][0])
    last = db.scalar(
        select(Job.input["model_version_id"].as_integer())
        .where(Job.user_id == user.id, Job.type == "generation")
        .order_by(Job.seq.desc())
        .limit(1)
    )
    found = _one(db, user, "Checkpoint", last)
    if found is not None:
        return found
    return next((b for b in list_choices(db, user, "Checkpoint") if b.family), None)


def eta_label(db: Session, spec: FamilySpec) -> str:
    """Words for the button, empty before anything was measured here."""
    size = spec.generation
    seconds = service.eta_seconds(db, spec.name, float(size.steps * size.width * size.height))
    return f"about {max(1, round(seconds))} s" if seconds else ""
