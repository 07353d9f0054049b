"""The checkpoint that ships with Bottega, kept installed as a model page.

`bottega up` calls this every time: it reads the weights' bytes once and does nothing while they are
the same. New weights become a new version, so that trainings and pictures of the old ones stay true.
"""

import hashlib
import io
import json
import logging
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image as Pillow
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.accounts.service import get_system_user
from app.core.blobs import blob_key, put_blob
from app.core.db import utcnow
from app.core.storage import Storage
from app.gallery.files import add_file
from app.gallery.models import Model, ModelFile, ModelVersion
from app.gallery.service import add_picture, set_tags
from app.images.service import create_sample
from worker.starter import BASE_MODEL, LICENCE, WEIGHTS

log = logging.getLogger("bottega.starter")
TILE = 128
COVERS = 10
EARLIEST = (1980, 1, 1, 0, 0, 0)
"""The first moment that a zip can name: the same weights must give the same bytes."""
DESCRIPTION = f"""A small text-to-image model that comes with Bottega, trained from scratch on scenes that a
program drew. It makes pictures of {TILE} × {TILE} pixels in a second or two on two processor cores.

**What it is for:** trying everything here without a graphics card or a download: train a LoRA, publish it,
generate with it. Tests and demonstrations use it too.

**What it cannot do:** photographs, people, or anything beyond its drawn scenes. For real work bring a real
checkpoint.

**What to write:** tags with commas between them, such as `red castle, golden field, sunset, clear sky`.
It knows things (house, tower, church, windmill, castle, lighthouse, tree, cypress, boat, tent, balloon,
car), colours, grounds, times of day, weather and a few drawing styles. LoRAs made for it work with no other
model, and those of other models do not work with it.
"""


def install_starter(db: Session, storage: Storage, weights: Path = WEIGHTS) -> ModelVersion | None:
    """The page's current version, made or found. None, with a line in the log, when there are no weights.

    `weights` is a folder as diffusers saves it. Safe to call again at any time.
    """
    files = list(_model_files(weights))
    model = db.scalars(select(Model).where(Model.built_in, Model.type == "Checkpoint")).unique().first()
    if not files:
        log.warning("There are no starter weights at %s; bring a checkpoint, or train the starter.", weights)
        return model.versions[0] if model and model.versions else None
    model = model or _new_page(db, get_system_user(db))
    mark = fingerprint(weights, files)
    version = next(
        (v for v in model.versions if any(f.facts.get("fingerprint") == mark for f in v.files)), None
    )
    if version is not None and _is_stored(storage, version.files[0]):
        return version
    if version is None:
        return _new_version(db, storage, model, weights, mark)
    return _restore(storage, version, weights)


def _model_files(weights: Path) -> Iterator[Path]:
    """The files of the pipeline itself, in a fixed order."""
    if not (weights / "model_index.json").exists():
        return
    yield weights / "model_index.json"
    yield from sorted(p for p in weights.glob("*/*") if p.is_file() and not p.name.startswith("."))


def fingerprint(weights: Path, files: list[Path]) -> str:
    """sha256 over names and bytes."""
    total = hashlib.sha256()
    for path in files:
        total.update(f"{path.relative_to(weights).as_posix()}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _is_stored(storage: Storage, file: ModelFile) -> bool:
    return storage.size(blob_key(file.blob_sha256)) == file.size


def _new_page(db: Session, owner: User) -> Model:
    model = Model(
        user_id=owner.id, username=owner.username, name=BASE_MODEL, type="Checkpoint", licence=LICENCE,
        visibility="public", published_at=utcnow(), built_in=True, description=DESCRIPTION,
    )  # fmt: skip
    set_tags(model, ["base model", "starter"])
    db.add(model)
    db.flush()
    return model


def _new_version(db: Session, storage: Storage, model: Model, weights: Path, mark: str) -> ModelVersion:
    version = ModelVersion(
        model=model, name=f"1.{len(model.versions)}", base_model=BASE_MODEL, family="starter",
        status="Published", published_at=utcnow(), strength=1.0,
    )  # fmt: skip
    db.add(version)
    db.flush()
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "starter.zip"
        write_zip(weights, archive)
        blob = put_blob(db, storage, archive, "application/zip")
    file = add_file(
        db, version, blob, name=f"bottega-starter-{version.name}.zip", fp="fp16", precision="pruned"
    )
    file.facts = {**file.facts, "fingerprint": mark}
    model.description = DESCRIPTION
    model.published_at = version.published_at
    _add_covers(db, storage, version, weights)
    db.flush()
    db.expire(model, ["versions"])
    log.info("Installed %s %s.", model.name, version.name)
    return version


def _restore(storage: Storage, version: ModelVersion, weights: Path) -> ModelVersion:
    """The row is there and its object is not, e.g. after a storage was changed: the same zip again."""
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "starter.zip"
        write_zip(weights, archive)
        storage.put(blob_key(version.files[0].blob_sha256), archive)
    return version


def write_zip(weights: Path, target: Path) -> None:
    """The folder as a zip whose bytes depend on nothing but its files: no times, not compressed."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in _model_files(weights):
            entry = zipfile.ZipInfo(path.relative_to(weights).as_posix(), EARLIEST)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, path.read_bytes())


def _add_covers(db: Session, storage: Storage, version: ModelVersion, weights: Path) -> None:
    owner = db.get_one(User, version.model.user_id)
    for position, (tile, prompt) in enumerate(_tiles(weights)):
        blob = put_blob(db, storage, tile, "image/png")
        image = create_sample(
            db, owner, blob=blob, prompt=prompt, width=TILE, height=TILE, base_model=BASE_MODEL,
            resources=[{"kind": "checkpoint", "name": BASE_MODEL, "model_version_id": version.id}],
        )  # fmt: skip
        add_picture(db, version, image, position)


def _tiles(weights: Path) -> Iterator[tuple[bytes, str]]:
    """Pictures out of the grid of the quality gate, with their prompts.

    `covers.json` beside it names the best tiles, counted row by row; without it the first ones are taken.
    """
    grid = next((p for p in (weights / "grid.png", weights.parent / "grid.png") if p.exists()), None)
    if grid is None:
        return
    listed = grid.with_name("covers.json")
    covers: list[dict[str, Any]] = [{"tile": n, "prompt": ""} for n in range(COVERS)]
    if listed.exists():
        covers = json.loads(listed.read_text())
    with Pillow.open(grid) as sheet:
        pixels = sheet.convert("RGB")
    columns, rows = pixels.width // TILE, pixels.height // TILE
    for cover in covers[:COVERS]:
        if cover["tile"] >= columns * rows:
            continue
        left, top = cover["tile"] % columns * TILE, cover["tile"] // columns * TILE
        out = io.BytesIO()
        pixels.crop((left, top, left + TILE, top + TILE)).save(out, "PNG")
        yield out.getvalue(), cover["prompt"]
