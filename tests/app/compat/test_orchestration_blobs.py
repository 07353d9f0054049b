"""Blobs: what is sent, what is fetched, and addresses that open one thing for some time."""

import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts import signatures
from app.accounts.models import User
from app.core.db import utcnow
from app.uploads.models import Upload
from tests.app.compat.orchestrating import (
    BLOBS,
    JOBS,
    base_air,
    draw,
    jobs_of,
    keep_zip,
    png,
    v1_job,
    zip_of_pictures,
)
from tests.app.conftest import Script
from tests.factories import make_user


@pytest.fixture
def user(db: Session) -> User:
    return make_user(db, "ada")


@pytest.fixture
def api(script: Script, user: User) -> TestClient:
    return script(user, "read", "generate", "train")


def test_a_picture_and_a_zip_are_kept(api: TestClient, client: TestClient) -> None:
    picture = api.post(BLOBS, content=png())
    assert picture.status_code == 201
    told = picture.json()
    assert (told["type"], told["available"]) == ("image", True)
    fetched = client.get(told["url"])
    assert (fetched.status_code, fetched.headers["content-type"]) == (200, "image/png")
    data = zip_of_pictures(1)
    packed = api.post(BLOBS, content=data, headers={"Content-Type": "application/zip"}).json()
    fetched = client.get(f"{packed['url']}&filename=mine.zip")
    assert (packed["type"], fetched.content == data) == ("file", True)
    assert fetched.headers["content-disposition"] == 'attachment; filename="mine.zip"'


NEITHER = [b"", b"hello", b"<html></html>", png()[:40], b"PK", b"\x80\x02}q\x00."]


def test_what_is_neither_is_refused(db: Session, api: TestClient) -> None:
    for content in NEITHER:
        answer = api.post(BLOBS, content=content)
        assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json"), (
            content
        )
        assert list(db.scalars(select(Upload))) == []


def test_a_signed_address_takes_one_blob_without_a_token(
    db: Session, api: TestClient, client: TestClient
) -> None:
    told = api.get(f"{BLOBS}/upload").json()
    assert told["expiresAt"] > utcnow().isoformat()[:19]
    sent = client.post(told["uploadUrl"], content=png())
    assert sent.status_code == 201
    assert api.get(f"{BLOBS}/{sent.json()['id']}").status_code == 200
    assert client.post(BLOBS, content=png()).status_code == 401


def test_a_token_that_only_reads_gets_no_address_for_uploads(script: Script, user: User) -> None:
    reader = script(user, "read")
    assert reader.get(f"{BLOBS}/upload").status_code == 403
    assert reader.post(BLOBS, content=png()).status_code == 403


@pytest.fixture
def drawn(db: Session, api: TestClient) -> str:
    """Address of a picture that a job has drawn."""
    token = api.post(JOBS, json=v1_job(base_air(db, make_user(db)))).json()["token"]
    draw(db, jobs_of(db)[0])
    url: str = api.get(JOBS, params={"token": token}).json()["jobs"][0]["result"]["blobUrl"]
    return url


def test_an_address_opens_what_was_signed_and_nothing_else(
    db: Session, api: TestClient, client: TestClient, drawn: str
) -> None:
    other = api.post(BLOBS, content=png()).json()["id"]
    parts = urlsplit(drawn)
    said = {name: values[0] for name, values in parse_qs(parts.query).items()}
    assert client.get(drawn).status_code == 200
    assert client.head(drawn).status_code == 204
    changed = [
        {"sig": "0" * 64}, {"until": str(int(said["until"]) + 3600)}, {"user": "999"}, {"user": "-1"},
        {"user": str(2**40)},
    ]  # fmt: skip
    answers = [client.get(parts.path, params=said | change) for change in changed]
    assert [answer.status_code for answer in answers] == [401] * 5
    assert client.get(f"{BLOBS}/{other}", params=said).status_code == 401
    assert client.post(BLOBS, params=said, content=png()).status_code == 401
    assert client.get(parts.path).status_code == 401


def test_an_address_ends_with_its_time_and_with_its_account(
    db: Session, client: TestClient, user: User, drawn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    until = int(parse_qs(urlsplit(drawn).query)["until"][0])
    assert until - time.time() >= signatures.LIFETIME
    user.disabled_at = utcnow()
    assert client.get(drawn).status_code == 401
    user.disabled_at = None
    late = signatures.Signer(user.id, signatures._key(db, user.id), int(time.time()) - 1)
    path = urlsplit(drawn).path
    assert client.get(f"{path}?{late.query('blob ' + path.rpartition('/')[2])}").status_code == 401


def test_the_same_address_is_given_again_within_the_hour(api: TestClient, drawn: str) -> None:
    path = urlsplit(drawn).path
    assert api.get(f"{path}/refresh").json()["url"] == drawn


def test_refreshing_keeps_an_upload_for_longer(
    db: Session, api: TestClient, user: User, tmp_path: Path
) -> None:
    blob_id = keep_zip(db, user, zip_of_pictures(1), tmp_path)
    upload = db.get_one(Upload, blob_id)
    upload.expires_at = utcnow()
    assert api.get(f"{BLOBS}/{blob_id}/refresh").status_code == 200
    assert upload.expires_at < utcnow()
    assert api.post(f"{BLOBS}/{blob_id}/refresh").json()["id"] == blob_id
    assert upload.expires_at > utcnow()


NOT_THERE = [
    "x",
    "job_0-0",
    "up_1",
    f"job_{'0' * 26}-0",
    f"job_{'0' * 26}-e1",
    f"job_{'0' * 26}-s1",
    "..%2fx",
]


def test_a_blob_that_is_not_there_is_a_404(api: TestClient) -> None:
    for name in NOT_THERE:
        assert api.get(f"{BLOBS}/{name}").status_code == 404, name
        assert api.head(f"{BLOBS}/{name}").status_code == 404


def test_a_picture_is_downloaded_under_a_name(client: TestClient, drawn: str) -> None:
    answer = client.get(f"{drawn}&download=true&filename=mill.png&nsfwLevel=pg")
    assert answer.headers["content-disposition"] == 'attachment; filename="mill.png"'


def test_a_picture_of_somebody_else_is_not_there(db: Session, script: Script, drawn: str) -> None:
    assert script(make_user(db), "read").get(urlsplit(drawn).path).status_code == 404
