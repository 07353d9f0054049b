"""Upload sessions: parts in any order, resumed, checked, put together; and what becomes of them."""

import base64
import hashlib
import io
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from obstore.store import MemoryStore
from sqlalchemy import event, select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.accounts.quotas import used_bytes
from app.contract.jobs import FilesJob
from app.core.blobs import Blob
from app.core.config import get_settings
from app.core.db import utcnow
from app.core.errors import NotFound
from app.core.storage import ObjectStorage, get_storage
from app.datasets import service as datasets
from app.jobs.models import Job
from app.uploads import service
from app.uploads.models import Upload
from tests.app.conftest import Script
from tests.app.datasets.pictures import png, zipped
from tests.app.recognition.listings import whole
from tests.app.uploads.sending import URL, begin, content, put, send
from tests.factories import make_dataset, make_user


def test_a_file_in_parts_resumed_and_completed(api: TestClient, db: Session) -> None:
    data = content()
    upload = begin(
        api, data, "../some dir/model.safetensors", sha256=hashlib.sha256(data).hexdigest().upper()
    )
    assert (upload["name"], upload["part_size"], upload["parts"]) == ("model.safetensors", 1000, 3)
    assert upload["missing"] == [1, 2, 3]
    assert put(api, upload, 3, data).status_code == put(api, upload, 1, data).status_code == 204
    assert api.get(f"{URL}/{upload['id']}").json()["missing"] == [2]
    early = api.post(f"{URL}/{upload['id']}/complete")
    assert (early.status_code, early.json()["code"], early.json()["missing"]) == (409, "parts-missing", [2])
    assert put(api, upload, 1, data).status_code == put(api, upload, 2, data).status_code == 204
    done = api.post(f"{URL}/{upload['id']}/complete")
    job = done.json()
    assert done.status_code == 202
    assert done.headers["location"] == f"/api/v1/jobs/{job['id']}"
    assert job["status"] == "succeeded"
    assert job["output"]["sha256"] == hashlib.sha256(data).hexdigest()
    shown = api.get(f"{URL}/{upload['id']}").json()
    assert shown["state"] == "complete"
    assert shown["missing"] == []
    assert shown["hashes"]["SHA256"] == hashlib.sha256(data).hexdigest().upper()
    assert "Tensor" not in shown["hashes"]
    assert get_storage().get(f"blobs/{shown['sha256']}") == data
    assert list(get_storage().list(f"uploads/{upload['id']}")) == []
    assert api.post(f"{URL}/{upload['id']}/complete").json()["id"] == job["id"]
    assert put(api, upload, 1, data).status_code == 409


def test_a_part_sent_again_replaces_the_first(api: TestClient) -> None:
    data = content()
    upload = begin(api, data)
    put(api, upload, 1, bytes(2500))
    for number in (1, 2, 3):
        put(api, upload, number, data)
    job = api.post(f"{URL}/{upload['id']}/complete").json()
    assert job["output"]["sha256"] == hashlib.sha256(data).hexdigest()


def test_parts_of_another_length_are_refused(api: TestClient) -> None:
    upload = begin(api, content())
    url = f"{URL}/{upload['id']}/parts"
    short, long = api.put(f"{url}/1", content=b"x" * 999), api.put(f"{url}/1", content=b"x" * 1001)
    assert (short.status_code, short.json()["code"], long.status_code) == (422, "part-size", 413)
    assert api.put(f"{url}/3", content=b"x" * 1000).status_code == 413
    streamed = api.put(f"{url}/1", content=iter([b"x" * 900, b"x" * 900]))
    assert streamed.status_code == 413
    for number in ("0", "4", "-1"):
        assert api.put(f"{url}/{number}", content=b"x").status_code == 404
    assert api.put(f"{url}/one", content=b"x").status_code == 422
    assert api.get(f"{URL}/{upload['id']}").json()["missing"] == [1, 2, 3]


def test_a_digest_is_compared(api: TestClient) -> None:
    data = content(1000)
    upload = begin(api, data)
    right = base64.b64encode(hashlib.sha256(data).digest()).decode()
    wrong = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    for bad in (f"sha-256=:{wrong}:", "sha-256=:%%%:"):
        answer = put(api, upload, 1, data, **{"Content-Digest": bad})
        assert (answer.status_code, answer.json()["code"]) == (422, "digest-mismatch")
    assert api.get(f"{URL}/{upload['id']}").json()["missing"] == [1]
    assert (
        put(api, upload, 1, data, **{"Content-Digest": f"md5=:AA==:, sha-256=:{right}:"}).status_code == 204
    )


def test_another_file_than_announced(api: TestClient) -> None:
    upload = send(api, content(), sha256="0" * 64)
    answer = api.post(f"{URL}/{upload}/complete")
    assert (answer.status_code, answer.json()["code"]) == (422, "digest-mismatch")
    assert api.get(f"{URL}/{upload}").json()["state"] == "open"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": "a", "size": 0}, "#/size"),
        ({"name": "", "size": 1}, "#/name"),
        ({"name": "a\nb", "size": 1}, "#/name"),
        ({"name": "a", "size": 1, "sha256": "xyz"}, "#/sha256"),
        ({"name": "a", "size": 1, "colour": "red"}, "#/colour"),
        ({"name": "a"}, "#/size"),
    ],
)
def test_wrong_fields_are_named(api: TestClient, body: dict[str, Any], pointer: str) -> None:
    answer = api.post(URL, json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer


def test_room_is_reserved_when_it_begins(api: TestClient, owner: User, db: Session, monkeypatch: Any) -> None:
    owner.quota_bytes = 4000
    db.flush()
    begin(api, content(2500))
    full = api.post(URL, json={"name": "b", "size": 2500})
    assert (full.status_code, full.json()["code"]) == (403, "quota-exceeded")
    monkeypatch.setattr(get_settings().storage, "reserve_bytes", 1 << 60)
    full = api.post(URL, json={"name": "b", "size": 10})
    assert (full.status_code, full.json()["code"]) == (507, "disk-full")


def test_abort_frees_everything(api: TestClient, owner: User, db: Session) -> None:
    opened, done = begin(api, content()), send(api, content(900))
    put(api, opened, 1, content())
    api.post(f"{URL}/{done}/complete")
    assert used_bytes(db, owner) == 900
    for each in (opened["id"], done):
        assert api.delete(f"{URL}/{each}").status_code == 204
        assert api.get(f"{URL}/{each}").status_code == 404
    assert db.scalars(select(Blob)).all() == []
    assert list(get_storage().list("")) == []


def test_sessions_end_after_their_time(api: TestClient, db: Session) -> None:
    old, fresh = begin(api, content()), begin(api, content())
    put(api, old, 1, content())
    db.get_one(Upload, old["id"]).expires_at = utcnow() - timedelta(hours=1)
    db.flush()
    assert service.expire_uploads(db, get_storage()) == 1
    assert api.get(f"{URL}/{old['id']}").status_code == 404
    assert api.get(f"{URL}/{fresh['id']}").status_code == 200


def test_an_uploaded_zip_becomes_pictures(api: TestClient, owner: User, db: Session) -> None:
    dataset = make_dataset(db, owner)
    items = f"/api/v1/datasets/{dataset.id}/items"
    upload = send(api, zipped([("a.png", png(1)), ("a.txt", b"one")]))
    assert api.post(items, json={"upload": upload}).json()["code"] == "upload-incomplete"
    api.post(f"{URL}/{upload}/complete")
    body = api.post(items, json={"upload": upload}).json()
    assert [(item["name"], item["label"]) for item in body["accepted"]] == [("a.png", "one")]
    assert api.get(f"{URL}/{upload}").status_code == 404
    assert len(db.scalars(select(Blob)).all()) == 2


def test_a_large_zip_becomes_a_job(
    api: TestClient, owner: User, db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "IN_REQUEST_BYTES", 100)
    dataset = make_dataset(db, owner)
    items = f"/api/v1/datasets/{dataset.id}/items"
    data = zipped([("a.png", png(1)), ("b.png", b"no picture")])
    direct = api.post(items, files={"files": ("photos.zip", data)})
    upload = send(api, data)
    api.post(f"{URL}/{upload}/complete")
    by_session = api.post(items, json={"upload": upload})
    for answer in (direct, by_session):
        job = answer.json()
        assert answer.status_code == 202
        assert job["type"] == "files"
        assert job["status"] == "queued"
        assert answer.headers["location"].endswith(f"/jobs/{job['id']}")
    outputs = []
    for answer in (direct, by_session):
        payload = FilesJob.model_validate(db.get_one(Job, answer.json()["id"]).payload)
        assert payload.task == "import_zip"
        outputs.append(
            datasets.import_zip(db, get_storage(), dataset_id=payload.dataset, upload_id=payload.upload)
        )
        with pytest.raises(NotFound):
            datasets.import_zip(db, get_storage(), dataset_id=payload.dataset, upload_id=payload.upload)
    assert [(o["accepted"], len(o["duplicates"]), len(o["rejected"])) for o in outputs] == [
        (1, 0, 1),
        (0, 1, 1),
    ]
    assert db.scalars(select(Upload)).all() == []


def test_a_request_sent_twice_works_once(api: TestClient, db: Session) -> None:
    for url, body in ((URL, {"name": "a.zip", "size": 10}), ("/api/v1/datasets", {"name": "Towns"})):
        first, again = (api.post(url, json=body, headers={"Idempotency-Key": "k1"}) for _ in range(2))
        assert first.status_code == again.status_code == 201
        assert first.json() == again.json()
        assert again.headers["idempotency-replayed"] == "true"
        assert (
            api.post(url, json={**body, "name": "other"}, headers={"Idempotency-Key": "k1"}).status_code
            == 422
        )
    assert len(db.scalars(select(Upload)).all()) == 1


def test_other_peoples_uploads_do_not_exist(api: TestClient, script: Script, db: Session) -> None:
    upload = begin(api, content())
    stranger = script(make_user(db), "read", "train")
    assert stranger.get(f"{URL}/{upload['id']}").status_code == 404
    assert put(stranger, upload, 1, content()).status_code == 404
    assert stranger.delete(f"{URL}/{upload['id']}").status_code == 404


def test_stores_without_a_local_folder(owner: User, db: Session, tmp_path: Path) -> None:
    storage = ObjectStorage(MemoryStore())
    data = zipped([("a.png", png(1)), ("a.txt", b"one")], method=0)
    upload = service.create_upload(db, storage, owner, name="a.zip", size=len(data))
    for number in range(1, service.part_count(upload) + 1):
        part = tmp_path / "part"
        part.write_bytes(data[(number - 1) * upload.part_size : number * upload.part_size])
        service.put_part(db, storage, owner, upload.id, number, path=part)
    service.complete_upload(db, storage, owner, upload.id)
    dataset = make_dataset(db, owner)
    report = datasets.import_upload(storage, owner, dataset.id, upload.id)
    assert len(report.accepted) == 1
    assert datasets.snapshot(db, owner, dataset.id)[0].label == "one"
    service.delete_upload(db, storage, owner, upload.id)
    assert len(list(storage.list("blobs"))) == 3  # picture, thumbnail, and the zip until the commit
    _, pieces = datasets.export_zip(db, storage, owner, dataset.id)
    with zipfile.ZipFile(io.BytesIO(b"".join(pieces))) as archive:
        assert archive.namelist() == ["000.png", "000.txt"]


def test_a_complete_upload_says_what_it_is(api: TestClient) -> None:
    tensors = {"emb_params": [5, 768]}
    job = api.post(f"{URL}/{send(api, whole(tensors), 'ink.safetensors')}/complete").json()
    found = job["output"]["recognised"]
    assert (found["model_type"], found["base_model"]) == ("TextualInversion", "SD 1.5")
    job = api.post(f"{URL}/{send(api, content())}/complete").json()
    assert (job["status"], job["output"]["recognised"]) == ("succeeded", None)
    assert "refusal" not in job["output"]
    job = api.post(f"{URL}/{send(api, bytes(1) + content(), 'ink.safetensors')}/complete").json()
    assert job["output"]["refusal"]["code"] == "not-a-model"


@pytest.mark.parametrize(("start", "code"), [(b"<!DOCTYPE html>", "web-page"), (b"\x80\x02}q", "pickle")])
def test_the_first_part_shows_what_is_no_model(api: TestClient, start: bytes, code: str) -> None:
    data = start + content()
    upload = begin(api, data, "model.safetensors")
    assert put(api, upload, 2, data).status_code == 204
    answer = put(api, upload, 1, data)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert api.get(f"{URL}/{upload['id']}").json()["missing"] == [1, 3]
    assert put(api, begin(api, data, "page.zip"), 1, data).status_code == 204


def test_ones_own_sessions_are_listed(api: TestClient, script: Script, db: Session) -> None:
    data = content()
    first, second = begin(api, data), begin(api, data, "model.safetensors")
    put(api, second, 2, data)
    items = api.get(URL).json()["items"]
    assert [(item["id"], item["missing"]) for item in items] == [
        (second["id"], [1, 3]),
        (first["id"], [1, 2, 3]),
    ]
    assert script(make_user(db)).get(URL).json() == {"items": []}


def test_as_many_queries_for_three_sessions_as_for_one(api: TestClient, owner: User, db: Session) -> None:
    counts = []
    for _ in range(3):
        put(api, begin(api, content()), 1, content())
        asked: list[str] = []

        def note(*args: Any, asked: list[str] = asked) -> None:
            asked.append(args[2])

        event.listen(db.get_bind(), "before_cursor_execute", note)
        service.list_uploads(db, owner)
        event.remove(db.get_bind(), "before_cursor_execute", note)
        counts.append(len([query for query in asked if "upload" in query]))
    assert counts == [2, 2, 2]


@pytest.mark.parametrize(
    ("size", "part"), [(1, 16 << 20), (1600 << 20, 16 << 20), (3200 << 20, 32 << 20), (1 << 40, 110 << 20)]
)
def test_large_files_have_larger_parts(monkeypatch: pytest.MonkeyPatch, size: int, part: int) -> None:
    monkeypatch.setattr(service, "PART_SIZE", 16 << 20)
    assert part * 0.95 < service.part_size_for(size) <= part
    assert -(-size // service.part_size_for(size)) <= service.MAX_PARTS


@pytest.mark.parametrize("name", ["model.ckpt", "Model.PT", "pytorch_model.bin"])
def test_a_pickle_is_refused_before_it_is_sent(api: TestClient, name: str) -> None:
    answer = api.post(URL, json={"name": name, "size": 4_000_000_000})
    assert (answer.status_code, answer.json()["code"]) == (422, "pickle")
    assert ".safetensors" in answer.json()["detail"]
