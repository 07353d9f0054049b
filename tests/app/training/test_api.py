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


def test_the_body_of_the_page_passes_as_it_stands(db: Session, script: Script) -> None:
    """Every field at once, with null where the page has null; null is as good as left out."""
    user = make_user(db)
    params = {
        "resolution": 128, "epochs": 2, "repeats": None, "max_steps": None, "batch_size": 4,
        "gradient_accumulation": 1, "unet_lr": None, "text_encoder_lr": 0, "lr_scheduler": "cosine",
        "lr_warmup": 0.05, "lr_cycles": 1, "optimizer": "adamw", "network_dim": 16, "network_alpha": 8,
        "conv_dim": None, "noise_offset": 0, "min_snr_gamma": 5, "enable_bucket": True, "shuffle_tags": False,
        "keep_tokens": 0, "caption_dropout": 0.05, "flip": False, "clip_skip": 1,
        "gradient_checkpointing": None, "precision": None, "seed": 42, "save_every_epochs": 1,
        "conv_alpha": None,
    }  # fmt: skip
    prompt = {"prompt": "a tower", "negative_prompt": None, "seed": None, "width": 128, "height": None}
    body = training_body(db, user).model_dump(exclude_none=True)
    body |= {"params": params, "sample_prompts": [prompt], "webhook": None, "continue_from": None}
    client = script(user)
    answer = client.post("/api/v1/trainings?dry_run=true", json=body)
    assert answer.status_code == 200, answer.text
    empty = dict.fromkeys(("params", "sample_prompts", "trigger_word", "preset", "webhook"))
    assert client.post("/api/v1/trainings?dry_run=true", json=body | empty).status_code == 200
    missing = client.post("/api/v1/trainings?dry_run=true", json=body | {"name": None})
    assert [(e["pointer"], e["code"]) for e in missing.json()["errors"]] == [("#/name", "missing")]
    assert client.post("/api/v1/trainings", json=body | {"name": "  "}).status_code == 422


def test_a_training_is_answered_like_its_job(db: Session, script: Script) -> None:
    user = make_user(db)
    job = make_training(db, user)
    client = script(user)
    as_training, as_job = client.get(f"/api/v1/trainings/{job.id}"), client.get(f"/api/v1/jobs/{job.id}")
    assert as_training.json() == as_job.json()
    assert as_training.headers["etag"] == as_job.headers["etag"]
    assert int(as_training.headers["retry-after"]) > 0


def test_the_samples_of_the_link(db: Session, script: Script) -> None:
    user = make_user(db)
    job = make_training(db, user, epochs=1)
    client = script(user)
    link = client.get(f"/api/v1/jobs/{job.id}").json()["links"]["samples"]
    rows = client.get(link).json()
    assert {"step", "epoch", "prompt_index", "seed", "url", "thumb_url", "baseline"} <= set(rows[0])
    assert [row["baseline"] for row in rows] == [True, False]


def test_publishing_again_with_the_same_key_is_answered_the_same(db: Session, script: Script) -> None:
    user = make_user(db)
    job = make_training(db, user, epochs=1)
    client, path = script(user), f"/api/v1/trainings/{job.id}/publish"
    body, headers = {"checkpoint": 1, "rating": "PG-13"}, {"Idempotency-Key": "once"}
    first, again = (client.post(path, json=body, headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert (first.json()["nsfwLevel"], again.headers["idempotency-replayed"]) == (2, "true")
    assert client.post(path, json=body).status_code == 409
