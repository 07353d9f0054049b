"""Rows for tests, with as little said as possible. Each function flushes and returns the row."""

from itertools import count
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.blobs import Blob, put_blob
from app.core.ids import new_id
from app.core.security import hash_password
from app.core.storage import get_storage
from app.datasets.models import Dataset, DatasetItem
from app.gallery.models import Model, ModelFile, ModelVersion
from app.images.models import Image
from app.jobs.models import Job

PASSWORD = "correct horse battery"
T = TypeVar("T")
_number = count(1)
_hash = hash_password(PASSWORD)


def _add(db: Session, row: T) -> T:
    db.add(row)
    db.flush()
    return row


def make_user(db: Session, username: str | None = None, **fields: Any) -> User:
    """A member whose password is PASSWORD."""
    return _add(db, User(username=username or f"user{next(_number)}", password_hash=_hash, **fields))


def make_admin(db: Session, username: str | None = None, **fields: Any) -> User:
    return make_user(db, username, role="admin", **fields)


def make_blob(
    db: Session, content: bytes | None = None, media_type: str = "application/octet-stream"
) -> Blob:
    """A blob whose bytes lie in the test's storage."""
    data = content if content is not None else f"blob {next(_number)}".encode()
    return put_blob(db, get_storage(), data, media_type)


def make_dataset(
    db: Session, user: User, name: str = "Pictures", *, items: int = 0, **fields: Any
) -> Dataset:
    dataset = _add(db, Dataset(id=new_id("ds"), user_id=user.id, name=name, **fields))
    for position in range(items):
        make_item(db, dataset, position)
    return dataset


def make_item(db: Session, dataset: Dataset, position: int = 0, **fields: Any) -> DatasetItem:
    number = next(_number)
    blob = make_blob(db, f"picture {number}".encode(), "image/png")
    values: dict[str, Any] = {
        "id": new_id("it"),
        "dataset_id": dataset.id,
        "position": position,
        "name": f"picture-{number}.png",
        "source_sha256": blob.sha256,
        "blob_sha256": blob.sha256,
        "thumb_sha256": blob.sha256,
        "width": 128,
        "height": 128,
        "dhash": number,
        "label": "olive tree, noon",
    }
    return _add(db, DatasetItem(**values | fields))


def make_job(db: Session, user: User, **fields: Any) -> Job:
    """A queued row as the database holds it; its payload is empty unless given."""
    values: dict[str, Any] = {
        "id": new_id("job"),
        "user_id": user.id,
        "type": "training",
        "queue": "train",
        "input": {},
        "payload": {},
    }
    return _add(db, Job(**values | fields))


def make_model(db: Session, user: User, name: str = "Tuscan afternoon", **fields: Any) -> Model:
    values: dict[str, Any] = {"user_id": user.id, "username": user.username, "name": name, "type": "LORA"}
    return _add(db, Model(**values | fields))


def make_version(db: Session, model: Model, name: str = "v1", **fields: Any) -> ModelVersion:
    values: dict[str, Any] = {"name": name, "base_model": "Bottega Starter", "family": "starter"}
    return _add(db, ModelVersion(model=model, **values | fields))


def make_file(db: Session, version: ModelVersion, content: bytes | None = None, **fields: Any) -> ModelFile:
    blob = make_blob(db, content)
    values: dict[str, Any] = {
        "blob_sha256": blob.sha256,
        "name": f"{version.name}.safetensors",
        "size": blob.size,
    }
    return _add(db, ModelFile(version=version, **values | fields))


def make_image(db: Session, user: User, **fields: Any) -> Image:
    blob = make_blob(db, media_type="image/png")
    values: dict[str, Any] = {
        "user_id": user.id,
        "username": user.username,
        "blob_sha256": blob.sha256,
        "size": blob.size,
        "width": 128,
        "height": 128,
        "prompt": "an olive tree at noon",
    }
    return _add(db, Image(**values | fields))
