"""The checkpoints that ship with Bottega, for pictures and for clips, kept installed as model pages.

`bottega up` calls this every time: it reads the weights' bytes once and does nothing while they are
the same. New weights become a new version, so that trainings and pictures of the old ones stay true.
"""

import hashlib
import logging
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

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
from app.gallery.starter_covers import Cover, film_covers, grid_covers, store_cover
from worker.starter import BASE_MODEL, LICENCE, WEIGHTS, clips

log = logging.getLogger("bottega.starter")
COVERS = 10
EARLIEST = (1980, 1, 1, 0, 0, 0)
"""The first moment that a zip can name: the same weights must give the same bytes."""
PICTURES_DESCRIPTION = """A small text-to-image model that comes with Bottega, trained from scratch on
scenes that a program drew. It makes pictures of 128 × 128 pixels in a second or two on two processor cores.

**What it is for:** trying everything here without a graphics card or a download: train a LoRA, publish it,
generate with it. Tests and demonstrations use it too.

**What it cannot do:** photographs, people, or anything beyond its drawn scenes. For real work bring a real
checkpoint.

**What to write:** tags with commas between them, such as `red castle, golden field, sunset, clear sky`.
It knows things (house, tower, church, windmill, castle, lighthouse, tree, cypress, boat, tent, balloon,
car), colours, grounds, times of day, weather and a few drawing styles. LoRAs made for it work with no other
model, and those of other models do not work with it.
"""
CLIPS_DESCRIPTION = """A small text-to-video model that comes with Bottega: Wan's architecture in small,
trained from scratch on moving scenes that a program drew. It makes clips of two seconds and 64 × 64 pixels
in a few seconds on two processor cores.

**What it is for:** trying video here without a graphics card or a download: train a LoRA on a few clips,
publish it, generate with it.

**What it cannot do:** anything but its drawn scenes. For real work bring a checkpoint of Wan or LTX-Video.

**What to write:** a thing with its colour, what it does, where and when, such as
`red boat, sailing left, beach, day`. Boats sail and cars drive left or right, balloons are rising or sinking,
windmills turning or standing still; over a house, tree or castle the sun is setting or rising, or clouds are
drifting left or right. LoRAs made for it work with no other model.
"""


@dataclass(frozen=True)
class Shipped:
    """A checkpoint that ships: a folder as diffusers saves it, and what its page says."""

    family: str
    base_model: str
    weights: Path
    stem: str
    """Of the file that is offered."""
    description: str
    covers: Callable[[Path], Iterator[Cover]]
    """Made from the weights' folder."""


PICTURES = Shipped("starter", BASE_MODEL, WEIGHTS, "bottega-starter", PICTURES_DESCRIPTION, grid_covers)
CLIPS = Shipped(
    "video_starter", clips.BASE_MODEL, clips.WEIGHTS, "bottega-video-starter", CLIPS_DESCRIPTION, film_covers
)


STARTERS = (PICTURES, CLIPS)


def install_starters(
    db: Session, storage: Storage, starters: Sequence[Shipped] = STARTERS
) -> list[ModelVersion | None]:
    """Each page's current version, made or found. None, with a line in the log, where there are no weights.

    Safe to call again at any time. Pages are made last first: lists begin with the newest, and who takes
    the first checkpoint of a fresh installation shall get the first starter.
    """
    now, pages = utcnow(), [_find_page(db, starter) for starter in starters]
    for number, starter in reversed(list(enumerate(starters))):
        if pages[number] is None and _has_weights(starter):
            pages[number] = _new_page(db, get_system_user(db), starter, now)
    return [_install(db, storage, s, page, now) for s, page in zip(starters, pages, strict=True)]


def _install(
    db: Session, storage: Storage, starter: Shipped, model: Model | None, now: datetime
) -> ModelVersion | None:
    weights, versions = starter.weights, model.versions if model else []
    if model is None or not _has_weights(starter):
        log.warning("There are no starter weights at %s; bring a checkpoint, or train the starter.", weights)
        return versions[0] if versions else None
    mark = fingerprint(weights, list(_model_files(weights)))
    version = next((v for v in versions if any(f.facts.get("fingerprint") == mark for f in v.files)), None)
    if version is not None and _is_stored(storage, version.files[0]):
        return version
    if version is None:
        return _new_version(db, storage, model, starter, (mark, now))
    return _restore(storage, version, weights)


def _has_weights(starter: Shipped) -> bool:
    return (starter.weights / "model_index.json").exists()


def _find_page(db: Session, starter: Shipped) -> Model | None:
    made = ModelVersion.family == starter.family
    query = select(Model).where(Model.built_in, Model.type == "Checkpoint", Model.versions.any(made))
    return db.scalars(query).unique().first()


def _model_files(weights: Path) -> Iterator[Path]:
    """The files of the pipeline itself, in a fixed order."""
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


def _new_page(db: Session, owner: User, starter: Shipped, now: datetime) -> Model:
    model = Model(
        user_id=owner.id, username=owner.username, name=starter.base_model, type="Checkpoint",
        licence=LICENCE, visibility="public", published_at=now, built_in=True,
        description=starter.description,
    )  # fmt: skip
    set_tags(model, ["base model", "starter"])
    db.add(model)
    db.flush()
    return model


def _new_version(
    db: Session, storage: Storage, model: Model, starter: Shipped, made: tuple[str, datetime]
) -> ModelVersion:
    """`made`: the fingerprint of the weights, and now."""
    mark, now = made
    version = ModelVersion(
        model=model, name=f"1.{len(model.versions)}", base_model=starter.base_model, family=starter.family,
        status="Published", published_at=now, strength=1.0,
    )  # fmt: skip
    db.add(version)
    db.flush()
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "starter.zip"
        write_zip(starter.weights, archive)
        blob = put_blob(db, storage, archive, "application/zip")
    name = f"{starter.stem}-{version.name}.zip"
    file = add_file(db, version, blob, name=name, fp="fp16", precision="pruned")
    file.facts = {**file.facts, "fingerprint": mark}
    model.description = starter.description
    model.published_at = version.published_at
    owner = db.get_one(User, model.user_id)
    for position, cover in zip(range(COVERS), starter.covers(starter.weights), strict=False):
        add_picture(db, version, store_cover(db, storage, owner, version, cover), position)
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
