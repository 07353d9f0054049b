"""What the generator's form holds when it is drawn: cards, values by the names of its fields, and notes."""

from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.family import ClipDefaults, FamilySpec
from app.contract.samplers import AUTOMATIC, split_sampler
from app.core.errors import AppError
from app.gallery.matching import Fit, fit
from app.gallery.picker import Choice, find_base_for, list_choices
from app.generation.clips import legal_lengths, nearest_length, samplers_of
from app.images import service as images
from app.images.paths import poster_path
from app.jobs.models import Job
from app.training import service as training
from app.training.models import TrainingCheckpoint, TrainingRun
from app.uploads import service as uploads
from worker.families import catalog

UNKNOWN_SAMPLER = "DPM++ 2M Karras"
"""Taken for a sampler that there is not here."""
MAX_CLIP_SKIP = 4
MAX_RATE = 60


@dataclass
class Card:
    """A LoRA of the form. `fit` says why it is greyed, or what to expect."""

    choice: Choice
    strength: float
    text_encoder: float | None = None
    fit: Fit = field(default_factory=lambda: Fit(True))


@dataclass
class Filled:
    """`fields` has the names and texts of the form's own fields. `good` says where they came from."""

    base: Choice | None = None
    loras: list[Card] = field(default_factory=list)
    epoch: dict[str, Any] | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    good: str = ""
    start_url: str = ""
    mask_url: str = ""
    media: str = ""
    """What the model is wanted for where none is named: `image`, `video`, or whatever was last used."""

    @property
    def spec(self) -> FamilySpec | None:
        return catalog.specs().get(self.base.family or "") if self.base else None

    def add(self, choice: Choice | None, strength: float | None = None, apart: float | None = None) -> None:
        """A LoRA's card, once."""
        if choice and all(choice.version_id != card.choice.version_id for card in self.loras):
            self.loras.append(Card(choice, choice.strength if strength is None else strength, apart))


def one_choice(db: Session, user: User, kind: str, version_id: Any) -> Choice | None:
    """The card of a version that this person may use; None for anything else."""
    if not str(version_id or "").isdigit():
        return None
    found = list_choices(db, user, kind, version_ids=[int(str(version_id)[:9])])
    return found[0] if found else None


def finish(db: Session, user: User, filled: Filled) -> Filled:
    """Choose a base where none is, hold the cards against it, and keep what is still there."""
    if filled.base is not None and filled.spec is None:
        filled.notes.insert(0, f"{filled.base.name} {filled.base.obstacle or 'cannot draw here yet'}.")
        filled.base = None
    if filled.base is None:
        filled.base = _last_base(db, user, filled)
    if filled.base is not None:
        for card in filled.loras:
            card.fit = fit(filled.base.nature, card.choice.nature)
    _open_pictures(db, user, filled)
    if filled.spec is not None:
        bring_into_limits(filled, filled.spec)
    return filled


def _last_base(db: Session, user: User, filled: Filled) -> Choice | None:
    if filled.loras:
        found = find_base_for(db, user, filled.loras[0].choice)
        if found is not None:
            return found
    last = (
        select(Job.input["model_version_id"].as_integer())
        .where(Job.user_id == user.id, Job.type == "generation")
        .order_by(Job.seq.desc())
        .limit(1)
    )
    if filled.media:
        frames = Job.payload["frames"].as_integer()
        last = last.where(frames > 1 if filled.media == "video" else func.coalesce(frames, 1) == 1)
    found = one_choice(db, user, "Checkpoint", db.scalar(last))
    if found is not None and found.family and _draws(found, filled.media):
        return found
    return next(
        (b for b in list_choices(db, user, "Checkpoint") if b.family and _draws(b, filled.media)), None
    )


def _draws(base: Choice, media: str) -> bool:
    spec = catalog.specs().get(base.family or "")
    return not media or (spec is not None and (spec.clips is not None) == (media == "video"))


def media_drawn(db: Session, user: User) -> tuple[str, ...]:
    """What the checkpoints that this person may use can draw: `image`, `video` or both."""
    bases = [base for base in list_choices(db, user, "Checkpoint", limit=500) if base.family]
    return tuple(media for media in ("image", "video") if any(_draws(base, media) for base in bases))


def _open_pictures(db: Session, user: User, filled: Filled) -> None:
    """Addresses of the start picture and the mask; what is gone is said."""
    for name, words in (("start", "The start picture"), ("mask", "The mask")):
        kind, _, which = str(filled.fields.get(name) or "").partition(":")
        if not which:
            continue
        try:
            url = _picture_url(db, user, kind, which)
        except AppError:
            filled.fields[name] = ""
            filled.notes.append(f"{words} is not here any more. Choose it again.")
            continue
        setattr(filled, f"{name}_url", url)
    if not filled.fields.get("start"):
        filled.fields["mask"] = ""


def _picture_url(db: Session, user: User, kind: str, which: str) -> str:
    if kind == "image" and which.isdigit():
        image = images.get_image(db, user, int(which[:9]))
        return poster_path(image) if image.is_clip else f"/images/{image.id}/file"
    return f"/generate/pictures/{uploads.get_complete(db, user, which).id}"


def bring_into_limits(filled: Filled, spec: FamilySpec) -> None:
    """Values from elsewhere that cannot be drawn here become the nearest that can; a note says it."""
    _sampler(filled, spec)
    _size(filled, spec)
    _steps(filled, spec)
    if spec.clips is not None:
        _clip(filled, spec.clips)
        return
    skip = number(filled.fields.get("clip_skip"))
    if skip is not None and skip > MAX_CLIP_SKIP:
        filled.fields["clip_skip"] = MAX_CLIP_SKIP
        filled.notes.append(f"CLIP skip {skip:g} was brought to {MAX_CLIP_SKIP}, the most that is possible.")


def _steps(filled: Filled, spec: FamilySpec) -> None:
    steps, limits = number(filled.fields.get("steps")), spec.generation
    if steps is not None and steps > limits.max_steps:
        filled.fields["steps"] = limits.max_steps
        filled.notes.append(f"{steps:g} steps were brought to {limits.max_steps}, the most for this model.")


def _clip(filled: Filled, clips: ClipDefaults) -> None:
    frames, fps, shift = (number(filled.fields.get(name)) for name in ("frames", "fps", "shift"))
    filled.fields |= {"frames": None if frames is None else int(frames), "fps": fps, "shift": shift}
    if fps is not None and not 1 <= fps <= MAX_RATE:
        filled.fields["fps"] = None
        filled.notes.append(f"{fps:g} frames a second are not possible; {clips.rule.fps:g} are used.")
    if frames is not None and frames not in legal_lengths(clips):
        filled.fields["frames"] = nearest_length(frames, clips)
        words = f"{frames:g} frames were brought to {filled.fields['frames']}, which this model can draw."
        filled.notes.append(words)
    if shift is not None and not 0 < shift <= clips.max_shift:
        filled.fields["shift"] = clips.shift
        filled.notes.append(f"Shift {shift:g} is not possible; {clips.shift:g} is used.")


def _sampler(filled: Filled, spec: FamilySpec) -> None:
    samplers = samplers_of(spec)
    written = str(filled.fields.get("sampler") or "")
    if not written:
        return
    name, schedule = split_sampler(written, str(filled.fields.get("schedule") or AUTOMATIC))
    if name not in samplers:
        usual = spec.generation.sampler if spec.clips else UNKNOWN_SAMPLER
        filled.notes.append(f"There is no sampler {name[:40]} here; {usual} is used.")
        name, schedule = split_sampler(usual)
    if schedule not in samplers[name].schedules:
        filled.notes.append(f"{name} knows no schedule {schedule[:40]}; its own is used.")
        schedule = AUTOMATIC
    filled.fields |= {"sampler": name, "schedule": schedule}


def _size(filled: Filled, spec: FamilySpec) -> None:
    """Sides within the family's limits, in its steps, of the same shape as far as that goes."""
    width, height = number(filled.fields.get("width")), number(filled.fields.get("height"))
    if not width or not height:
        return
    limits = spec.generation
    factor = min(1.0, limits.max_side / max(width, height))
    sides = [
        min(max(round(side * factor / limits.multiple) * limits.multiple, limits.min_side), limits.max_side)
        for side in (width, height)
    ]
    if sides != [width, height]:
        was, now = f"{width:g} × {height:g}", f"{sides[0]} × {sides[1]}"
        filled.notes.append(f"The size {was} was brought to {now}, which this model can draw.")
    filled.fields |= {"width": sides[0], "height": sides[1]}


def number(value: Any) -> float | None:
    """What a field holds; None for what is no number."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if isfinite(found) else None


def epoch_card(
    db: Session, user: User, training_id: str, epoch: int, strength: float = 0.8
) -> dict[str, Any]:
    """What the card of an unpublished epoch shows. Errors: NotFound."""
    row = training.get_checkpoint(db, user, training_id, epoch)
    job, run = training.get_training(db, user, training_id)
    return {
        "training": job.id, "epoch": epoch, "name": run.name, "strength": strength, "size": row.size,
        "stem": row.name.removesuffix(".safetensors"),
    }  # fmt: skip


def list_trainings(db: Session, user: User, base: Choice | None) -> list[dict[str, Any]]:
    """Trainings of this person with epochs for a base like this one, newest first, for the axis of a grid."""
    if base is None:
        return []
    query = (
        select(TrainingRun.job_id, TrainingRun.name, func.count().label("epochs"))
        .join(TrainingCheckpoint, TrainingCheckpoint.job_id == TrainingRun.job_id)
        .where(TrainingRun.user_id == user.id, TrainingRun.family == base.family)
        .group_by(TrainingRun.job_id, TrainingRun.name)
        .order_by(TrainingRun.job_id.desc())
        .limit(20)
    )
    return [{"id": row.job_id, "name": row.name, "epochs": row.epochs} for row in db.execute(query)]
