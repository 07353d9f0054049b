"""What belongs to whom, how much it is, and that leaving frees it."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.accounts import farewell, quotas, service
from app.accounts.models import User
from app.core.blobs import Blob, put_blob, reconcile
from app.core.config import get_settings
from app.core.db import Base, all_tables
from app.core.errors import Conflict, Forbidden, Invalid, QuotaExceeded
from app.core.storage import get_storage
from app.training.models import TrainingCheckpoint
from tests.factories import (
    make_admin,
    make_blob,
    make_dataset,
    make_file,
    make_image,
    make_item,
    make_job,
    make_model,
    make_user,
    make_version,
)


def one_of_everything(db: Session, user: User) -> None:
    """A data set, a training with a checkpoint, a model with a file, a picture: 10 bytes each."""
    make_item(
        db,
        make_dataset(db, user),
        blob_sha256=(b := make_blob(db, f"item{user.id:06}".encode())).sha256,
        thumb_sha256=b.sha256,
    )
    job = make_job(db, user)
    blob = make_blob(db, f"ckpt{user.id:06}".encode())
    db.add(
        TrainingCheckpoint(
            job_id=job.id, epoch=1, step=1, name="1", blob_sha256=blob.sha256, size=10, tensor_sha256="0" * 64
        )
    )
    make_file(db, make_version(db, make_model(db, user)), f"file{user.id:06}".encode())
    image = make_image(db, user)
    image.blob_sha256 = make_blob(db, f"imag{user.id:06}".encode()).sha256
    get_storage().put(f"jobs/{job.id}/1/state.bin", b"unfinished")
    db.flush()


def test_every_table_that_names_a_file_has_an_owner() -> None:
    """A new table whose files would neither count nor be freed is found here."""
    for column in quotas.blob_columns():
        assert quotas.owner_path(column.table), f"{column.table.name} leads to no user over cascading keys"
    assert len(quotas.blob_columns()) >= 9


def test_tables_with_folders_exist_and_have_owners() -> None:
    owned = {table.name for table in all_tables() if quotas.owner_path(table)}
    assert set(farewell.FOLDERS) <= owned


def test_used_bytes_count_each_content_once(db: Session) -> None:
    anna, bea = make_user(db), make_user(db)
    one_of_everything(db, anna)
    one_of_everything(db, bea)
    assert quotas.used_bytes(db, anna) == 40
    shared = make_blob(db, b"shared 10b")
    for _ in range(2):
        make_image(db, anna).blob_sha256 = shared.sha256
    db.flush()
    assert quotas.used_bytes(db, anna) == 50
    assert quotas.used_by_everyone(db) == {anna.id: 50, bea.id: 40}


def test_quota(db: Session) -> None:
    user, admin = make_user(db), make_admin(db)
    quotas.check_quota(db, user, 10**9)
    service.set_quota(db, admin, user, 45)
    one_of_everything(db, user)
    quotas.check_quota(db, user, 5)
    with pytest.raises(QuotaExceeded) as caught:
        quotas.check_quota(db, user, 6)
    assert (caught.value.extra["limit"], caught.value.extra["used"]) == (45, 40)
    assert quotas.quota_bytes(admin) is None
    quotas.check_quota(db, admin, 2**60)


def test_limits_say_what_is_used(db: Session) -> None:
    user = make_user(db)
    make_job(db, user)
    make_job(db, user, status="succeeded")
    limits = quotas.limits(db, user)
    assert limits["jobs_unfinished"] == {
        "limit": get_settings().limits.jobs_queued, "used": 1, "resets_at": None, "concurrent": None
    }  # fmt: skip
    assert limits["storage_bytes"]["limit"] == get_settings().limits.user_bytes


def test_leaving_frees_everything_of_one_person_only(db: Session) -> None:
    storage = get_storage()
    anna, bea = make_user(db, "anna"), make_user(db, "bea")
    one_of_everything(db, anna)
    one_of_everything(db, bea)
    for who in (anna, bea):
        make_image(db, who).blob_sha256 = make_blob(db, b"both have it").sha256
    db.flush()
    farewell.free_unnamed(db, older=timedelta(0))
    db.commit()
    before = quotas.used_bytes(db, bea)
    farewell.delete_account(db, anna, anna, confirm="Anna")
    db.commit()
    for table in Base.metadata.sorted_tables:
        if "user_id" in table.columns:
            left = db.scalar(select(func.count()).select_from(table).where(table.c.user_id == anna.id))
            assert left == 0, f"{table.name} still has rows"
    assert quotas.used_bytes(db, bea) == before
    names = set(db.scalars(select(Blob.sha256)))
    assert reconcile(db, storage) == ([], [])
    assert len(names) == 5
    assert len(list(storage.list("jobs"))) == 1
    assert list(db.scalars(farewell.unnamed_blobs())) == []


def test_leaving_needs_the_name_and_the_right(db: Session) -> None:
    admin, anna, bea = make_admin(db), make_user(db, "anna"), make_user(db, "bea")
    with pytest.raises(Invalid):
        farewell.delete_account(db, anna, anna, confirm="")
    with pytest.raises(Forbidden):
        farewell.delete_account(db, bea, anna, confirm="anna")
    with pytest.raises(Forbidden):
        farewell.delete_account(db, admin, service.get_system_user(db), confirm="bottega")
    with pytest.raises(Conflict):
        farewell.delete_account(db, admin, admin, confirm=admin.username)
    farewell.delete_account(db, admin, anna, confirm="anna")
    assert service.find_user(db, "anna") is None
    assert service.find_user(db, "bea") is bea


def test_files_that_no_row_names_are_freed(db: Session) -> None:
    make_image(db, make_user(db))
    farewell.free_unnamed(db, older=timedelta(0))
    lost = put_blob(db, get_storage(), b"nobody names this")
    assert list(db.scalars(farewell.unnamed_blobs())) == [lost.sha256]
    assert farewell.free_unnamed(db) == 0
    assert farewell.free_unnamed(db, older=timedelta(0)) == 1
    db.commit()
    assert reconcile(db, get_storage()) == ([], [])
