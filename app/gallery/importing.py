"""A diffusers folder that lies on the server's disk, made a checkpoint's page without a way over the network.

Its files are packed as they are, in a fixed order and without times, so that the same folder gives the same
bytes and is known when it comes twice. From there on it is an upload like any other.
"""

import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.blobs import check_space
from app.core.config import get_settings
from app.core.errors import Conflict, DiskFull, Invalid, is_disk_full
from app.core.storage import Storage
from app.gallery import making
from app.gallery.models import ModelVersion
from app.gallery.queries import find_by_hash
from app.gallery.schemas import PageIn
from app.gallery.shapes import model_path
from app.images.schemas import Visibility
from app.uploads import service as uploads

INDEX = "model_index.json"
TAKEN = (".safetensors", ".json", ".txt", ".model")
"""Weights, configurations and vocabularies; pickles and pictures of the same folder stay where they are."""
EARLIEST = (1980, 1, 1, 0, 0, 0)
"""The first moment that a zip can name."""


def import_folder(
    db: Session, storage: Storage, user: User, folder: Path, *, name: str = "", base_model: str = "",
    publish: Visibility = "private",
) -> ModelVersion:  # fmt: skip
    """Make the page of a checkpoint from a diffusers folder; `base_model` where the weights do not tell it.

    Errors: Invalid for what is no such folder, Conflict for one that is here, DiskFull, QuotaExceeded.
    """
    files = folder_files(folder)
    check_space(storage, 2 * sum(path.stat().st_size for path in files))
    with packed(folder, files) as archive:
        file_name = f"{folder.resolve().name}.zip"
        upload = uploads.create_complete(db, storage, user, name=file_name, path=archive)
    twin = find_by_hash(db, user, upload.blob_sha256 or "")
    if twin is not None:
        words = f"This folder is here already, as {twin.model.name}: {model_path(twin.model, version=twin)}"
        raise Conflict(words, code="duplicate-file")
    called = (name or folder.resolve().name)[:200]
    body = {"name": called, "type": "Checkpoint", "base_model": base_model[:60] or None}
    return making.create_page(
        db, user, PageIn.model_validate(body | {"upload": upload.id, "publish": publish})
    )


def folder_files(folder: Path) -> list[Path]:
    """What a checkpoint's folder holds, in a fixed order. Errors: Invalid in words that say what to do."""
    if folder.is_file():
        raise _wrong(f"{folder} is a file. Upload it with: bottega upload {folder}")
    try:
        parts = _parts(folder)
        files = [folder / INDEX, *(path for part in parts for path in _files_of(folder / part))]
        for path in files:
            path.open("rb").close()
    except OSError as error:
        where = error.filename or folder
        raise _wrong(f"{where} cannot be read ({error.strerror}). Mend that, then try again.") from error
    if any(path.suffix == ".safetensors" for path in files):
        return files
    raise _wrong(f"{folder} holds no .safetensors weights. Pickles (.bin, .ckpt) are never taken.")


def _wrong(words: str) -> Invalid:
    return Invalid(words, code="not-a-model")


def _parts(folder: Path) -> list[str]:
    """Names of the folders that its index names, all of which have to be there. Errors: Invalid, OSError."""
    if not folder.is_dir():
        raise _wrong(f"There is no folder {folder}.")
    inside = [path.name for path in folder.iterdir()]
    if INDEX not in inside:
        raise _wrong(
            f"{folder} has no {INDEX}, so it is no diffusers folder. Name the folder in which that file "
            "lies; a single .safetensors file goes with: bottega upload FILE"
        )
    named = _named((folder / INDEX).read_bytes())
    if missing := [name for name in named if name not in inside]:
        raise _wrong(f"{folder} lacks {', '.join(missing)}, which its {INDEX} names. Copy the whole folder.")
    return named


def _named(index: bytes) -> list[str]:
    """The parts of a pipeline: entries with a library and a class."""
    try:
        found: Any = json.loads(index)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _wrong(f"The {INDEX} of this folder is damaged. Copy it again.")
    entries = ((name, value) for name, value in found.items() if isinstance(value, list) and all(value))
    return sorted(name for name, _ in entries if Path(name).name == name and not name.startswith(("_", ".")))


def _files_of(part: Path) -> Iterator[Path]:
    for path in sorted(part.iterdir()):
        if path.suffix in TAKEN and not path.name.startswith(".") and not path.is_dir():
            yield path


@contextmanager
def packed(folder: Path, files: Sequence[Path]) -> Iterator[Path]:
    """The files as a zip that is gone again afterwards, not compressed: weights hardly shrink."""
    home = get_settings().home  # where there is room for it: /tmp may be small, or memory
    with tempfile.TemporaryDirectory(prefix="import-", dir=home if home.is_dir() else None) as place:
        target = Path(place) / "folder.zip"
        _pack(folder, files, target)
        yield target


def _pack(folder: Path, files: Sequence[Path], target: Path) -> None:
    try:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            for path in files:
                entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), EARLIEST)
                entry.external_attr = 0o644 << 16
                large = path.stat().st_size >= 1 << 31
                with path.open("rb") as source, archive.open(entry, "w", force_zip64=large) as out:
                    shutil.copyfileobj(source, out, 1 << 20)
    except OSError as error:
        if is_disk_full(error):
            raise DiskFull(f"There is no room to pack {folder}. Free some space, then try again.") from error
        raise _wrong(f"{folder} could not be packed ({error.strerror}). Try again.") from error
