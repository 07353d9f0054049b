"""Trainings by REST."""

from sqlalchemy.orm import Session

from tests.app.conftest import Script
from tests.app.training.factories import make_training, training_body
from tests.factories import make_user


def test_start_answers_202_with_the_job(db: Session, script: Script) -> None:
    user = make_user(db)
    body = training_body(db, user).model_dump(exclude_none=True)
    answer = script(user).post("/api/v1/trainings", json=body)
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["Location"] == f"/api/v1/jobs/{job['id']}"
    assert job["status"] == "queued"
    assert job["status_reason"] == "no-worker"
    assert job["input"]["params"]["seed"] == 42


def test_dry_run_starts_nothing(db: Session, script: Script) -> None:
    user = make_user(db)
    client = script(user)
    answer = client.post(
        "/api/v1/trainings?dry_run=true", json=training_body(db, user).model_dump(exclude_none=True)
    )
    assert answer.status_code == 200
    assert answer.json()["steps"] > 0
    assert client.get("/api/v1/jobs").json()["items"] == []


def test_the_same_key_starts_one_training(db: Session, script: Script) -> None:
    user = make_user(db)
    client = script(user)
    body = training_body(db, user).model_dump(exclude_none=True)
    headers = {"Idempotency-Key": "once"}
    first = client.post("/api/v1/trainings", json=body, headers=headers)
    again = client.post("/api/v1/trainings", json=body, headers=headers)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["Idempotency-Replayed"] == "true"
    other = client.post("/api/v1/trainings", json=body | {"name": "Else"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")


def test_unknown_fields_are_named(db: Session, script: Script) -> None:
    user = make_user(db)
    body = training_body(db, user).model_dump(exclude_none=True) | {"epochz": 3}
    answer = script(user).post("/api/v1/trainings", json=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert [e["pointer"] for e in answer.json()["errors"]] == ["#/epochz"]


def test_files_of_an_epoch_and_its_samples(db: Session, script: Script) -> None:
    user = make_user(db)
    job = make_training(db, user, epochs=1)
    client = script(user)
    checkpoint = client.get(f"/api/v1/trainings/{job.id}/checkpoints").json()[0]
    file = client.get(checkpoint["download_url"])
    assert file.status_code == 200
    assert file.headers["etag"] == f'"{checkpoint["sha256"]}"'
    picture = client.get(checkpoint["samples"][0]["url"])
    assert picture.headers["content-type"] == "image/png"


def test_publish_answers_a_model_in_civitais_shape(db: Session, script: Script) -> None:
    user = make_user(db)
    job = make_training(db, user, epochs=2)
    body = {"checkpoint": 2, "visibility": "public", "tags": ["olive"]}
    answer = script(user).post(f"/api/v1/trainings/{job.id}/publish", json=body)
    assert answer.status_code == 201
    model = answer.json()
    assert model["type"] == "LORA"
    assert model["modelVersions"][0]["files"][0]["primary"] is True
    assert model["modelVersions"][0]["trainedWords"] == ["tuscany"]
