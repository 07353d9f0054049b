"""Sets of pictures or clips: make, list, describe, delete, and the snapshot that a training takes.

Adding files lives in `adding.py`, changing labels in `editing.py`; both are offered here too, so
that other domains know one module.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.jobs import BlobRef, FilesJob, TrainItem
from app.core.blobs import Blob, release_blobs
from app.core.conditional import require_match
from app.core.config import get_settings
from app.core.db import unit_of_work
from app.core.errors import FieldError, Invalid, NotFound, Unauthorized
from app.core.ids import new_id
from app.core.paging import Page, keyset_page
from app.core.storage import Storage
from app.datasets.access import can_edit_dataset, can_see_dataset, get_dataset, get_item
from app.datasets.adding import Progress, Report, add_files, is_near
from app.datasets.archives import is_zip
from app.datasets.editing import change_labels, set_label, undo_labels
from app.datasets.export import zip_items
from app.datasets.intake import Received
from app.datasets.labels import normalise_label
from app.datasets.media import LABEL_TYPE, MEDIA, check_trainable, check_usable, trained_media
from app.datasets.models import Dataset, DatasetItem
from app.datasets.queries import TAGS_IN_LISTS, Facts, covers, dataset_etag, facts, filter_items
from app.datasets.views import clip_families_out, dataset_out, item_out
from app.jobs.models import Job
from app.jobs.service import enqueue
from app.uploads.models import Upload
from app.uploads.service import delete_upload, get_complete

__all__ = [
    "Report", "add_files", "can_edit_dataset", "can_see_dataset", "change_labels",
    "check_trainable", "check_usable", "create_dataset",
    "delete_dataset", "delete_item", "describe", "editor_context", "export_zip", "get_dataset",
    "get_item", "get_items", "get_strip", "import_upload", "import_zip", "is_for_a_job", "list_covers",
    "list_datasets", "list_items", "media_type", "page_datasets", "set_label", "snapshot",
    "start_import", "trained_media", "undo_labels", "update_dataset",
]  # fmt: skip

LABEL_TYPES = ("tag", "caption")
IN_REQUEST_BYTES = 64 << 20
"""Zips and clips up to this size are read before the answer, larger ones by a job."""


def create_dataset(
    db: Session, user: User, *, name: str, media: str = "image", label_type: str | None = None
) -> Dataset:
    """An empty set; unless said, pictures have tags and clips captions. Errors: Invalid by field."""
    if media not in MEDIA:
        raise Invalid("A set holds pictures or clips.", [FieldError("#/media", "image or video")])
    dataset = Dataset(
        id=new_id("ds"),
        user_id=user.id,
        name=_checked_name(name),
        media=media,
        label_type=_checked_type(label_type or LABEL_TYPE[media]),
    )
    db.add(dataset)
    db.flush()
    return dataset


def _checked_name(name: str) -> str:
    name = " ".join(name.split())
    if not 1 <= len(name) <= 100:
        raise Invalid(
            "Give the set a name of 1 to 100 characters.", [FieldError("#/name", "1 to 100 characters")]
        )
    return name


def _checked_type(label_type: str) -> str:
    if label_type not in LABEL_TYPES:
        raise Invalid("Labels are tags or captions.", [FieldError("#/label_type", "tag or caption")])
    return label_type


def list_datasets(db: Session, viewer: User | None, *, limit: int = 200) -> list[Dataset]:
    """One's own sets, newest first, to choose from. Errors: Unauthorized."""
    return [dataset for dataset, _ in page_datasets(db, viewer, limit=limit).items]


def page_datasets(
    db: Session, viewer: User | None, *, cursor: str | None = None, limit: int = 50
) -> Page[tuple[Dataset, Facts]]:
    """One's own sets with their figures, newest first. Errors: Unauthorized."""
    if viewer is None:
        raise Unauthorized("Log in to see your data sets.")
    query = select(Dataset).where(Dataset.user_id == viewer.id)
    page = keyset_page(db, query, [Dataset.created_at, Dataset.id], cursor=cursor, limit=limit)
    known = facts(db, page.items, tags=TAGS_IN_LISTS)
    return Page([(dataset, known[dataset.id]) for dataset in page.items], page.next_cursor)


def list_covers(db: Session, ids: list[str], *, each: int) -> dict[str, list[str]]:
    """The first few picture ids of sets that the caller has listed."""
    return covers(db, ids, each)


def describe(db: Session, dataset: Dataset) -> Facts:
    """Figures and all tags of one set."""
    return facts(db, [dataset])[dataset.id]


def update_dataset(
    db: Session, user: User, dataset_id: str, *, name: str | None = None, label_type: str | None = None,
    if_match: str | None = None,
) -> Dataset:  # fmt: skip
    """Rename, or say that labels are captions (or tags): then each label is brought to that form."""
    dataset = get_dataset(db, user, dataset_id, edit=True, lock=True)
    require_match(if_match, dataset_etag(dataset))
    if name is not None:
        dataset.name = _checked_name(name)
    if label_type is not None and _checked_type(label_type) != dataset.label_type:
        dataset.label_type = label_type
        for item in db.scalars(select(DatasetItem).where(DatasetItem.dataset_id == dataset.id)):
            item.label = normalise_label(item.label, label_type)
    dataset.version += 1
    db.flush()
    return dataset


def delete_dataset(db: Session, user: User, dataset_id: str) -> None:
    """Remove a set and free what only it named. A training's snapshot keeps its own pictures."""
    dataset = get_dataset(db, user, dataset_id, edit=True, lock=True)
    items = db.scalars(select(DatasetItem).where(DatasetItem.dataset_id == dataset.id)).all()
    freed = [sha for item in items for sha in _blobs(item)]
    db.delete(dataset)
    release_blobs(db, freed)


def _blobs(item: DatasetItem) -> list[str | None]:
    return [item.blob_sha256, item.thumb_sha256, item.strip_sha256]


def delete_item(db: Session, user: User, dataset_id: str, item_id: str) -> Dataset:
    """Remove one picture; pictures that looked like it may not be near duplicates any more."""
    dataset, item = get_item(db, user, dataset_id, item_id, edit=True)
    db.delete(item)
    dataset.version += 1
    release_blobs(db, _blobs(item))
    earlier: list[int] = []
    for other in db.scalars(
        select(DatasetItem).where(DatasetItem.dataset_id == dataset.id).order_by(DatasetItem.position)
    ):
        if "near-duplicate" in other.warnings and not any(is_near(other.dhash, seen) for seen in earlier):
            other.warnings = [code for code in other.warnings if code != "near-duplicate"]
        earlier.append(other.dhash)
    db.flush()
    return dataset


def list_items(
    db: Session, viewer: User | None, dataset_id: str, *, tag: str | None = None,
    unlabelled: bool | None = None, warning: str | None = None, cursor: str | None = None, limit: int = 100,
) -> Page[DatasetItem]:  # fmt: skip
    """Pictures in the order in which they came. `tag` is one whole tag. Errors: NotFound."""
    dataset = get_dataset(db, viewer, dataset_id)
    query = select(DatasetItem).where(DatasetItem.dataset_id == dataset.id)
    query = filter_items(query, tag=tag, unlabelled=unlabelled, warning=warning)
    return keyset_page(
        db, query, [DatasetItem.position, DatasetItem.id], cursor=cursor, limit=limit, ascending=True
    )


def editor_context(
    db: Session,
    viewer: User | None,
    dataset_id: str,
    *,
    trigger_word: str = "",
    resolution: int | None = None,
    cut: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What `datasets/_editor.html` needs.

    `resolution`: the side at which the chosen base draws. `cut`: how a training would cut clips, as the
    query of `…/windows`; None lets the person choose a family and try.
    """
    dataset = get_dataset(db, viewer, dataset_id)
    page = list_items(db, viewer, dataset_id, limit=get_settings().limits.dataset_items)
    shown = dataset_out(dataset, describe(db, dataset)).model_dump(mode="json")
    pictures = [item_out(item).model_dump(mode="json") for item in page.items]
    return {
        "dataset": shown,
        "items": pictures,
        "trigger_word": trigger_word,
        "trainable": dataset.media in trained_media(),
        "editable": can_edit_dataset(viewer, dataset),
        "editor_state": {
            "dataset": shown,
            "items": pictures,
            "trigger": trigger_word,
            "resolution": resolution,
            "cut": cut,
            "families": clip_families_out(),
            "sessionBytes": get_settings().limits.upload_bytes,
        },
    }


def get_items(db: Session, dataset_id: str, ids: list[str]) -> list[DatasetItem]:
    """Pictures by id, in the order in which they came."""
    query = select(DatasetItem).where(DatasetItem.dataset_id == dataset_id, DatasetItem.id.in_(ids))
    return list(db.scalars(query.order_by(DatasetItem.position)))


def get_strip(db: Session, viewer: User | None, dataset_id: str, item_id: str) -> str:
    """sha256 of a clip's strip of frames. Errors: NotFound, for pictures too."""
    _, item = get_item(db, viewer, dataset_id, item_id)
    if item.strip_sha256 is None:
        raise NotFound("This is a picture; only clips have a strip of frames.")
    return item.strip_sha256


def media_type(db: Session, item: DatasetItem) -> str:
    """Of the stored picture."""
    return db.get_one(Blob, item.blob_sha256).media_type


def snapshot(db: Session, viewer: User | None, dataset_id: str) -> list[TrainItem]:
    """What a training takes: pictures and labels as they are now, in order. Later edits change nothing."""
    dataset = get_dataset(db, viewer, dataset_id)
    rows = db.execute(
        select(DatasetItem, Blob.size)
        .join(Blob, Blob.sha256 == DatasetItem.blob_sha256)
        .where(DatasetItem.dataset_id == dataset.id)
        .order_by(DatasetItem.position)
    )
    return [
        TrainItem(
            file=BlobRef(sha256=item.blob_sha256, size=size, name=item.name),
            width=item.width,
            height=item.height,
            label=item.label,
            frames=(item.clip or {}).get("frames", 1),
            fps=(item.clip or {}).get("fps"),
        )
        for item, size in rows
    ]


def export_zip(
    db: Session, storage: Storage, viewer: User | None, dataset_id: str
) -> tuple[Dataset, Iterator[bytes]]:
    """(set, the zip in pieces): `000.png` with `000.txt` and so on. The trigger word is in no label."""
    dataset = get_dataset(db, viewer, dataset_id)
    rows = db.execute(
        select(DatasetItem.blob_sha256, DatasetItem.label, Blob.media_type)
        .join(Blob, Blob.sha256 == DatasetItem.blob_sha256)
        .where(DatasetItem.dataset_id == dataset.id)
        .order_by(DatasetItem.position)
    )
    return dataset, zip_items(storage, [(sha, label, media) for sha, label, media in rows])


def import_upload(
    storage: Storage, user: User, dataset_id: str, upload_id: str, progress: Progress | None = None
) -> Report:
    """Add what a complete upload session brought. Errors: NotFound, Conflict while it is not complete."""
    with unit_of_work() as db:
        upload = get_complete(db, user, upload_id)
        name, sha256 = upload.name, upload.blob_sha256
    with tempfile.TemporaryDirectory(prefix="bottega-import-") as folder:
        path = storage.local_path(f"blobs/{sha256}")
        if path is None:
            path = Path(folder) / "file"
            storage.fetch(f"blobs/{sha256}", path)
        return add_files(storage, user, dataset_id, [Received(name, path)], progress)


def is_for_a_job(dataset: Dataset, file: Received) -> bool:
    """A zip or a clip that takes too long for a request."""
    with file.path.open("rb") as head:
        large = file.path.stat().st_size > IN_REQUEST_BYTES
        return large and (dataset.media == "video" or is_zip(head.read(8)))


def start_import(db: Session, user: User, dataset_id: str, upload: Upload) -> Job:
    """Let a worker add a large zip or clip. Its job's output is the same report as a request's."""
    dataset = get_dataset(db, user, dataset_id, edit=True)
    payload = FilesJob(task="import_zip", upload=upload.id, dataset=dataset.id)
    return enqueue(
        db, user, type="files", queue="files", title=f"Add {upload.name} to {dataset.name}",
        input={"upload": upload.id, "dataset": dataset.id}, payload=payload.model_dump(mode="json"),
    )  # fmt: skip


def import_zip(
    db: Session, storage: Storage, *, dataset_id: str | None, upload_id: str | None
) -> dict[str, Any]:
    """The worker's side of start_import: counts and errors, for the job's output. Safe to run again.

    Pictures are stored in units of work of their own, so that the set stays usable meanwhile; what a
    lost worker has stored, the next one finds as duplicates. Errors: NotFound.
    """
    upload = db.get(Upload, upload_id or "")
    dataset = db.get(Dataset, dataset_id or "")
    if upload is None or dataset is None:
        raise NotFound("The file or its data set was deleted meanwhile.")
    user = db.get_one(User, upload.user_id)
    report = import_upload(storage, user, dataset.id, upload.id)
    delete_upload(db, storage, user, upload.id)
    return {
        "dataset": dataset.id,
        "accepted": len(report.accepted),
        "rejected": report.rejected,
        "duplicates": [vars(duplicate) for duplicate in report.duplicates],
        "labels": len(report.labels),
        "notes": report.notes,
    }
