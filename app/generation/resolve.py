"""The LoRAs and embeddings of a request: those that it lists, and those that its prompts name.

A `<lora:name:weight>` tag that is found becomes a resource and leaves the text; one that is not
found stays, and is told. Nothing is dropped in silence: `notes` holds what a person should know.
"""

import re
from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.jobs import BlobRef, CheckpointRef, EmbeddingRef, LoraRef
from app.core.errors import FieldError, Invalid
from app.gallery import refs
from app.gallery.matching import fit, nature_of, nature_of_ref
from app.gallery.models import ModelVersion
from app.generation import names
from app.generation.schemas import MAX_STRENGTH, MIN_STRENGTH, EpochOf, GenerationIn, ResourceIn
from app.training import service as training
from app.training.schemas import Warned
from worker.inference.prompt import LoraTag, read_prompt

EPOCH_STRENGTH = 0.8
MAX_TAGS = 20
"""LoRAs that a prompt may name."""


@dataclass
class Resources:
    """`prompt` is the text without the tags that were found; `fields` says where each LoRA came from."""

    base: CheckpointRef
    prompt: str
    loras: list[LoraRef] = field(default_factory=list)
    fields: list[str] = field(default_factory=list)
    embeddings: list[EmbeddingRef] = field(default_factory=list)
    notes: list[Warned] = field(default_factory=list)

    def add(self, lora: LoraRef, pointer: str) -> None:
        self.loras.append(lora)
        self.fields.append(pointer)

    def note(self, code: str, words: str) -> None:
        self.notes.append(Warned(code=code, detail=words))


def resolve(db: Session, user: User, body: GenerationIn, base: CheckpointRef) -> Resources:
    """Errors: Invalid `lora-base-mismatch`, `duplicate-lora`; NotFound for what is not there."""
    found = Resources(base, body.prompt)
    for n, wanted in enumerate(body.resources):
        _listed(db, user, wanted, found, f"#/resources/{n}")
    if body.checkpoint_of_training is not None:
        found.add(epoch_ref(db, user, body.checkpoint_of_training), "#/checkpoint_of_training")
    prompt, negative = read_prompt(body.prompt), read_prompt(body.negative_prompt or "")
    if len(prompt.loras) > MAX_TAGS:
        words = f"names {len(prompt.loras)} LoRAs; at most {MAX_TAGS} are possible"
        raise Invalid(f"The prompt {words}.", [FieldError("#/prompt", words, "too-many")])
    for tag in prompt.loras:
        _tagged(db, user, tag, found)
    for words in prompt.ignored:
        found.note("tag-ignored", f"{words} means nothing here: it is ignored.")
    if negative.loras or negative.ignored:
        found.note("tag-ignored", "LoRAs in the negative prompt have no effect: they are ignored.")
    for words in refs.check_loras(db, base, found.loras, found.fields):
        found.note("lora-relative", words)
    _embeddings(db, user, body, found)
    return found


def _listed(db: Session, user: User, wanted: ResourceIn, found: Resources, where: str) -> None:
    version = refs.get_version(db, user, wanted.model_version_id)
    if version.model.type != names.EMBEDDING:
        lora = refs.lora_ref(db, user, version.id, wanted.strength, where)
        found.add(with_strengths(lora, lora.strength, wanted.text_encoder_strength), where)
        return
    if wanted.strength is not None or wanted.text_encoder_strength is not None:
        words = "an embedding has no strength; write (name:1.2) in the prompt"
        raise Invalid(f"{version.model.name}: {words}.", [FieldError(where, words, "no-effect")])
    found.embeddings.append(refs.embedding_ref(db, user, found.base, version.id, where))


def with_strengths(lora: LoraRef, strength: float, text_encoder: float | None) -> LoraRef:
    """The LoRA at these strengths; None = the text encoder's as the other."""
    apart = text_encoder if text_encoder != strength else None
    return lora.model_copy(update={"strength": strength, "text_encoder_strength": apart})


def epoch_ref(db: Session, user: User, source: EpochOf) -> LoraRef:
    """The adapter of one epoch of a training. Errors: NotFound."""
    row = training.get_checkpoint(db, user, source.id, source.epoch)
    job, run = training.get_training(db, user, source.id)
    lora = LoraRef(
        file=BlobRef(sha256=row.blob_sha256, size=row.size, name=row.name),
        name=row.name.removesuffix(".safetensors"),
        title=run.name,
        strength=EPOCH_STRENGTH,
        base_model=job.payload["base"]["base_model"],
        autov3=row.tensor_sha256[:12],
    )
    if row.low_noise and row.low_noise_sha256:
        second = BlobRef(sha256=row.low_noise_sha256, size=row.low_noise["size"], name=row.low_noise["name"])
        lora = lora.model_copy(update={"low_noise": second})
    strength = EPOCH_STRENGTH if source.strength is None else source.strength
    return with_strengths(lora, strength, source.text_encoder_strength)


# tags


def _tagged(db: Session, user: User, tag: LoraTag, found: Resources) -> None:
    """One `<lora:…>` of the prompt: it sets a LoRA of the list, or brings one of the models here."""
    strength, text_encoder = _held(tag, found)
    called = {tag.name.lower(), tag.name.lower().removesuffix(".safetensors")}
    for n, lora in enumerate(found.loras):
        if {lora.name.lower(), lora.title.lower()} & called:
            found.loras[n] = with_strengths(lora, strength, text_encoder)
            found.prompt = without_tag(found.prompt, tag.name)
            return
    version = _choose(db, user, tag, found)
    if version is not None:
        lora = refs.lora_ref(db, user, version.id, strength, "#/prompt")
        found.add(with_strengths(lora, strength, text_encoder), "#/prompt")
        found.prompt = without_tag(found.prompt, tag.name)


def _held(tag: LoraTag, found: Resources) -> tuple[float, float]:
    """Strengths of the U-Net and of the text encoder, within what is possible."""
    asked = (tag.unet, tag.text_encoder)
    unet, text_encoder = (max(MIN_STRENGTH, min(MAX_STRENGTH, number)) for number in asked)
    if (unet, text_encoder) != asked:
        words = f"The strength of “{tag.name}” was brought into the range from -1 to 2."
        found.note("strength-limited", words)
    return unet, text_encoder


def _choose(db: Session, user: User, tag: LoraTag, found: Resources) -> ModelVersion | None:
    """The one that a name means: of those that fit this checkpoint, one's own and newest."""
    versions = names.find_loras(db, user, tag.name)
    fitting = [version for version in versions if fit(nature_of_ref(found.base), nature_of(version)).usable]
    if not versions:
        words = f"There is no LoRA “{tag.name}” here, so it has no effect. Upload it or take it out."
        found.note("lora-unknown", words)
        return None
    if len(fitting) > 1:
        chosen = f"{fitting[0].model.name}, {fitting[0].name}"
        words = f"{len(fitting)} LoRAs are called “{tag.name}”. {chosen} is used; choose another in the list."
        found.note("lora-ambiguous", words)
    return fitting[0] if fitting else versions[0]


def without_tag(prompt: str, name: str) -> str:
    """The prompt without the tags that name this LoRA, and without the comma before them."""
    tag = rf"(?:\s*,\s*|\s+)?<(?:lora|lyco):\s*{re.escape(name)}\s*(?::[^<>]*)?>"
    return re.sub(tag, "", prompt, flags=re.IGNORECASE).strip().lstrip(", ")


def _embeddings(db: Session, user: User, body: GenerationIn, found: Resources) -> None:
    """Those that the prompts name are used; one that is only listed does nothing, and that is told."""
    texts = (found.prompt, body.negative_prompt or "")
    for embedding in found.embeddings:
        if not names.stands_in("\n".join(texts), embedding.name):
            words = f"“{embedding.name}” acts only where it is written: put it into a prompt."
            found.note("embedding-unused", words)
    listed = {embedding.name.lower() for embedding in found.embeddings}
    named = refs.embeddings_in(db, user, found.base, *texts)
    found.embeddings += [each for each in named if each.name.lower() not in listed]
