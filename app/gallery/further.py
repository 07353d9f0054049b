"""Further files of a version: a second network, a VAE or text encoder beside a transformer, a variant.

What the header says decides what a file is to its version; one that belongs elsewhere is refused in words
that say where. The first file stays the primary one and goes only with the whole version.
"""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.blobs import Blob, release_blobs
from app.core.db import utcnow
from app.core.errors import Conflict, FieldError, Forbidden, Invalid, NotFound
from app.core.storage import get_storage
from app.gallery import service
from app.gallery.companions import check_companion
from app.gallery.files import family_of
from app.gallery.headers import check_base, check_type, read_upload
from app.gallery.matching import has_experts, networks_of, noise_named, noise_of, primary_of, recognised
from app.gallery.models import ModelFile, ModelVersion
from app.gallery.schemas import FileIn
from app.recognition import Recognised
from app.recognition.bases import may_be_called
from app.uploads.service import get_complete

MAX_FILES = 20
_BESIDE = {"vae": "VAE", "text-encoder": "Text Encoder"}
"""Kinds of files that may lie beside a transformer, in Civitai's words for the type of a file."""
_OTHER = {"high": "low", "low": "high"}


@dataclass(frozen=True)
class Place:
    """What a file is to its version. `noise` is `high` or `low` for one of two networks."""

    type: str
    noise: str | None = None


def add_further(db: Session, user: User, version_id: int, body: FileIn) -> ModelFile:
    """Move the file of a complete upload into a version that may have files already.

    Errors: NotFound, Forbidden, Conflict (the same bytes twice, too many), Invalid for what does not belong.
    """
    version = _locked(db, user, version_id)
    if version.model.built_in:
        raise Forbidden("What ships with Bottega takes no further files. Make a page of your own.")
    upload = get_complete(db, user, body.upload)
    blob = db.get_one(Blob, upload.blob_sha256)
    refuse_twice(version, blob.sha256)
    seen = read_upload(get_storage(), blob, version.model.type)
    place = place_of(version, seen, upload.name, body.noise)
    if version.status == "Published":
        service.refuse_taken_down(db, [blob.sha256])
    file = service.take_upload(db, user, version, upload, body, seen)
    file.type = place.type
    _tell_apart(version, file, place)
    version.updated_at = utcnow()
    db.flush()
    db.refresh(file)
    return file


def _locked(db: Session, user: User, version_id: int) -> ModelVersion:
    """One's own version, with its files as they are once nobody else changes them."""
    version = service.own_version(db, user, version_id)
    db.execute(select(ModelVersion.id).where(ModelVersion.id == version_id).with_for_update())
    db.expire(version, ["files"])
    return version


def refuse_twice(version: ModelVersion, sha256: str) -> None:
    """Errors: Conflict for bytes that the version has, and where it has all that it may have."""
    twin = next((file for file in version.files if file.blob_sha256 == sha256), None)
    if twin is not None:
        words = f"This version has this very file already: {twin.name}."
        raise Conflict(words, code="duplicate-file")
    if len(version.files) >= MAX_FILES:
        raise Conflict(f"A version has at most {MAX_FILES} files. Remove one first.", code="too-many-files")


def _tell_apart(version: ModelVersion, file: ModelFile, place: Place) -> None:
    """Keep which of two networks each file is; their names need not say it."""
    if place.noise is None:
        return
    for each in networks_of(version):
        noise = place.noise if each is file else _OTHER[place.noise]
        each.facts = each.facts | {"noise": noise}


def place_of(version: ModelVersion, seen: Recognised | None, name: str, said: str | None = None) -> Place:
    """What this file would be to the version. `said`: `high` or `low`, as its owner says.

    Errors: Invalid for what does not belong there, noise-unknown, noise-taken.
    """
    if seen is None:
        return Place("Model")
    if version.files and seen.kind == "unknown":
        raise _refused("It is not known what this file is, so that it cannot join others. " + _OWN)
    if version.files and version.model.type == "Checkpoint" and seen.kind in _BESIDE:
        check_companion(version, seen)
        return Place(_BESIDE[seen.kind])
    check_type(seen, version.model.type)
    if version.files:
        _check_alike(version, seen)
    else:
        check_base(seen, version.base_model)
    return Place("Model", _noise(version, seen, name, said))


_OWN = "Upload it as a version of its own."


def _refused(words: str, code: str = "wrong-file", pointer: str = "#/upload") -> Invalid:
    return Invalid(words, [FieldError(pointer, words, code)], code=code)


def _check_alike(version: ModelVersion, seen: Recognised) -> None:
    first = recognised(version)
    if first is not None and first.kind not in (seen.kind, "unknown"):
        raise _refused(f"This file is {seen.words}, and the others are {first.words}. {_OWN}")
    known = first is not None and None not in (first.architecture, seen.architecture)
    alike = first is None or not known or first.architecture == seen.architecture
    if not alike or not may_be_called(seen.architecture, version.base_model):
        raise _refused(f"This file is {seen.words}, and this version is for {version.base_model}. {_OWN}")
    if first is not None and first.variant != seen.variant:
        kinds = f"“{seen.variant}”, and the others are of the kind “{first.variant}”"
        raise _refused(f"This file is of the kind {kinds}. {_OWN}")


def _noise(version: ModelVersion, seen: Recognised, name: str, said: str | None) -> str | None:
    """Which of two networks it is; None in families that have one, and of a first file that nobody tells."""
    first = primary_of(version.files)
    if first is None:
        return said
    if not has_experts(version):
        if said:
            words = f"Models for {version.base_model} have one network, and no files for high or low noise."
            raise _refused(words, "noise-taken", "#/noise")
        return None
    if first.format != "SafeTensor" or seen.file_format != "SafeTensor":
        raise _refused(f"A zipped folder holds both networks and stands alone. {_OWN}")
    if len(networks_of(version)) > 1:
        words = "This version has both its files, for high and for low noise. Remove the second one first."
        raise _refused(words, "noise-taken", "#/noise")
    return _other_noise(first, name, said)


def _other_noise(first: ModelFile, name: str, said: str | None) -> str:
    taken, own = noise_of(first), said or noise_named(name)
    if own is None and taken is None:
        words = f"Neither {name} nor {first.name} says for which noise it is. Say it of this file."
        raise _refused(words, "noise-unknown", "#/noise")
    if own == taken:
        words = f"{first.name} is the file for {taken} noise already, and this one is for {own} noise too."
        raise _refused(words, "noise-taken", "#/noise")
    return own or _OTHER[taken or ""]


def remove_file(db: Session, user: User, version_id: int, file_id: int) -> None:
    """Take a further file out of one's own version and free its bytes.

    Errors: NotFound, Forbidden; Conflict for the primary one.
    """
    version = _locked(db, user, version_id)
    file = next((each for each in version.files if each.id == file_id), None)
    if file is None:
        raise NotFound("This version has no such file.")
    if file.is_primary:
        words = "The version stands on this file. Delete the version instead."
        raise Conflict(words, code="primary-file")
    version.files.remove(file)
    version.family = family_of(version.model.type, version.base_model, version.files)
    version.updated_at = utcnow()
    release_blobs(db, [file.blob_sha256])
