"""What a job says of a stored model: references that a worker can load without asking the database."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.jobs import BlobRef, CheckpointRef, EmbeddingRef, LoraRef
from app.core.errors import FieldError, Invalid, NotFound
from app.gallery.companions import is_in_pieces, with_companions
from app.gallery.matching import (
    MISMATCH,
    Nature,
    expert_files,
    fit,
    fit_text,
    fit_vae,
    nature_named,
    nature_of,
    nature_of_ref,
    primary_of,
    recognised,
    runs_here,
    why_not,
)
from app.gallery.models import Model, ModelFile, ModelVersion
from app.gallery.permissions import can_view_version
from app.gallery.picker import LORA_TYPES as LORA_TYPES
from app.gallery.picker import Choice, usable_by

_NAME = re.compile(r"[\w.+-]{1,120}")


def get_version(db: Session, viewer: User | None, version_id: int, *, key: str | None = None) -> ModelVersion:
    """Errors: NotFound, also for what this person may not see."""
    version = db.get(ModelVersion, version_id)
    if version is None or not can_view_version(version, viewer, key):
        raise NotFound("This version does not exist, or it is not shared with you.")
    return version


def primary_file(version: ModelVersion) -> ModelFile | None:
    """The file that a plain download gives."""
    return primary_of(version.files)


def _wrong(words: str, code: str, pointer: str = "#/model_version_id") -> Invalid:
    return Invalid(words, [FieldError(pointer, words, code)], code=code)


def checkpoint_ref(
    db: Session,
    viewer: User | None,
    version_id: int,
    *,
    vae_version_id: int | None = None,
    text_encoder_version_id: int | None = None,
) -> CheckpointRef:
    """What a worker needs to load a base, with a VAE or text encoder instead of its own if one is named.

    Errors: Invalid base-model-missing, base-model-unsupported, base-model-incomplete, vae-missing, and those
    of `vae_ref` and `text_ref`.
    """
    version = db.get(ModelVersion, version_id)
    file, low = expert_files(version) if version and can_view_version(version, viewer) else (None, None)
    if version is None or file is None or version.model.type != "Checkpoint":
        words = "There is no such base model here. Choose another one."
        raise _wrong(words, "base-model-missing")
    if not runs_here(version):
        words = f"{version.model.name} {why_not(version)}. Choose another base model."
        raise _wrong(words, "base-model-unsupported")
    seen = recognised(version)
    pieces = is_in_pieces(version)
    if vae_version_id is None and seen is not None and not seen.has_vae and not pieces:
        words = f"{version.model.name} holds no VAE, so it cannot make pictures alone. Choose one for it."
        raise _wrong(words, "vae-missing", "#/vae_version_id")
    ref = CheckpointRef(
        file=_blob_ref(file),
        format=file.format,
        family=version.family or "",
        name=version.model.name,
        base_model=version.base_model,
        model_version_id=version.id,
        low_noise=_blob_ref(low) if low else None,
    )
    if vae_version_id is not None:
        ref = ref.model_copy(update={"vae": vae_ref(db, viewer, ref, vae_version_id)})
    if text_encoder_version_id is not None:
        ref = ref.model_copy(update={"text_encoder": text_ref(db, viewer, ref, text_encoder_version_id)})
    return with_companions(db, viewer, version, ref) if pieces else ref


def lacks(db: Session, viewer: User | None, version: ModelVersion) -> str:
    """What a checkpoint still lacks here that somebody could bring, in words; empty where it can be used."""
    if viewer is None or version.model.type != "Checkpoint" or not is_in_pieces(version):
        return ""
    try:
        checkpoint_ref(db, viewer, version.id)
    except Invalid as error:
        return error.detail
    return ""


def lacking(db: Session, viewer: User, choices: Sequence[Choice]) -> dict[int, str]:
    """Those of these checkpoints that lack something, by the id of their version, with what it is."""
    versions = [db.get(ModelVersion, each.version_id) for each in choices if each.family is not None]
    found = {version.id: lacks(db, viewer, version) for version in versions if version is not None}
    return {number: words for number, words in found.items() if words}


def _blob_ref(file: ModelFile) -> BlobRef:
    return BlobRef(sha256=file.blob_sha256, size=file.size, name=file.name)


def vae_ref(
    db: Session, viewer: User | None, base: CheckpointRef, version_id: int, pointer: str = "#/vae_version_id"
) -> BlobRef:
    """The file of a VAE that can stand in for that of `base`.

    A page of the type VAE, or any whose file was recognised as one. Errors: NotFound, Invalid not-a-vae,
    vae-base-mismatch, vae-base-unknown.
    """
    version = get_version(db, viewer, version_id)
    file, seen = primary_file(version), recognised(version)
    kind = seen.kind if seen and seen.kind != "unknown" else ("vae" if version.model.type == "VAE" else "")
    if file is None or file.format != "SafeTensor" or kind != "vae":
        raise _wrong(f"{version.model.name} is not a VAE.", "not-a-vae", pointer)
    found = fit_vae(_nature_of_base(db, base), nature_of(version))
    if not found.usable:
        raise _wrong(found.words, found.code, pointer)
    return _blob_ref(file)


def text_ref(
    db: Session,
    viewer: User | None,
    base: CheckpointRef,
    version_id: int,
    pointer: str = "#/text_encoder_version_id",
) -> BlobRef:
    """The zip of a text encoder that `base` can read with.

    Errors: NotFound, Invalid not-a-text-encoder, text-encoder-mismatch, tokenizer-missing.
    """
    version = get_version(db, viewer, version_id)
    file, seen = primary_file(version), recognised(version)
    if file is None or seen is None or seen.kind != "text-encoder":
        raise _wrong(f"{version.model.name} is not a text encoder.", "not-a-text-encoder", pointer)
    found = fit_text(_nature_of_base(db, base), nature_of(version))
    if not found.usable:
        raise _wrong(found.words, found.code, pointer)
    return _blob_ref(file)


def lora_ref(
    db: Session,
    viewer: User | None,
    version_id: int,
    strength: float | None = None,
    pointer: str = "#/resources",
) -> LoraRef:
    """What a worker needs to attach a LoRA; its own strength unless given. Errors: NotFound, Invalid."""
    version = get_version(db, viewer, version_id)
    file, low = expert_files(version)
    if file is None or version.model.type not in LORA_TYPES:
        raise _wrong(f"{version.model.name} is not a LoRA.", "not-a-lora", pointer)
    return LoraRef(
        file=_blob_ref(file),
        name=file.name.removesuffix(".safetensors"),
        title=version.model.name,
        low_noise=_blob_ref(low) if low else None,
        strength=version.strength if strength is None else strength,
        base_model=version.base_model,
        model_version_id=version.id,
        autov3=_autov3(file),
    )


def _autov3(file: ModelFile) -> str:
    return str(file.hash_values.get("AutoV3", "")).lower()


def embedding_ref(
    db: Session, viewer: User | None, base: CheckpointRef, version_id: int, pointer: str = "#/embeddings"
) -> EmbeddingRef:
    """A textual inversion for this base; its name in prompts is that of its file, without the ending.

    Errors: NotFound, Invalid not-an-embedding, lora-base-mismatch, lora-base-unknown.
    """
    version = get_version(db, viewer, version_id)
    file = primary_file(version)
    if file is None or file.format != "SafeTensor" or version.model.type != "TextualInversion":
        raise _wrong(f"{version.model.name} is not an embedding.", "not-an-embedding", pointer)
    found = fit(_nature_of_base(db, base), nature_of(version))
    if not found.usable:
        raise _wrong(found.words, found.code, pointer)
    return _embedding(version, file)


def _embedding(version: ModelVersion, file: ModelFile) -> EmbeddingRef:
    return EmbeddingRef(
        file=_blob_ref(file),
        name=PurePosixPath(file.name).stem,
        title=version.model.name,
        base_model=version.base_model,
        model_version_id=version.id,
        autov3=_autov3(file),
    )


def embeddings_in(db: Session, viewer: User, base: CheckpointRef, *texts: str) -> tuple[EmbeddingRef, ...]:
    """The embeddings that these prompts name and that fit `base`; of two of a name one's own."""
    nature = _nature_of_base(db, base)
    found: dict[str, EmbeddingRef] = {}
    for version, file in _named(db, viewer, ("TextualInversion",), _names_in(texts)):
        if file.format == "SafeTensor" and fit(nature, nature_of(version)).usable:
            found.setdefault(PurePosixPath(file.name).stem.lower(), _embedding(version, file))
    return tuple(found.values())


def _names_in(texts: Sequence[str]) -> set[str]:
    """Words that could be names, lower case, with and without punctuation at their ends."""
    words = {word.lower() for text in texts for word in _NAME.findall(text)}
    return words | {word.strip(".+-") for word in words} - {""}


def _named(
    db: Session, viewer: User, types: Sequence[str], names: set[str]
) -> list[tuple[ModelVersion, ModelFile]]:
    stem = func.lower(func.regexp_replace(ModelFile.name, r"\.[^.]*$", ""))
    query = (
        usable_by(select(ModelVersion, ModelFile).join(ModelVersion.files).join(Model), viewer, types)
        .where(ModelFile.is_primary, stem.in_(sorted(names)))
        .order_by((Model.user_id == viewer.id).desc(), ModelVersion.id.desc())
        .limit(100)
    )
    return [(row[0], row[1]) for row in db.execute(query).unique()]


def _nature_of_base(db: Session, base: CheckpointRef) -> Nature:
    version = db.get(ModelVersion, base.model_version_id) if base.model_version_id else None
    return nature_of_ref(base, version)


def check_loras(
    db: Session, base: CheckpointRef, loras: Sequence[LoraRef], pointers: Sequence[str] = ()
) -> list[str]:
    """Can these LoRAs be used on `base`, together? Gives words on what to expect of relatives.

    `pointers` name the field of each for errors. The same LoRA twice is one of the same bytes or the same
    tensors, whether it comes from a page, from another version or as an epoch.
    Errors: Invalid lora-base-mismatch, lora-base-unknown, duplicate-lora.
    """
    nature = _nature_of_base(db, base)
    notes: list[str] = []
    seen: set[str] = set()
    for n, lora in enumerate(loras):
        where = pointers[n] if n < len(pointers) else f"#/resources/{n}"
        found = fit(nature, _nature_of_lora(db, lora))
        if not found.usable:
            raise _wrong(found.words, found.code or MISMATCH, where)
        marks = {lora.file.sha256, lora.autov3} - {""}
        if marks & seen:
            words = f"{lora.name} is in the list twice. Remove one and set its strength instead."
            raise _wrong(words, "duplicate-lora", where)
        seen |= marks
        if found.words:
            notes.append(f"{lora.title or lora.name}: {found.words}")
    return notes


def _nature_of_lora(db: Session, lora: LoraRef) -> Nature:
    version = db.get(ModelVersion, lora.model_version_id) if lora.model_version_id else None
    return nature_of(version) if version else nature_named(lora.title or lora.name, lora.base_model)
