"""What a worker makes of a complete upload, and what comes between."""

import hashlib
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import delete
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.jobs import FilesJob
from app.core.errors import Conflict, Invalid, NotFound
from app.core.storage import ObjectStorage, get_storage
from app.jobs.models import Job
from app.uploads import service
from app.uploads.models import Upload
from tests.app.uploads.sending import URL, begin, content, put, send


def test_large_files_are_checked_by_a_worker(
    api: TestClient, db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "AT_ONCE_BYTES", 1000)
    data = content()
    upload = send(api, data)
    job = api.post(f"{URL}/{upload}/complete").json()
    assert job["status"] == "queued"
    assert api.get(f"{URL}/{upload}").json()["state"] == "completing"
    payload = FilesJob.model_validate(db.get_one(Job, job["id"]).payload)
    assert (payload.task, payload.upload) == ("finalize_upload", upload)
    with pytest.raises(Conflict):
        service.get_complete(db, db.get_one(User, db.get_one(Upload, upload).user_id), upload)
    output = service.finalize_upload(db, get_storage(), upload)
    assert output["sha256"] == hashlib.sha256(data).hexdigest()
    assert service.finalize_upload(db, get_storage(), upload) == output
    with pytest.raises(NotFound):
        service.finalize_upload(db, get_storage(), "up_nothing")


def test_a_worker_finds_another_file(api: TestClient, db: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "AT_ONCE_BYTES", 1000)
    upload = send(api, content(), sha256="0" * 64)
    api.post(f"{URL}/{upload}/complete")
    with pytest.raises(Invalid, match="SHA256"):
        service.finalize_upload(db, get_storage(), upload)
    db.expire_all()
    assert api.get(f"{URL}/{upload}").json()["state"] == "failed"
    assert api.post(f"{URL}/{upload}/complete").status_code == 409


def test_aborted_while_a_worker_checks_it(
    api: TestClient, db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "AT_ONCE_BYTES", 1000)
    upload = send(api, content())
    api.post(f"{URL}/{upload}/complete")
    storage = get_storage()

    class Slow(ObjectStorage):
        def put(self, key: str, data: Any) -> None:
            super().put(key, data)
            db.execute(delete(Upload).where(Upload.id == upload))

    slow = Slow(storage._store, storage._root)
    with pytest.raises(NotFound, match="aborted"):
        service.finalize_upload(db, slow, upload)
    assert list(storage.list("")) == []


def test_what_a_killed_worker_left_is_swept(api: TestClient, db: Session) -> None:
    data = content()
    upload = begin(api, data)
    put(api, upload, 1, data)
    get_storage().put("uploads/up_gone/whole", b"x")
    assert service.sweep_uploads(db, get_storage()) == 1
    assert [key for key, _ in get_storage().list("uploads")] == [service.part_key(upload["id"], 1)]


def test_a_check_that_was_cancelled_is_asked_for_again(
    api: TestClient, db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "AT_ONCE_BYTES", 1000)
    upload = send(api, content())
    first = api.post(f"{URL}/{upload}/complete").json()
    assert api.post(f"{URL}/{upload}/complete").json()["id"] == first["id"]
    assert api.post(f"/api/v1/jobs/{first['id']}/cancel").json()["status"] == "canceled"
    second = api.post(f"{URL}/{upload}/complete").json()
    assert (second["id"] != first["id"], second["status"]) == (True, "queued")
