"""The wizard's memory: a draft on the server, saved at every change, so that nothing typed is lost."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.family import FamilySpec
from app.core.db import utcnow
from app.core.errors import FieldError, Invalid, NotFound
from app.core.ids import new_id
from app.datasets import service as datasets
from app.gallery.matching import Fit, Nature, fit_text, fit_vae
from app.gallery.picker import Choice, list_choices
from app.gallery.refs import lacking
from app.jobs.models import Job
from app.training import service
from app.training.models import TrainingDraft
from app.training.plan import family_spec, find_base
from app.training.schemas import BaseIn, TrainingIn
from app.web.forms import plain_words
from worker.families import catalog
from worker.families.resolve import ParamErrors, resolve_params

LEET = {"a": "4", "e": "3", "i": "1", "o": "0"}
TYPES = (
    (
        "character",
        "Person or character",
        "Somebody or some figure that should always look the same.",
    ),
    ("style", "Style", "A way of painting, photographing or filming, on any subject."),
    ("concept", "Object or concept", "A thing, a place, a garment, a pose, a way to move."),
)
MEDIA = (
    ("image", "Pictures", "About fifteen pictures teach a person, a thing or a style."),
    ("video", "Video", "A handful of short clips teach how something moves, too."),
)
CUTTING = ("clip_frames", "clip_windows", "clip_count", "clip_stride")
WRONG_MEDIA = {
    "image": "This base model trains on clips alone. Choose another one, or Video above.",
    "video": "This base model trains on pictures alone. Choose another one, or Pictures above.",
}


def create_draft(db: Session, user: User) -> TrainingDraft:
    """A new draft of pictures, with a base model chosen where one is installed."""
    fields: dict[str, Any] = {"type": "style", "preset": "normal", "media": "image"}
    if (base := _first_base(db, user, "image")) is not None:
        fields["base"] = base
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
    return [base for base in _checkpoints(db, user) if base.family is not None and not base.missing]


def _checkpoints(db: Session, user: User) -> list[Choice]:
    """All checkpoints, each with what it lacks."""
    found = list_choices(db, user, "Checkpoint")
    missing = lacking(db, user, found)
    return [replace(choice, missing=missing.get(choice.version_id, "")) for choice in found]


def _first_base(db: Session, user: User, media: str) -> int | None:
    return next((b.version_id for b in list_bases(db, user) if media in media_of(b)), None)


def media_of(base: Choice) -> tuple[str, ...]:
    """What can be trained on with this checkpoint: `image`, `video` or both."""
    spec = catalog.specs().get(base.family or "")
    return spec.media if spec else ()


def draft_media(draft: TrainingDraft) -> str:
    """`image` or `video`; drafts from before there was a choice are of pictures."""
    return str(draft.fields.get("media") or "image")


@dataclass(frozen=True)
class Part:
    """A VAE or text encoder for the form, and the bases (ids of versions) that it fits."""

    choice: Choice
    fits: tuple[int, ...]


@dataclass(frozen=True)
class Offer:
    """What step 1 shows: checkpoints to train on, those that cannot be, and parts for the first."""

    bases: list[Choice]
    others: list[Choice]
    vaes: list[Part]
    texts: list[Part]

    @property
    def media(self) -> list[tuple[str, str, str]]:
        """What there is to choose from; empty where only pictures can be trained on."""
        able = {media for base in self.bases for media in media_of(base)}
        return [row for row in MEDIA if row[0] in able] if "video" in able else []


def list_offer(db: Session, user: User) -> Offer:
    found = _checkpoints(db, user)
    bases = [choice for choice in found if choice.family is not None and not choice.missing]
    vaes = _parts(bases, list_choices(db, user, "VAE"), fit_vae)
    texts = _parts(bases, list_choices(db, user, "TextEncoder"), fit_text)
    return Offer(bases, [c for c in found if c not in bases], vaes, texts)


def _parts(bases: list[Choice], found: list[Choice], judge: Callable[[Nature, Nature], Fit]) -> list[Part]:
    """Those that fit any of the bases."""
    parts = (
        Part(part, tuple(b.version_id for b in bases if judge(b.nature, part.nature).usable))
        for part in found
    )
    return [part for part in parts if part.fits]


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
    text: int | None = None,
    media: str = "image",
) -> TrainingDraft:
    """Step 1. Errors: Invalid by field name, with the draft saved as far as it is right."""
    draft = get_draft(db, user, draft_id)
    words = trigger.strip() or (suggest_trigger(name, type) if "trigger_word" not in draft.fields else "")
    about = {"type": type, "name": name.strip(), "base": base, "vae": vae, "text": text}
    about["trigger_word"] = words
    if media in {key for key, _, _ in MEDIA}:
        about["media"] = media
    draft.fields = {**draft.fields, **about}
    wrong = []
    if not 1 <= len(name.strip()) <= 60:
        wrong.append(FieldError("name", "Give the training a name of 1 to 60 letters."))
    if type not in {key for key, _, _ in TYPES}:
        wrong.append(FieldError("type", "Choose what it is."))
    if base is None:
        wrong.append(FieldError("base", "Choose a base model."))
    else:
        parts = BaseIn(model_version_id=base, vae_version_id=vae, text_encoder_version_id=text)
        wrong += _wrong_base(db, user, parts, draft_media(draft))
    if re.search(r"[,()\[\]:<>|\\]", words):
        wrong.append(FieldError("trigger_word", "The trigger word cannot hold commas, colons or brackets."))
    if wrong:
        raise Invalid("Some fields are wrong.", wrong)
    _forget_others(db, user, draft)
    return draft


def _forget_others(db: Session, user: User, draft: TrainingDraft) -> None:
    """Drop settings that the chosen base does not have: step 3 shows no field to correct them in."""
    found = list_choices(db, user, "Checkpoint", version_ids=[draft.fields.get("base") or 0])
    spec = catalog.specs().get(found[0].family or "") if found else None
    if spec is None:
        return
    fields = {**draft.fields}
    fields["params"] = {k: v for k, v in fields.get("params", {}).items() if k in spec.params}
    if "sample_prompts" in fields and (spec.clips is None or draft_media(draft) == "image"):
        fields["sample_prompts"] = [
            {k: v for k, v in prompt.items() if k != "frames"} for prompt in fields["sample_prompts"]
        ]
    draft.fields = fields


def _wrong_base(db: Session, user: User, base: BaseIn, media: str) -> list[FieldError]:
    """Why these cannot be trained with, at the field that is to be changed; empty where they can."""
    try:
        ref = find_base(db, user, base)
    except Invalid as error:
        ends = {e.pointer.rpartition("/")[2] for e in error.errors}
        at = "vae" if "vae_version_id" in ends else "text" if "text_encoder_version_id" in ends else "base"
        return [FieldError(at, error.detail, error.code)]
    except NotFound:
        return _gone(db, user, base)
    if media not in family_spec(ref).media:
        return [FieldError("base", WRONG_MEDIA[media], "dataset-media")]
    return []


def _gone(db: Session, user: User, base: BaseIn) -> list[FieldError]:
    """The first of the chosen parts that is no longer here."""
    vae = base.vae_version_id
    if vae and not list_choices(db, user, "VAE", version_ids=[vae]):
        return [FieldError("vae", "This VAE is no longer here. Choose another one.")]
    return [FieldError("text", "This text encoder is no longer here. Choose another one.")]


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
    """The set of this draft, made at the first visit of step 2, and again once it is to hold other media."""
    media = draft_media(draft)
    if draft.dataset_id is not None:
        dataset = datasets.get_dataset(db, user, draft.dataset_id)
        if dataset.media == media:
            return dataset
        if not datasets.describe(db, dataset).items and datasets.can_edit_dataset(user, dataset):
            datasets.delete_dataset(db, user, dataset.id)
    dataset = datasets.create_dataset(db, user, name=draft.fields.get("name") or "New set", media=media)
    draft.dataset_id = dataset.id
    db.flush()
    return dataset


def use_dataset(db: Session, user: User, draft_id: str, dataset_id: str) -> None:
    """Take a set that exists already, and a base that trains on what it holds.

    Errors: NotFound, Invalid for clips as long as no family trains on them.
    """
    draft = get_draft(db, user, draft_id)
    dataset = datasets.get_dataset(db, user, dataset_id)
    datasets.check_usable(dataset)
    draft.dataset_id = dataset.id
    fitting = {b.version_id for b in list_bases(db, user) if dataset.media in media_of(b)}
    base = draft.fields.get("base")
    if base not in fitting:
        base = _first_base(db, user, dataset.media)
    draft.fields = {**draft.fields, "media": dataset.media, "base": base}
    _forget_others(db, user, draft)


def draft_cut(draft: TrainingDraft, spec: FamilySpec | None) -> dict[str, Any] | None:
    """How a training of this draft would cut clips: family, mode, length and so on; None without clips."""
    if spec is None or spec.clips is None:
        return None
    typed = {k: v for k, v in draft.fields.get("params", {}).items() if v not in (None, "")}
    try:
        params = resolve_params(spec, "style", "normal", 1, {k: v for k, v in typed.items() if k in CUTTING})
    except ParamErrors:
        params = resolve_params(spec, "style", "normal", 1, {})
    cut = {
        "family": spec.name,
        "mode": params.clip_windows,
        "length": params.clip_frames,
        "count": params.clip_count,
    }
    return cut | ({"stride": params.clip_stride} if params.clip_stride else {})


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
            base={
                "model_version_id": fields.get("base"),
                "vae_version_id": fields.get("vae"),
                "text_encoder_version_id": fields.get("text"),
            },
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
        "media": echoed.get("media", "image"),
        "base": run.base_version_id,
        "vae": echoed.get("base", {}).get("vae_version_id"),
        "text": echoed.get("base", {}).get("text_encoder_version_id"),
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
