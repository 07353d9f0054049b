"""The wizard's memory: a draft on the server, saved at every change, so that nothing typed is lost."""

import re
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.db import utcnow
from app.core.errors import FieldError, Invalid, NotFound
from app.core.ids import new_id
from app.datasets import service as datasets
from app.gallery.matching import fit_vae
from app.gallery.picker import Choice, list_choices
from app.jobs.models import Job
from app.training import service
from app.training.models import TrainingDraft
from app.training.plan import find_base
from app.training.schemas import BaseIn, TrainingIn
from app.web.forms import plain_words

LEET = {"a": "4", "e": "3", "i": "1", "o": "0"}
TYPES = (
    (
        "character",
        "Person or character",
        "Somebody or some figure that should look the same in every picture.",
    ),
    ("style", "Style", "A way of painting or photographing, on any subject."),
    ("concept", "Object or concept", "A thing, a place, a garment, a pose."),
)


def create_draft(db: Session, user: User) -> TrainingDraft:
    """A new draft with a base model chosen where one is installed."""
    bases = list_bases(db, user)
    fields: dict[str, Any] = {"type": "style", "preset": "normal"}
    if bases:
        fields["base"] = bases[0].version_id
    draft = TrainingDraft(id=new_id("draft"), user_id=user.id, fields=fields)
    db.add(draft)
    db.flush()
    return draft


def get_draft(db: Session, user: User, draft_id: str, *, lock: bool = False) -> TrainingDraft:
    """Somebody's own draft. Errors: NotFound."""
    query = select(TrainingDraft).where(TrainingDraft.id == draft_id, TrainingDraft.user_id == user.id)
    draft = db.scalar(query.with_for_update() if lock else query)
    if draft is None:
        raise NotFound("This draft does not exist any more. Start a new one.")
    return draft


def list_drafts(db: Session, user: User) -> list[TrainingDraft]:
    """Unfinished drafts, newest first."""
    query = select(TrainingDraft).where(TrainingDraft.user_id == user.id, TrainingDraft.job_id.is_(None))
    return list(db.scalars(query.order_by(TrainingDraft.updated_at.desc()).limit(12)))


def delete_draft(db: Session, user: User, draft_id: str) -> None:
    db.delete(get_draft(db, user, draft_id))


def list_bases(db: Session, user: User) -> list[Choice]:
    """Checkpoints that can be trained on here."""
    return [choice for choice in list_choices(db, user, "Checkpoint") if choice.family is not None]


@dataclass(frozen=True)
class Vae:
    """A VAE for the form, and the bases (ids of versions) that it fits."""

    choice: Choice
    fits: tuple[int, ...]


@dataclass(frozen=True)
class Offer:
    """What step 1 shows: checkpoints to train on, those that cannot be, and VAEs for the first."""

    bases: list[Choice]
    others: list[Choice]
    vaes: list[Vae]


def list_offer(db: Session, user: User) -> Offer:
    found = list_choices(db, user, "Checkpoint")
    bases = [choice for choice in found if choice.family is not None]
    fits = [
        Vae(vae, tuple(b.version_id for b in bases if fit_vae(b.nature, vae.nature).usable))
        for vae in list_choices(db, user, "VAE")
    ]
    return Offer(bases, [c for c in found if c not in bases], [vae for vae in fits if vae.fits])


def save_about(
    db: Session,
    user: User,
    draft_id: str,
    *,
    type: str,
    name: str,
    base: int | None,
    trigger: str,
    vae: int | None = None,
) -> TrainingDraft:
    """Step 1. Errors: Invalid by field name, with the draft saved as far as it is right."""
    draft = get_draft(db, user, draft_id)
    words = trigger.strip() or (suggest_trigger(name, type) if "trigger_word" not in draft.fields else "")
    about = {"type": type, "name": name.strip(), "base": base, "vae": vae, "trigger_word": words}
    draft.fields = {**draft.fields, **about}
    wrong = []
    if not 1 <= len(name.strip()) <= 60:
        wrong.append(FieldError("name", "Give the training a name of 1 to 60 letters."))
    if type not in {key for key, _, _ in TYPES}:
        wrong.append(FieldError("type", "Choose what it is."))
    if base is None:
        wrong.append(FieldError("base", "Choose a base model."))
    else:
        wrong += _wrong_base(db, user, base, vae)
    if re.search(r"[,()\[\]:<>|\\]", words):
        wrong.append(FieldError("trigger_word", "The trigger word cannot hold commas, colons or brackets."))
    if wrong:
        raise Invalid("Some fields are wrong.", wrong)
    return draft


def _wrong_base(db: Session, user: User, base: int, vae: int | None) -> list[FieldError]:
    """Why these two cannot be trained with, at the field that is to be changed; empty where they can."""
    try:
        find_base(db, user, BaseIn(model_version_id=base, vae_version_id=vae))
    except Invalid as error:
        at_vae = any(e.pointer.endswith("vae_version_id") for e in error.errors)
        return [FieldError("vae" if at_vae else "base", error.detail, error.code)]
    except NotFound:
        return [FieldError("vae", "This VAE is no longer here. Choose another one.")]
    return []


def suggest_trigger(name: str, type: str) -> str:
    """A word that the model does not know yet: `anna-lee` → `annal3e`; a style keeps its plain name."""
    word = re.sub(r"[^a-z0-9]+", "", name.lower())[:20]
    if type == "style":
        return word
    for at in range(len(word) - 1, 0, -1):
        if word[at] in LEET:
            return word[:at] + LEET[word[at]] + word[at + 1 :]
    return word


def open_dataset(db: Session, user: User, draft: TrainingDraft) -> Any:
    """The set of this draft, made at the first visit of step 2."""
    if draft.dataset_id is None:
        dataset = datasets.create_dataset(
            db, user, name=draft.fields.get("name") or "New set", media="image", label_type="tag"
        )
        draft.dataset_id = dataset.id
        db.flush()
    return datasets.get_dataset(db, user, draft.dataset_id)


def use_dataset(db: Session, user: User, draft_id: str, dataset_id: str) -> None:
    """Take a set that exists already. Errors: Invalid for clips as long as no family trains on them."""
    draft = get_draft(db, user, draft_id)
    dataset = datasets.get_dataset(db, user, dataset_id)
    datasets.check_usable(dataset)
    draft.dataset_id = dataset.id


def confirm_rights(db: Session, user: User, draft_id: str, *, rights: bool) -> None:
    """Step 2's promise, kept with its time. Errors: Invalid when it was not given."""
    draft = get_draft(db, user, draft_id)
    if not rights:
        raise Invalid(
            "Tick the box: without the right to use the pictures nothing can be trained.",
            [FieldError("rights", "Tick this box to go on.")],
        )
    draft.rights_at = draft.rights_at or utcnow()


def save_review(db: Session, user: User, draft_id: str, changes: dict[str, Any]) -> TrainingDraft:
    """Step 3: preset, params and sample prompts as typed.

    No prompts mean that none are wanted, once some were proposed.
    """
    draft = get_draft(db, user, draft_id)
    if not changes.get("sample_prompts") and "sample_prompts" not in draft.fields:
        changes = {key: value for key, value in changes.items() if key != "sample_prompts"}
    draft.fields = {**draft.fields, **changes}
    return draft


def draft_body(draft: TrainingDraft) -> TrainingIn:
    """The request that the draft stands for. Errors: Invalid by field name."""
    fields = draft.fields
    prompts = fields.get("sample_prompts")
    try:
        return TrainingIn(
            name=fields.get("name", ""),
            type=fields.get("type", ""),
            dataset=draft.dataset_id or "",
            base={"model_version_id": fields.get("base"), "vae_version_id": fields.get("vae")},
            trigger_word=fields.get("trigger_word", ""),
            preset=fields.get("preset", "normal"),
            params={k: v for k, v in fields.get("params", {}).items() if v not in (None, "")},
            sample_prompts=prompts,
            continue_from=fields.get("continue_from"),
        )
    except ValidationError as error:
        wrong = [FieldError(str(e["loc"][0]) if e["loc"] else "", plain_words(e)) for e in error.errors()]
        raise Invalid("Some fields are wrong. Go back and correct them.", wrong) from error


def start_draft(db: Session, user: User, draft_id: str) -> Job:
    """Start the training once: a second click finds the job that the first one made."""
    draft = get_draft(db, user, draft_id, lock=True)
    if draft.job_id is not None:
        job, _ = service.get_training(db, user, draft.job_id)
        return job
    if draft.rights_at is None:
        raise Invalid("Go back to the pictures and confirm that you may use them.", code="rights-missing")
    job = service.start_training(db, user, draft_body(draft))
    draft.job_id = job.id
    return job


def duplicate_settings(
    db: Session, user: User, training_id: str, *, epoch: int | None = None
) -> TrainingDraft:
    """A new draft with the settings of a former run; with `epoch`, it trains that one further."""
    job, run = service.get_training(db, user, training_id)
    draft = create_draft(db, user)
    echoed = job.input
    draft.fields = {
        "type": run.type,
        "name": run.name,
        "base": run.base_version_id,
        "vae": echoed.get("base", {}).get("vae_version_id"),
        "trigger_word": run.trigger_word,
        "preset": run.preset,
        "params": {} if epoch else {k: v for k, v in echoed.get("params", {}).items() if v is not None},
        "sample_prompts": echoed.get("sample_prompts", []),
    }
    if epoch:
        service.get_checkpoint(db, user, training_id, epoch)
        draft.fields["continue_from"] = {"training": training_id, "epoch": epoch}
    draft.dataset_id = run.dataset_id
    return draft
