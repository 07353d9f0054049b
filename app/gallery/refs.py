"""What a job says of a stored model: references that a worker can load without asking the database."""

from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.jobs import BlobRef, CheckpointRef, LoraRef
from app.core.errors import FieldError, Invalid, NotFound
from app.gallery.models import ModelFile, ModelVersion
from app.gallery.permissions import can_view_version

LORA_TYPES = ("LORA", "LoCon", "DoRA")


def get_version(db: Session, viewer: User | None, version_id: int, *, key: str | None = None) -> ModelVersion:
    """Errors: NotFound, also for what this person may not see."""
    version = db.get(ModelVersion, version_id)
    if version is None or not can_view_version(version, viewer, key):
        raise NotFound("This version does not exist, or it is not shared with you.")
    return version


def primary_file(version: ModelVersion) -> ModelFile | None:
    """The file that a plain download gives."""
    return next((f for f in version.files if f.is_primary), version.files[0] if version.files else None)


def _missing(words: str, code: str) -> Invalid:
    return Invalid(words, [FieldError("#/model_version_id", words, code)], code=code)


def checkpoint_ref(db: Session, viewer: User | None, version_id: int) -> CheckpointRef:
    """What a worker needs to load a base. Errors: Invalid base-model-missing, base-model-unsupported."""
    version = db.get(ModelVersion, version_id)
    file = primary_file(version) if version and can_view_version(version, viewer) else None
    if version is None or file is None or version.model.type != "Checkpoint":
        raise _missing("There is no such base model here. Choose another one.", "base-model-missing")
    if version.family is None:
        words = f"{version.model.name} ({version.base_model}) cannot run on this server yet. Choose another."
        raise _missing(words, "base-model-unsupported")
    return CheckpointRef(
        file=BlobRef(sha256=file.blob_sha256, size=file.size, name=file.name),
        format=file.format,
        family=version.family,
        name=version.model.name,
        base_model=version.base_model,
        model_version_id=version.id,
    )


def lora_ref(db: Session, viewer: User | None, version_id: int, strength: float | None = None) -> LoraRef:
    """What a worker needs to attach a LoRA; its own strength unless given. Errors: NotFound, Invalid."""
    version = get_version(db, viewer, version_id)
    file = primary_file(version)
    if file is None or version.model.type not in LORA_TYPES:
        raise _missing(f"{version.model.name} is not a LoRA.", "not-a-lora")
    autov3 = next((h.value for h in file.hashes if h.kind == "AutoV3"), "")
    return LoraRef(
        file=BlobRef(sha256=file.blob_sha256, size=file.size, name=file.name),
        name=file.name.removesuffix(".safetensors"),
        title=version.model.name,
        strength=version.strength if strength is None else strength,
        base_model=version.base_model,
        model_version_id=version.id,
        autov3=autov3.lower(),
    )


def check_match(base: CheckpointRef, lora: LoraRef) -> None:
    """A LoRA only works on the base model it was made for. Errors: Invalid `lora-base-mismatch`."""
    if lora.base_model != base.base_model:
        words = f"{lora.name} was made for {lora.base_model}; it does not work with {base.base_model}."
        raise Invalid(
            words, [FieldError("#/resources", words, "lora-base-mismatch")], code="lora-base-mismatch"
        )
