"""Blobs are written once, named by their content, and freed with the last row that names them."""

from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.blobs import Blob, adopt_object, put_blob, reconcile, release_blobs, used_bytes
from app.core.config import get_settings
from app.core.db import unit_of_work
from app.core.errors import DiskFull
from app.core.storage import ObjectStorage, get_storage


@pytest.fixture
def store(db: Session) -> ObjectStorage:
    return get_storage()


def test_the_same_bytes_are_one_blob(db: Session, store: ObjectStorage, tmp_path: Path) -> None:
    first = put_blob(db, store, b"olive grove", "text/plain")
    copy = tmp_path / "copy.bin"
    copy.write_bytes(b"olive grove")
    assert put_blob(db, store, copy) is first
    assert first.media_type == "text/plain"
    assert store.get(first.key) == b"olive grove"
    assert used_bytes(db) == len(b"olive grove")


def test_releasing_an_unnamed_blob_frees_its_object(db: Session, store: ObjectStorage) -> None:
    with unit_of_work() as work:
        sha = put_blob(work, store, b"short lived").sha256
    with unit_of_work() as work:
        release_blobs(work, [sha, None])
        assert store.size(f"blobs/{sha}") is not None
    assert store.size(f"blobs/{sha}") is None
    assert db.scalars(select(Blob)).all() == []


def test_a_job_object_becomes_a_blob(db: Session, store: ObjectStorage) -> None:
    store.put("jobs/1/1/out.bin", b"weights")
    known = put_blob(db, store, b"weights")
    assert adopt_object(db, store, "jobs/1/1/out.bin", known.sha256, 7, "x/y") is known
    store.put("jobs/1/2/out.bin", b"other weights")
    made = adopt_object(db, store, "jobs/1/2/out.bin", "a" * 64, 13, "x/y")
    assert store.get(made.key) == b"other weights"


def test_reconcile_names_both_sides(db: Session, store: ObjectStorage) -> None:
    store.put("blobs/" + "b" * 64, b"no row")
    db.add(Blob(sha256="c" * 64, size=3))
    put_blob(db, store, b"both")
    assert reconcile(db, store) == (["blobs/" + "b" * 64], ["c" * 64])


def test_a_full_disk_is_seen_before_writing(db: Session, store: ObjectStorage) -> None:
    get_settings().storage.reserve_bytes = 1 << 60
    with pytest.raises(DiskFull):
        put_blob(db, store, b"too much")
    assert list(store.list("blobs")) == []
