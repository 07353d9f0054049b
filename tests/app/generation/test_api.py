"""POST /api/v1/generations: what a script sends, the dry run, refusals that name each field."""

from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.jobs.models import Job
from tests.app.conftest import Script
from tests.app.generation.making import make_component
from tests.app.training.factories import make_base, make_lora
from tests.factories import make_image, make_user

PATH = "/api/v1/generations"


def test_a_generation_with_everything(db: Session, script: Script) -> None:
    user = make_user(db)
    lora, vae, image = make_lora(db, user), make_component(db, user, "VAE", "soft"), make_image(db, user)
    make_component(db, user, "TextualInversion", "easyneg")
    body = {
        "model_version_id": make_base(db, user).id, "prompt": "a mill", "negative_prompt": "easyneg",
        "vae_version_id": vae.id, "sampler": "DPM++ 2M SDE", "schedule": "Karras", "steps": 12, "seed": -1,
        "resources": [{"model_version_id": lora.id, "strength": 0.7, "text_encoder_strength": 0.2}],
        "init_image": image.id, "denoise": 0.6, "hires": {"scale": 2}, "quantity": 2,
    }  # fmt: skip
    answer = script(user, "generate").post(PATH, json=body)
    assert answer.status_code == 202
    told = answer.json()["input"]
    assert told["sampler"] == "DPM++ 2M SDE Karras"
    assert 0 <= told["seed"] < 2**32
    assert told["hires"] == {"scale": 2.0, "upscaler": "Latent", "denoise": 0.55, "steps": None}
    assert (told["init_image"], told["denoise"]) == ({"image": image.id}, 0.6)
    assert [each["name"] for each in told["embeddings"]] == ["easyneg"]
    assert told["resources"][0]["text_encoder_strength"] == 0.2


def test_the_dry_run_tells_count_and_warnings_and_starts_nothing(db: Session, script: Script) -> None:
    user = make_user(db)
    body = {
        "model_version_id": make_base(db, user).id, "prompt": "a <lora:nowhere:1>",
        "grid": {"x": {"axis": "steps", "values": [4, 8]}, "y": {"axis": "seed", "values": "1-3"}},
    }  # fmt: skip
    told = script(user, "generate").post(PATH, json=body, params={"dry_run": True}).json()
    assert (told["pictures"], told["eta_seconds"]) == (6, None)
    assert [warning["code"] for warning in told["warnings"]] == ["lora-unknown"]
    assert db.scalar(select(Job.id)) is None


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"grid": {"x": {"axis": "weather", "values": "1"}}}, "#/grid/x/axis"),
        ({"grid": {"x": {"axis": "steps", "values": "many"}}}, "#/grid/x/values"),
        ({"grid": {}}, "#/grid/x"),
        ({"init_image": {"image": 1, "upload": "x"}}, "#/init_image"),
        ({"init_image": {"file": 1}}, "#/init_image/file"),
        ({"hires": {"scale": 9}}, "#/hires/scale"),
        ({"resources": [{"model_version_id": 1, "text_encoder_strength": 5}]},
         "#/resources/0/text_encoder_strength"),
        ({"magic": True}, "#/magic"),
    ],
)  # fmt: skip
def test_each_wrong_field_is_named(db: Session, script: Script, fields: dict[str, Any], pointer: str) -> None:
    user = make_user(db)
    body = {"model_version_id": make_base(db, user).id, "prompt": "house"} | fields
    answer = script(user, "generate").post(PATH, json=body)
    assert answer.status_code == 422
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]
