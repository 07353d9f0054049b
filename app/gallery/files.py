"""Files of a version: their hashes, which one a download means, and how often it was fetched."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.blobs import Blob
from app.core.errors import Gone, Invalid, NotFound, Unauthorized
from app.core.hashing import hash_stream
from app.core.security import digest
from app.core.storage import get_storage
from app.gallery.headers import facts_of, recognise_blob, recognised_from
from app.gallery.models import Download, Model, ModelFile, ModelVersion
from app.gallery.permissions import can_download_here, can_download_model, can_view_version
from app.images.models import Image
from app.images.permissions import can_view_image
from app.recognition import HeaderRefused, Recognised
from app.recognition.bases import BASES, SAME_TENSORS, architectures_of, family_of_base
from worker.families.catalog import specs

FORMATS = {".safetensors": "SafeTensor", ".zip": "Diffusers", ".gguf": "GGUF", ".ckpt": "PickleTensor"}


def format_of(name: str) -> str:
    """Civitai's word for the kind of file, by its ending."""
    ending = name[name.rfind(".") :].lower() if "." in name else ""
    return FORMATS.get(ending, "Other")


def family_of(model_type: str, base_model: str, files: Sequence[ModelFile]) -> str | None:
    """Name of the family that can run it here; None where none can.

    A checkpoint runs if its file was recognised as one that does; a LoRA with every base of its family.
    """
    found = [recognised_from(file.facts) for file in files]
    if model_type == "Checkpoint":
        zipped = any(file.format == "Diffusers" for file in files)
        told = [_family_seen(seen, base_model) for seen in found if seen] or (
            [family_of_base(base_model)] if zipped else []
        )
    else:
        alike = any(seen.architecture in SAME_TENSORS for seen in found if seen)
        told = [seen.family for seen in found if seen and seen.kind == "lora" and seen.family]
        told = [family_of_base(base_model)] if alike or not told else told
    return next((name for name in told if name in specs()), None)


def _family_seen(seen: Recognised, base_model: str) -> str | None:
    """Of a transformer alone that may be one of two kinds, its page says which."""
    twin = SAME_TENSORS.get(seen.architecture or "")
    if seen.family is None or twin is None or seen.text_encoders:
        return seen.family
    told = family_of_base(base_model)
    return told if told == BASES[twin].family else seen.family


def add_file(
    db: Session,
    version: ModelVersion,
    blob: Blob,
    *,
    name: str,
    hashes: dict[str, str] | None = None,
    tensor_sha256: str | None = None,
    fp: str | None = None,
    precision: str | None = None,
    seen: Recognised | None = None,
) -> ModelFile:
    """Attach stored bytes with all their hashes; the first file is the primary one.

    `hashes` are those of `hash_stream` where somebody has read the bytes already, `seen` is what the file
    was recognised as.
    Errors: Invalid when the tensors are not those that `tensor_sha256` (hex) says.
    """
    found = hashes or hash_stream(get_storage().stream(blob.key))
    if tensor_sha256 is not None and found.get("Tensor", "").lower() != tensor_sha256.lower():
        raise Invalid(
            "The file is damaged: its tensors are not those that were written.", code="file-damaged"
        )
    seen = seen or _recognised(blob, name)
    file = ModelFile(
        version=version,
        blob_sha256=blob.sha256,
        name=name[:255],
        format=seen.file_format if seen else format_of(name),
        fp=fp or (seen.precision if seen else None),
        facts=facts_of(seen),
        precision=precision or (seen.pruned if seen else None),
        size=blob.size,
        is_primary=not any(f.is_primary for f in version.files),
        hash_values=found,
    )
    db.add(file)
    db.flush()
    return file


def _recognised(blob: Blob, name: str) -> Recognised | None:
    """None for what cannot be: only who takes files from people refuses them."""
    if format_of(name) not in ("SafeTensor", "Diffusers"):
        return None
    try:
        return recognise_blob(get_storage(), blob)
    except HeaderRefused:
        return None


def safe_name(name: str, seen: Recognised | None) -> str:
    """The name with the ending that its content has: programs choose their reader by it."""
    ending = {"SafeTensor": ".safetensors", "Diffusers": ".zip"}.get(seen.file_format) if seen else None
    if ending is None or name.lower().endswith(ending):
        return name
    known = (*FORMATS, ".pt", ".pth", ".bin", ".sft")
    stem = next((name[: -len(end)] for end in known if name.lower().endswith(end)), name)
    return f"{stem[: 255 - len(ending)]}{ending}"


@dataclass(frozen=True)
class Wanted:
    """What the query of a download says: Civitai's words; empty means any."""

    type: str = ""
    format: str = ""
    size: str = ""
    fp: str = ""
    file_id: int | None = None


def choose_file(files: Sequence[ModelFile], wanted: Wanted) -> ModelFile:
    """The file that is meant: of those that say nothing against the query the one that says most for it.

    The primary one where nothing is asked. Errors: NotFound.
    """
    fitting = [(agreed, f) for f in files if (agreed := _agreement(f, wanted)) is not None]
    if not fitting:
        raise NotFound("File not found", code="file-not-found")
    return max(fitting, key=lambda pair: (pair[0], pair[1].is_primary, -pair[1].id))[1]


def _agreement(file: ModelFile, wanted: Wanted) -> int | None:
    """In how many words file and query agree; None where they do not. What a file does not tell may be so."""
    if wanted.file_id is not None:
        return 1 if file.id == wanted.file_id else None
    asked = (
        (wanted.type, file.type),
        (wanted.format, file.format),
        (wanted.size, file.precision),
        (wanted.fp, file.fp),
    )
    told = [(word.lower(), has.lower()) for word, has in asked if word and has]
    return len(told) if all(word == has for word, has in told) else None


def get_file(db: Session, viewer: User | None, file_id: int, *, key: str | None = None) -> ModelFile:
    """Errors: NotFound, also for what this person may not see; Unauthorized, Gone as a download."""
    file = db.get(ModelFile, file_id)
    if file is None or not can_view_version(file.version, viewer, key):
        raise NotFound("File not found", code="file-not-found")
    _check_download(file.version, viewer)
    return file


def _check_download(version: ModelVersion, viewer: User | None) -> None:
    if not can_download_here(viewer):
        words = "Log in to download files here, or send a token: Authorization: Bearer <token>."
        raise Unauthorized(words, message=words)
    if not can_download_model(version.model, viewer):
        raise Gone("Model archived, not available for download")


def get_version_to_download(
    db: Session, viewer: User | None, version_id: int, *, key: str | None = None
) -> ModelVersion:
    """Errors: NotFound and Gone in the words of Civitai's download, which programs look for; Unauthorized."""
    version = db.get(ModelVersion, version_id)
    if version is None or not can_view_version(version, viewer, key):
        raise NotFound("File not found", code="file-not-found")
    _check_download(version, viewer)
    return version


def count_download(db: Session, viewer: User | None, file: ModelFile, address: str) -> bool:
    """Count a person once a file and day; True when this was the first time."""
    person = digest(f"user:{viewer.id}" if viewer else f"address:{address}")
    row = insert(Download).values(file_id=file.id, person=person, day=func.current_date())
    if db.scalar(row.on_conflict_do_nothing().returning(Download.id)) is None:
        return False
    version = file.version
    for table, number in ((ModelVersion, version.id), (Model, version.model_id)):
        more = {"download_count": table.download_count + 1, "updated_at": table.updated_at}
        db.execute(update(table).where(table.id == number).values(more))
    return True


def stem(file: ModelFile) -> str:
    """The name without its ending."""
    return file.name.rsplit(".", 1)[0] or "model"


A1111_VERSIONS = {"sd1": "SD1", "sd2": "SD2", "sdxl": "SDXL"}
"""Its own words for bases; it passes over any other."""


def sidecar(file: ModelFile) -> dict[str, object]:
    """What A1111, Forge and InvokeAI read from `<stem>.json` beside a LoRA."""
    version = file.version
    autov3 = file.hash_values.get("AutoV3", "")
    bases = architectures_of(version.base_model)
    return {
        "description": version.model.description[:2000],
        "sd version": next((word for base, word in A1111_VERSIONS.items() if base in bases), "Unknown"),
        "activation text": ", ".join(version.trained_words),
        "preferred weight": version.strength,
        "negative text": "",
        "notes": f"{version.model.name} {version.name} by {version.model.username}. AutoV3 {autov3}".strip(),
        "modelVersionId": version.id,
    }


def preview_image(file: ModelFile, viewer: User | None) -> Image:
    """The first picture of the version that this person may see. Errors: NotFound."""
    for picture in file.version.pictures:
        image = picture.image
        if image.taken_down_at is None and (image.origin == "page" or can_view_image(image, viewer)):
            return image
    raise NotFound("This version has no picture.")
