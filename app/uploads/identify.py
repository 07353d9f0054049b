"""What a complete upload is, told at once, so that the form for its page can be filled in."""

from pathlib import Path
from typing import Any

from app.core.errors import FieldError, Invalid
from app.core.storage import Storage
from app.core.stored_file import open_stored
from app.recognition import HeaderRefused, recognise_file
from app.recognition.foreign import FOREIGN_BYTES, refuse_foreign

PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl", ".pickle")
SAFE = (".safetensors", ".sft")
_MODELS = (*PICKLES, *SAFE, ".gguf")
MODELS = (*SAFE, ".zip")
"""Endings of files that a model's page can be made from."""
SURELY_NONE = ("pickle", "web-page", "lfs-pointer")
"""What the first bytes of a file show beyond doubt; the rest is judged when the file is whole."""


def is_pickle_name(name: str) -> bool:
    """Whether the name is that of a pickle, so that gigabytes need not be sent before the refusal."""
    return name.lower().endswith(PICKLES)


def refuse_start(name: str, start: Path, size: int) -> None:
    """Look at the first part of a file that is called a model, so that the rest need not be sent in vain.

    Errors: Invalid with the words of the refusal, for a pickle or a web page under another name.
    """
    if not name.lower().endswith(SAFE):
        return
    with start.open("rb") as file:
        head = file.read(FOREIGN_BYTES)
    try:
        refuse_foreign(head, size)
    except HeaderRefused as refused:
        if refused.code in SURELY_NONE:
            errors = [FieldError("#/body", refused.detail, refused.code)]
            raise Invalid(refused.detail, errors, code=refused.code) from refused


def identify(storage: Storage, key: str, *, size: int, name: str) -> dict[str, Any]:
    """`recognised`, None for pictures, sets and other files; `refusal` says why a model cannot be used."""
    try:
        with open_stored(storage, key, size) as file:
            return {"recognised": recognise_file(file, size).model_dump(mode="json")}
    except HeaderRefused as refused:
        told = name.lower().endswith(_MODELS)
        refusal = {"refusal": {"code": refused.code, "detail": refused.detail}} if told else {}
        return {"recognised": None, **refusal}
