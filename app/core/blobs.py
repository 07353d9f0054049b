"""Stored files by content: `blobs/<sha256>`, written once, freed with the last row that names them.

A file is in storage before its row commits, so a crash leaves at most an object that no
row names (`reconcile` finds it). Writing and freeing one hash are kept apart by an advisory
lock, so a file uploaded again while its old row is deleted survives.
"""

import hashlib
from functools import partial
from pathlib import Path

from sqlalchemy import BigInteger, String, delete, func, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.config import get_settings
from app.core.db import Base, Created, after_commit, all_tables, unit_of_work
from app.core.errors import DiskFull
from app.core.storage import Storage, get_storage


class Blob(Base, Created):
    __tablename__ = "blob"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    media_type: Mapped[str] = mapped_column(String(100), default="application/octet-stream")

    @property
    def key(self) -> str:
        return blob_key(self.sha256)


def blob_key(sha256: str) -> str:
    return f"blobs/{sha256}"


def check_space(storage: Storage, size: int) -> None:
    """Raise DiskFull when `size` more bytes would eat into the reserve."""
    free = storage.free_bytes()
    if free is not None and free - size < get_settings().storage.reserve_bytes:
        raise DiskFull(
            f"The server's disk has {free >> 20} MB left, which is too little for this file. "
            "Delete something or ask the admin for more space."
        )


def hash_file(path: Path) -> str:
    """Lower-case sha256 hex of a file, read in 1 MiB chunks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _lock(db: Session, sha256: str) -> None:
    db.execute(select(func.pg_advisory_xact_lock(int(sha256[:15], 16))))


def put_blob(
    db: Session, storage: Storage, data: bytes | Path, media_type: str = "application/octet-stream"
) -> Blob:
    """Store bytes or a file under its sha256 and name it in the database. The same twice is one blob."""
    sha256 = hash_file(data) if isinstance(data, Path) else hashlib.sha256(data).hexdigest()
    size = data.stat().st_size if isinstance(data, Path) else len(data)
    _lock(db, sha256)
    found = db.get(Blob, sha256)
    if found is not None:
        return found
    check_space(storage, size)
    if storage.size(blob_key(sha256)) != size:
        storage.put(blob_key(sha256), data)
    blob = Blob(sha256=sha256, size=size, media_type=media_type)
    db.add(blob)
    db.flush()
    return blob


def adopt_object(db: Session, storage: Storage, key: str, sha256: str, size: int, media_type: str) -> Blob:
    """Make a blob of an object that a job left under its own prefix. `sha256` must be that object's."""
    _lock(db, sha256)
    found = db.get(Blob, sha256)
    if found is None:
        if storage.size(blob_key(sha256)) != size:
            check_space(storage, size)
            storage.copy(key, blob_key(sha256))
        found = Blob(sha256=sha256, size=size, media_type=media_type)
        db.add(found)
        db.flush()
    return found


def _is_named(db: Session, sha256: str) -> bool:
    """True while any row of any table refers to it: found by foreign keys, so none can be forgotten."""
    columns = [
        fk.parent
        for table in all_tables()
        for fk in table.foreign_keys
        if fk.column.table.name == Blob.__tablename__
    ]
    return any(db.scalar(select(select(c).where(c == sha256).exists())) for c in columns)


def release_blobs(db: Session, shas: list[str | None], storage: Storage | None = None) -> None:
    """Free those of `shas` that no row names any more. Call after deleting rows, in the same transaction."""
    db.flush()
    store = storage or get_storage()
    for sha256 in sorted({s for s in shas if s}):
        _lock(db, sha256)
        if _is_named(db, sha256):
            continue
        db.execute(delete(Blob).where(Blob.sha256 == sha256))
        after_commit(db, partial(_free, store, sha256))


def _free(storage: Storage, sha256: str) -> None:
    with unit_of_work() as db:
        _lock(db, sha256)
        if db.get(Blob, sha256) is None:
            storage.delete([blob_key(sha256)])


def reconcile(db: Session, storage: Storage) -> tuple[list[str], list[str]]:
    """Compare both sides: (object keys that no row names, sha256 of rows without an object)."""
    rows = set(db.scalars(select(Blob.sha256)))
    objects = {key.rsplit("/", 1)[-1] for key, _ in storage.list("blobs")}
    return sorted(blob_key(s) for s in objects - rows), sorted(rows - objects)


def used_bytes(db: Session) -> int:
    """Bytes of all blobs."""
    return int(db.scalar(select(func.coalesce(func.sum(Blob.size), 0))) or 0)


def ping(db: Session) -> None:
    db.execute(text("select 1"))
