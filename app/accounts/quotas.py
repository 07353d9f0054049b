"""What a person may keep and do, and how much of it is used.

Whose a stored file is follows from the foreign keys: every table that names a blob leads over
cascading keys to its user. So a new table counts, and is freed with the account, unasked.
"""

from typing import Any

from sqlalchemy import Column, ForeignKey, Select, Table, column, func, select, table, union
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.states import TERMINAL
from app.core.blobs import Blob
from app.core.config import get_settings
from app.core.db import all_tables
from app.core.errors import QuotaExceeded

JOB = table("job", column("user_id"), column("status"))
"""The queue's table by name: accounts lie below jobs and import nothing of theirs."""


def owner_path(start: Table) -> list[ForeignKey] | None:
    """Cascading foreign keys from `start` to the user table, the shortest way; None without an owner."""
    waiting: list[tuple[Table, list[ForeignKey]]] = [(start, [])]
    seen = {start}
    while waiting:
        at, path = waiting.pop(0)
        for key in sorted(at.foreign_keys, key=lambda k: k.parent.name):
            target = key.column.table
            if key.ondelete != "CASCADE" or target in seen:
                continue
            if target is User.__table__:
                return [*path, key]
            seen.add(target)
            waiting.append((target, [*path, key]))
    return None


def owned(user_id: int, wanted: Column[Any]) -> Select[Any] | None:
    """Select of a column of the rows that belong to a user."""
    path = owner_path(wanted.table)
    if path is None:
        return None
    return _joined(select(wanted), path).where(path[-1].parent == user_id, wanted.is_not(None))


def _joined(query: Select[Any], path: list[ForeignKey]) -> Select[Any]:
    query = query.select_from(path[0].parent.table)
    for key in path[:-1]:
        query = query.join(key.column.table, key.parent == key.column)
    return query


def blob_columns() -> list[Column[Any]]:
    """Every column of every table that names a blob."""
    keys = (key for each in all_tables() for key in each.foreign_keys)
    return [key.parent for key in keys if key.column.table is Blob.__table__]


def owned_blobs(user_id: int) -> Any:
    """Distinct sha256 of all that a user's rows name, as a subquery with one column."""
    parts = [query for c in blob_columns() if (query := owned(user_id, c)) is not None]
    return union(*parts).subquery("owned")


def used_bytes(db: Session, user: User) -> int:
    """Bytes of the files that the user's rows name; the same content counts once."""
    mine = owned_blobs(user.id)
    total = select(func.coalesce(func.sum(Blob.size), 0)).join(mine, mine.c[0] == Blob.sha256)
    return int(db.scalar(total) or 0)


def used_by_everyone(db: Session) -> dict[int, int]:
    """User id → bytes, in one query; who keeps nothing is absent."""
    parts = []
    for wanted in blob_columns():
        if path := owner_path(wanted.table):
            query = _joined(select(path[-1].parent, wanted), path).where(wanted.is_not(None))
            parts.append(query)
    owned_by = union(*parts).subquery("owned_by")
    user_id, sha256 = owned_by.c
    query = select(user_id, func.sum(Blob.size)).join(Blob, Blob.sha256 == sha256).group_by(user_id)
    return {who: int(size) for who, size in db.execute(query)}


def quota_bytes(user: User) -> int | None:
    """Bytes that a user may keep; None = as much as the disk holds (admins without a figure of their own)."""
    if user.quota_bytes is not None:
        return user.quota_bytes
    return None if user.is_admin else get_settings().limits.user_bytes


def check_quota(db: Session, user: User, size: int) -> None:
    """Call before taking `size` more bytes. Errors: QuotaExceeded with `limit` and `used` in bytes."""
    limit = quota_bytes(user)
    if limit is None:
        return
    used = used_bytes(db, user)
    if used + size > limit:
        raise QuotaExceeded(
            f"You use {used / 1e9:.1f} of {limit / 1e9:.1f} GB, which leaves too little room for this. "
            "Delete data sets, trainings or pictures that you no longer need, or ask the admin for more.",
            limit=limit,
            used=used,
        )


def unfinished_jobs(db: Session, user_id: int) -> int:
    open_jobs = JOB.c.status.not_in(sorted(TERMINAL))
    return db.scalar(select(func.count()).select_from(JOB).where(JOB.c.user_id == user_id, open_jobs)) or 0


def limits(db: Session, user: User) -> dict[str, dict[str, Any]]:
    """Per kind `{limit, used, resets_at, concurrent}`; a limit of null means none."""
    settings = get_settings().limits
    return {
        "storage_bytes": _kind(quota_bytes(user), used_bytes(db, user)),
        "jobs_unfinished": _kind(settings.jobs_queued, unfinished_jobs(db, user.id)),
        "reads_per_minute": _kind(settings.reads_per_minute),
        "writes_per_minute": _kind(settings.writes_per_minute),
    }


def _kind(limit: int | None, used: int | None = None) -> dict[str, Any]:
    return {"limit": limit, "used": used, "resets_at": None, "concurrent": None}
