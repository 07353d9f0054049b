"""What an uploaded file is, against what its owner says of it.

The header is believed where it is sure: a LoRA is no checkpoint, and an SDXL file is no SD 1.5. What it
leaves open is the owner's word.
"""

from typing import Any

from app.core.blobs import Blob
from app.core.errors import FieldError, Invalid
from app.core.storage import Storage
from app.core.stored_file import open_stored
from app.recognition import MODEL_TYPES, HeaderRefused, Recognised, recognise_file
from app.recognition.bases import may_be_called, names_of

WEIGHTS = {name for names in MODEL_TYPES.values() for name in names} - {"Other"}
"""Model types whose files have to be weights; a workflow or a wildcard may be anything but a pickle."""


def recognise_blob(storage: Storage, blob: Blob) -> Recognised:
    """Errors: HeaderRefused for what is no safetensors file and no zipped diffusers folder."""
    with open_stored(storage, blob.key, blob.size) as file:
        return recognise_file(file, blob.size)


def recognise_upload(storage: Storage, blob: Blob, model_type: str) -> Recognised | None:
    """What was sent for a page of this type; None for the kinds of pages that hold no weights.

    Errors: Invalid with the words of the refusal, and `wrong-model-type`.
    """
    found = read_upload(storage, blob, model_type)
    if found is not None:
        check_type(found, model_type)
    return found


def read_upload(storage: Storage, blob: Blob, model_type: str) -> Recognised | None:
    """The same without holding it against the page. Errors: Invalid with the words of the refusal."""
    try:
        return recognise_blob(storage, blob)
    except HeaderRefused as refused:
        if model_type not in WEIGHTS and refused.code not in ("pickle", "web-page"):
            return None
        errors = [FieldError("#/upload", refused.detail, refused.code)]
        raise Invalid(refused.detail, errors, code=refused.code) from refused


def check_type(found: Recognised, model_type: str) -> None:
    """Errors: Invalid `wrong-model-type` when the file is surely something else."""
    fitting = MODEL_TYPES.get(found.kind)
    if fitting is None or model_type in (*fitting, "Other"):
        return
    words = f"This file is {found.words}, and this page is for files of the type {model_type}."
    words += f" Make a page of the type {found.model_type} for it."
    raise Invalid(words, [FieldError("#/upload", words, "wrong-model-type")], code="wrong-model-type")


def check_base(found: Recognised, base_model: str) -> None:
    """Errors: Invalid `wrong-base-model` when its tensors are those of another base model."""
    if may_be_called(found.architecture, base_model):
        return
    names = " or ".join(names_of(found.architecture)[:3]) if found.architecture else ""
    words = f"This file is {found.words}; it cannot be one for {base_model}. Choose {names}."
    raise Invalid(words, [FieldError("#/base_model", words, "wrong-base-model")], code="wrong-base-model")


def choose_base(said: str | None, found: Recognised | None) -> str:
    """The owner's word where it can be true, else what the file says. Errors: Invalid."""
    if said is not None:
        if found is not None:
            check_base(found, said)
        return said
    if found is not None and found.base_model is not None:
        return found.base_model
    words = "Say for which base model it is." + (" The file does not tell it." if found else "")
    raise Invalid(words, [FieldError("#/base_model", words, "missing")])


def facts_of(found: Recognised | None) -> dict[str, Any]:
    """What is kept with the file: all that was recognised, without what is empty."""
    return {} if found is None else found.model_dump(mode="json", exclude_defaults=True)


def recognised_from(facts: dict[str, Any]) -> Recognised | None:
    """What `facts_of` kept; None for files that came before there was recognition."""
    known = {name: value for name, value in facts.items() if name in Recognised.model_fields}
    return Recognised.model_validate(known) if "kind" in known else None
