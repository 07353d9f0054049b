"""A zipped diffusers folder, or its text encoder alone, recognised by the headers of the files inside.

Nothing is unpacked. The directory of the zip is measured before it is read, because a hostile one costs a
hundred times its bytes. Every weights file inside has to be safetensors: a pickle in a folder is a pickle.
"""

import json
import zipfile
import zlib
from collections.abc import Collection, Iterator
from typing import Any, BinaryIO

from app.recognition.foreign import PICKLE, HeaderRefused
from app.recognition.header import MAX_TENSORS, Header, TensorInfo, read_header
from app.recognition.recognise import recognise, recognise_text, unknown
from app.recognition.result import Recognised

MAX_ENTRIES = 2000
MAX_DIRECTORY = 1 << 20
MAX_JSON = 1 << 20
_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DENOISERS = ("unet", "transformer")
_TOKENIZERS = ("tokenizer.json", "spiece.model", "merges.txt")
"""One of them is in every tokenizer's folder."""
_PARTS = ("transformer_2", "vae", "text_encoder", "text_encoder_2", "text_encoder_3")


def recognise_file(file: BinaryIO, size: int, families: Collection[str] | None = None) -> Recognised:
    """What a file of `size` bytes is: safetensors, or the zip of a diffusers folder or of its text encoder.

    `file` can be sought and stands at its start. Errors: HeaderRefused.
    """
    magic = file.read(4)
    file.seek(0)
    if magic != b"PK\x03\x04":
        return recognise(read_header(file, size), families)
    return recognise_folder(file, size, families)


def recognise_folder(file: BinaryIO, size: int, families: Collection[str] | None = None) -> Recognised:
    """The checkpoint or text encoder that a zipped diffusers folder holds. Errors: HeaderRefused."""
    _check_directory(file, size)
    try:
        with zipfile.ZipFile(file) as archive:
            return _recognise(archive, size, families)
    except HeaderRefused:
        raise
    except (zipfile.BadZipFile, zlib.error, RuntimeError, OSError, EOFError, ValueError) as error:
        raise HeaderRefused("file-damaged", "This zip is damaged. Copy or download it again.") from error


def _recognise(archive: zipfile.ZipFile, size: int, families: Collection[str] | None) -> Recognised:
    names = [info.filename for info in archive.infolist() if not info.is_dir()]
    if any(info.compress_type not in _METHODS for info in archive.infolist()):
        raise HeaderRefused(
            "zip", "This zip is packed in an unusual way. Pack the folder as an ordinary zip."
        )
    if any(name.lower().endswith(_PICKLES) for name in names):
        raise HeaderRefused("pickle", PICKLE)
    indexes = [n for n in names if n.rpartition("/")[2] == "model_index.json"]
    text = _text_root(names) if not any(_is_denoiser(name) for name in names) else None
    if text is not None:
        return _recognise_text(archive, text, names, size)
    if not indexes:
        words = (
            "This zip holds no diffusers folder (no model_index.json) and no text encoder (no folders "
            "text_encoder and tokenizer). Unpack it and upload the .safetensors file inside."
        )
        raise HeaderRefused("zip", words)
    root = min(indexes, key=len).removesuffix("model_index.json")
    merged = _merge(archive, root, names)
    merged = Header(merged.tensors, merged.metadata | _scheduler(archive, root), size)
    if not any(name.startswith(_DENOISERS) for name in merged.tensors):
        raise HeaderRefused("zip", "This zip holds a diffusers folder without the weights of a U-Net.")
    found = recognise(merged, families, folder=True)
    found = found if found.kind == "checkpoint" else unknown(merged)
    return found.model_copy(update={"file_format": "Diffusers"})


def _is_denoiser(name: str) -> bool:
    return name.endswith(".safetensors") and name.split("/")[-2:][0].startswith(_DENOISERS)


def _text_root(names: list[str]) -> str | None:
    """Where the folder text_encoder lies, at most one folder deep, which is where workers look for it."""
    ends = "text_encoder/config.json"
    roots = [name.removesuffix(ends) for name in names if name.endswith(ends) and name.count("/") <= 2]
    return min((root for root in roots if root == "" or root.endswith("/")), key=len, default=None)


def _recognise_text(archive: zipfile.ZipFile, root: str, names: list[str], size: int) -> Recognised:
    """A text encoder with its tokenizer, without the model that listens to it."""
    if not any(name in names for name in (f"{root}tokenizer/{each}" for each in _TOKENIZERS)):
        words = (
            "This zip holds a text encoder without its tokenizer. Pack the folder tokenizer of the same "
            "checkpoint beside the folder text_encoder."
        )
        raise HeaderRefused("tokenizer-missing", words)
    merged = _merge(archive, root, names, ("text_encoder",))
    if not merged.tensors:
        raise HeaderRefused("zip", "The folder text_encoder in this zip holds no .safetensors file.")
    said = str(_json(archive, f"{root}text_encoder/config.json").get("model_type") or "")
    whole = Header({n.partition(".")[2]: info for n, info in merged.tensors.items()}, merged.metadata, size)
    return recognise_text(whole, said).model_copy(update={"file_format": "Diffusers"})


def _merge(
    archive: zipfile.ZipFile, root: str, names: list[str], parts: tuple[str, ...] = (*_DENOISERS, *_PARTS)
) -> Header:
    """One header of all weights, named `unet.…`, `vae.…`, `text_encoder.…`."""
    tensors: dict[str, TensorInfo] = {}
    metadata: dict[str, str] = {}
    for part in parts:
        for name in _weights(names, f"{root}{part}/"):
            info = archive.getinfo(name)
            with archive.open(info) as member:
                header = read_header(member, info.file_size)
            tensors |= {f"{part}.{key}": value for key, value in header.tensors.items()}
            metadata |= header.metadata if part in _DENOISERS else {}
            if len(tensors) > 2 * MAX_TENSORS:
                raise HeaderRefused("file-damaged", "The folder in this zip holds too many tensors.")
    return Header(tensors, metadata, 0)


def _weights(names: list[str], folder: str) -> Iterator[str]:
    """The safetensors files right in `folder`; of several precisions the plain one, of shards all."""
    within = [name for name in names if name.startswith(folder) and "/" not in name[len(folder) :]]
    found = [name for name in within if name.endswith(".safetensors")]
    plain = [n for n in found if n[len(folder) :].count(".") == 1]
    yield from sorted(plain or found)


def _scheduler(archive: zipfile.ZipFile, root: str) -> dict[str, str]:
    """What the scheduler's configuration says, in the words of metadata."""
    config = _json(archive, f"{root}scheduler/scheduler_config.json")
    said: dict[str, str] = {}
    if config.get("prediction_type") in ("v_prediction", "epsilon"):
        said["modelspec.prediction_type"] = str(config["prediction_type"])
    if config.get("rescale_betas_zero_snr") is True:
        said["ss_zero_terminal_snr"] = "True"
    return said


def _json(archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    try:
        with archive.open(name) as member:
            found = json.loads(member.read(MAX_JSON))
    except (KeyError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _check_directory(file: BinaryIO, size: int) -> None:
    """Entries and bytes of the directory, from the record at the end of the zip and its 64-bit twin."""
    tail = min(size, 65_557)
    file.seek(size - tail)
    data = file.read(tail)
    at = data.rfind(b"PK\x05\x06")
    if at < 0 or len(data) < at + 22:
        raise HeaderRefused("file-cut-off", "This zip is not whole. Copy or download it again.")
    sizes = [(_int(data, at + 10, 2), _int(data, at + 12, 4))]
    if at >= 20 and data[at - 20 : at - 16] == b"PK\x06\x07":
        file.seek(min(size, _int(data, at - 12, 8)))
        twin = file.read(56)
        sizes.append((_int(twin, 32, 8), _int(twin, 40, 8)))
        # Python believes the twin that stands right before its locator, whatever the locator says.
        sizes.append((_int(data, at - 44, 8), _int(data, at - 36, 8)) if at >= 76 else (0, 0))
    if any(entries > MAX_ENTRIES or length > MAX_DIRECTORY for entries, length in sizes):
        raise HeaderRefused("zip", "This zip holds too many files to be a diffusers folder.")
    file.seek(0)


def _int(data: bytes, at: int, length: int) -> int:
    return int.from_bytes(data[at : at + length], "little")
