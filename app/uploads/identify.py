"""What a complete upload is, told at once, so that the form for its page can be filled in."""

from typing import Any

from app.core.storage import Storage
from app.core.stored_file import open_stored
from app.recognition import HeaderRefused, recognise_file

PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl", ".pickle")
_MODELS = (*PICKLES, ".safetensors", ".sft", ".gguf")


def is_pickle_name(name: str) -> bool:
    """Whether the name is that of a pickle, so that gigabytes need not be sent before the refusal."""
    return name.lower().endswith(PICKLES)


def identify(storage: Storage, key: str, *, size: int, name: str) -> dict[str, Any]:
    """`recognised`, None for pictures, sets and other files; `refusal` says why a model cannot be used."""
    try:
        with open_stored(storage, key, size) as file:
            return {"recognised": recognise_file(file, size).model_dump(mode="json")}
    except HeaderRefused as refused:
        told = name.lower().endswith(_MODELS)
        refusal = {"refusal": {"code": refused.code, "detail": refused.detail}} if told else {}
        return {"recognised": None, **refusal}
