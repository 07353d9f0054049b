"""Leaving: the account's row takes everything with it that is the person's, and the space is freed.

Files are freed after the commit and in portions, because each takes a lock until its transaction
ends; what a crash in between leaves is named by no row, and `free_unnamed` finds it.
"""

from datetime import timedelta

from sqlalchemy import Select, exists, func, select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.accounts.quotas import blob_columns, owned, owned_blobs
from app.accounts.service import SYSTEM, can_edit_account, keep_an_admin
from app.core.blobs import Blob, release_blobs
from app.core.db import after_commit, all_tables, unit_of_work
from app.core.errors import FieldError, Forbidden, Invalid
from app.core.storage import Storage, get_storage

FOLDERS = {"job": "jobs", "upload": "uploads"}
"""Tables whose rows have a folder of their own in storage: table → first part of the key."""
PORTION = 200
UNNAMED_FOR = timedelta(days=1)


def delete_account(
    db: Session, actor: User, user: User, *, confirm: str, storage: Storage | None = None
) -> None:
    """Remove `user` with all data sets, jobs, models and pictures. `confirm` is the name, typed.

    Errors: Invalid at `#/confirm`, Conflict for the only admin, Forbidden for anybody else's account.
    """
    if not can_edit_account(actor, user) or user.username == SYSTEM:
        raise Forbidden("Only the owner or an admin may delete an account.")
    if confirm.strip().lower() != user.username.lower():
        words = f"Type {user.username} to confirm."
        raise Invalid(words, [FieldError("#/confirm", words)])
    keep_an_admin(db, user)
    store = storage or get_storage()
    shas = sorted(db.scalars(select(owned_blobs(user.id))))
    prefixes = _folders(db, user)
    db.delete(user)
    db.flush()
    after_commit(db, lambda: _free(store, shas, prefixes))


def _folders(db: Session, user: User) -> list[str]:
    """Storage prefixes of the rows that have a folder and belong to `user`."""
    found: list[str] = []
    for table in all_tables():
        query = owned(user.id, table.c.id) if table.name in FOLDERS else None
        if query is not None:
            found += [f"{FOLDERS[table.name]}/{row_id}" for row_id in db.scalars(query)]
    return found


def _free(storage: Storage, shas: list[str], prefixes: list[str]) -> None:
    for start in range(0, len(shas), PORTION):
        with unit_of_work() as db:
            release_blobs(db, list(shas[start : start + PORTION]), storage)
    for prefix in prefixes:
        storage.delete([key for key, _ in storage.list(prefix)])


def unnamed_blobs() -> Select[str]:
    """sha256 of stored files that no row names."""
    return select(Blob.sha256).where(*(~exists().where(c == Blob.sha256) for c in blob_columns()))


def free_unnamed(db: Session, storage: Storage | None = None, *, older: timedelta = UNNAMED_FOR) -> int:
    """Free a portion of the files that no row names; answers how many. Call it now and then.

    Young ones stay: somebody may be about to name them.
    """
    query = unnamed_blobs().where(Blob.created_at <= func.now() - older)
    shas = list(db.scalars(query.limit(PORTION)))
    release_blobs(db, list(shas), storage)
    return len(shas)
