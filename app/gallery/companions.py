"""What a checkpoint of clips in one file lacks, and where it is had: its own version, then what is installed.

Such a file holds the transformer, at most a VAE too. Relatives share their text encoder: it is taken from a
page of its own, or any complete checkpoint among them lends it.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.jobs import BlobRef, CheckpointRef
from app.core.errors import FieldError, Invalid
from app.gallery.headers import recognised_from
from app.gallery.matching import fit_text, fit_vae, nature_of, primary_of, recognised
from app.gallery.models import Model, ModelFile, ModelVersion
from app.gallery.picker import usable_by
from app.recognition import Recognised
from app.recognition.bases import IN_PIECES
from app.recognition.result import WORDS
from worker.families.catalog import specs

_SHARED_TEXT = (("wan", "wan_14b", "wan22_a14b", "wan22_5b"), ("ltx",))
"""Families that read texts with the same encoder."""
_PARTS_OF: dict[str, dict[str, tuple[str, ...]]] = {
    "wan": {"vae": ("Wan's VAE", "video VAE"), "text-encoder": ("UMT5", "UMT5 XXL")},
    "ltx": {"vae": ("video VAE",), "text-encoder": ("T5", "T5 XXL")},
}
"""How recognition calls the parts that each takes."""
TEXT_FOLDER = (
    "Upload a zip with the folders text_encoder and tokenizer of a diffusers checkpoint, the weights as "
    ".safetensors."
)
MOST = 200
"""Versions that are looked through."""


def is_in_pieces(version: ModelVersion) -> bool:
    """Whether its file is a transformer of such a family, and no folder with everything."""
    file, families = primary_of(version.files), [name for group in _SHARED_TEXT for name in group]
    return file is not None and file.format == "SafeTensor" and version.family in families


def check_companion(version: ModelVersion, seen: Recognised) -> None:
    """Can this VAE or text encoder lie beside the version's transformer, which has none of its own?

    Errors: Invalid wrong-file, tokenizer-missing.
    """
    first, what = recognised(version), WORDS[seen.kind]
    if first is None or first.architecture not in IN_PIECES or first.file_format != "SafeTensor":
        words = f"This file is {seen.words}, and beside a file with everything it would do nothing. "
        words += f"Make a page of the type {seen.model_type} for it."
        raise _unfit(words)
    if seen.kind == "text-encoder" and seen.file_format != "Diffusers":
        raise _unfit(f"This text encoder has no tokenizer beside it. {TEXT_FOLDER}", "tokenizer-missing")
    if (first.has_vae and seen.kind == "vae") or any(_kind_of(file) == seen.kind for file in version.files):
        raise _unfit(f"This version has {what} already. Remove that one first.")
    fitting = _PARTS_OF["ltx" if first.architecture == "ltxv" else "wan"][seen.kind]
    if seen.component not in fitting:
        raise _unfit(f"This file is {what} ({seen.component}), not one for {version.base_model}.")


def _unfit(words: str, code: str = "wrong-file") -> Invalid:
    return Invalid(words, [FieldError("#/upload", words, code)], code=code)


def _kind_of(file: ModelFile) -> str:
    seen = recognised_from(file.facts)
    return seen.kind if seen else {"VAE": "vae", "Text Encoder": "text-encoder"}.get(file.type, "")


def with_companions(
    db: Session, viewer: User | None, version: ModelVersion, ref: CheckpointRef
) -> CheckpointRef:
    """`ref` with a text encoder and a VAE, unless it has them.

    Errors: Invalid base-model-incomplete, vae-missing.
    """
    spec, seen = specs()[ref.family], recognised(version)
    if spec.clips and spec.clips.experts and ref.low_noise is None:
        raise _incomplete(
            f"{ref.name} is one of the two networks of {spec.title}. Its owner can add the other one to its "
            "version, where the page is edited."
        )
    text = ref.text_encoder or _text_encoder(db, viewer, version)
    if text is None:
        raise _incomplete(
            f"{ref.name} holds no text encoder, and none for it is here. {TEXT_FOLDER} Or install a complete "
            "checkpoint of its kind (a zipped diffusers folder), whose text encoder is then taken."
        )
    vae = ref.vae or _vae(db, viewer, version)
    if vae is None and not (seen and seen.has_vae):
        words = f"{ref.name} holds no VAE, and none for it is here. Upload one on a page of the type VAE, "
        words += "or add it to the version of this model, where its page is edited."
        raise Invalid(words, [FieldError("#/vae_version_id", words, "vae-missing")], code="vae-missing")
    return ref.model_copy(update={"text_encoder": text, "vae": vae})


def _incomplete(words: str) -> Invalid:
    code = "base-model-incomplete"
    return Invalid(words, [FieldError("#/model_version_id", words, code)], code=code)


def _text_encoder(db: Session, viewer: User | None, version: ModelVersion) -> BlobRef | None:
    own = [file for file in version.files if file.type == "Text Encoder" and file.format == "Diffusers"]
    nature = nature_of(version)
    pages = _installed(db, viewer, ("TextEncoder",))
    fits = (primary_of(each.files) for each in pages if fit_text(nature, nature_of(each)).usable)
    alike = next((group for group in _SHARED_TEXT if version.family in group), ())
    lent = (
        file
        for each in _installed(db, viewer, ("Checkpoint",))
        if each.family in alike and (file := primary_of(each.files)) and file.format == "Diffusers"
    )
    return _first(chain(own, (file for file in fits if file), lent))


def _vae(db: Session, viewer: User | None, version: ModelVersion) -> BlobRef | None:
    """Of its version, or where its own file has none, of a page of the type VAE."""
    own = [file for file in version.files if not file.is_primary and _is_vae(file)]
    seen = recognised(version)
    if own or (seen and seen.has_vae):
        return _first(own)
    nature = nature_of(version)
    pages = _installed(db, viewer, ("VAE",))
    fits = (primary_of(each.files) for each in pages if fit_vae(nature, nature_of(each)).usable)
    return _first(file for file in fits if file and file.format == "SafeTensor")


def _is_vae(file: ModelFile) -> bool:
    seen = recognised_from(file.facts)
    return file.format == "SafeTensor" and (file.type == "VAE" or (seen is not None and seen.kind == "vae"))


def _installed(db: Session, viewer: User | None, types: Sequence[str]) -> Iterator[ModelVersion]:
    """The newest first; nothing is read before the first one is wanted."""
    if viewer is None:
        return
    rows = usable_by(select(ModelVersion).join(Model), viewer, types).order_by(ModelVersion.id.desc())
    yield from db.scalars(rows.limit(MOST)).unique()


def _first(files: Iterable[ModelFile]) -> BlobRef | None:
    return next((BlobRef(sha256=f.blob_sha256, size=f.size, name=f.name) for f in files), None)
