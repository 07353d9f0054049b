"""Inputs of steps that draw: what they become, and how each wrong field is named."""

import json
from itertools import product
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.compat.orchestration.samplers import COMFY_SAMPLERS, SAMPLE_METHODS, SCHEDULERS, SCHEDULES
from app.contract.samplers import SAMPLERS
from app.gallery.airs import air
from tests.app.compat.orchestrating import (
    WORKFLOWS,
    base_air,
    draw,
    drawing,
    jobs_of,
    submit,
    workflows,
)
from tests.app.conftest import Script
from tests.app.generation.making import make_component
from tests.app.training.factories import make_lora
from tests.factories import make_user


@pytest.fixture
def api(db: Session, script: Script) -> TestClient:
    return script(make_user(db, "ada"), "read", "generate")


@pytest.fixture
def model(db: Session) -> str:
    return base_air(db, make_user(db, "maker"))


def test_image_gen_of_both_engines(db: Session, api: TestClient, model: str) -> None:
    maker = make_user(db)
    lora, other = make_lora(db, maker), make_component(db, maker, "TextualInversion", "easyneg")
    shared = {
        "ecosystem": "starter1", "operation": "createImage", "model": model, "prompt": "a mill",
        "negativePrompt": "easyneg", "width": 128, "height": 96, "steps": 5, "cfgScale": 4, "quantity": 2,
        "seed": None, "clipSkip": -1,
    }  # fmt: skip
    sdcpp = {
        "engine": "sdcpp", "sampleMethod": "euler", "schedule": "karras", "loras": {air(lora): 0.5},
        "embeddings": [air(other)],
    }  # fmt: skip
    comfy = {
        "engine": "comfy", "sampler": "dpmpp_2m_sde", "scheduler": "exponential",
        "loras": [{"air": air(lora), "strength": 0.4}],
    }  # fmt: skip
    submit(api, *({"$type": "imageGen", "input": shared | engine} for engine in (sdcpp, comfy)))
    first, second = (job.payload for job in jobs_of(db))
    assert (first["sampler"], first["schedule"], first["loras"][0]["strength"]) == ("Euler", "Karras", 0.5)
    assert [each["name"] for each in first["embeddings"]] == ["easyneg"]
    assert (second["sampler"], second["schedule"]) == ("DPM++ 2M SDE", "Exponential")
    assert (second["loras"][0]["strength"], len(second["seeds"])) == (0.4, 2)


def test_a_picture_becomes_the_start_of_another(db: Session, api: TestClient, model: str) -> None:
    told = submit(api, drawing(model))
    draw(db, jobs_of(db)[0])
    (image,) = api.get(f"{WORKFLOWS}/{told['id']}").json()["steps"][0]["output"]["images"]
    variant = {
        "engine": "sdcpp", "operation": "createVariant", "model": model, "prompt": "x", "strength": 0.4,
        "image": image["url"], "width": 128, "height": 96,
    }  # fmt: skip
    again = drawing(model, sourceImage=image["id"], sourceImageDenoiseStrenght=0.3)
    submit(api, {"$type": "imageGen", "input": variant}, again)
    starts = [job.payload["start"] for job in jobs_of(db)[1:]]
    assert [start["denoise"] for start in starts] == [0.4, 0.3]
    assert len({start["file"]["sha256"] for start in starts}) == 1


WRONG_INPUTS: list[tuple[dict[str, Any], str]] = [
    ({"sourceImage": "https://example.com/a.png"}, "sourceImage"),
    ({"sourceImage": "file:///etc/passwd"}, "sourceImage"),
    ({"sourceImage": "data:image/png;base64,AAAA"}, "sourceImage"),
    ({"outputFormat": "jpeg"}, "outputFormat"),
    ({"cfgScale": 99}, "cfgScale"),
    ({"clipSkip": 9}, "clipSkip"),
    ({"seed": 2**40}, "seed"),
    ({"seed": "x"}, "seed"),
    ({"prompt": "a" * 10_001}, "prompt"),
    ({"prompt": None}, "prompt"),
    ({"additionalNetworks": {"x": {"strength": "much"}}}, "additionalNetworks.x.strength"),
    ({"prompt": {"$ref": "$0", "path": "output"}}, ""),
]


def test_each_wrong_field_of_an_input_is_named(db: Session, api: TestClient, model: str) -> None:
    for change, path in WRONG_INPUTS:
        told = submit(api, drawing(model, **change), status=400)
        assert list(told["errors"]) == [f"steps[0].input.{path}".removesuffix(".")], told
        assert workflows(db) == []


WRONG_IMAGE_GENS: list[tuple[dict[str, Any], str]] = [
    ({"engine": "openai"}, "engine"),
    ({"ecosystem": "sdxl"}, "ecosystem"),
    ({"operation": "editImage"}, "operation"),
    ({"operation": "createVariant"}, "image"),
    ({"sampleMethod": "res_2s"}, "sampleMethod"),
    ({"schedule": "gits"}, "schedule"),
    ({"sampleMethod": "lcm", "schedule": "karras"}, "schedule"),
    ({"engine": "comfy", "sampler": "dpm_fast"}, "sampler"),
    ({"width": 100}, "width"),
]


def test_each_wrong_field_of_image_gen_is_named(api: TestClient, model: str) -> None:
    for change, path in WRONG_IMAGE_GENS:
        given = {"engine": "sdcpp", "model": model, "prompt": "a"} | change
        told = submit(api, {"$type": "imageGen", "input": given}, status=400)
        assert list(told["errors"]) == [f"steps[0].input.{path}"], told


WRONG_WORKFLOWS: list[tuple[dict[str, Any], str]] = [
    ({"steps": []}, "steps"),
    ({"steps": [{"$type": "textToImage"}]}, "steps[0].input"),
    ({"steps": [{"$type": "videoGen", "input": {}}]}, "steps[0].$type"),
    ({"steps": [{"$type": "textToImage", "input": {}, "name": "a b"}]}, "steps[0].name"),
    ({"steps": [{"$type": "textToImage", "input": {}, "name": "a"}] * 2}, "steps[1].name"),
    ({"steps": [{"$type": "textToImage", "input": {}}], "tags": [""]}, "tags[0]"),
    ({"steps": [{"$type": "textToImage", "input": {}}], "callbacks": [{"url": "x", "type": ["step:*"]}]},
     "callbacks[0].url"),
    ({"steps": [{"$type": "textToImage", "input": {}}], "externalId": "x" * 300}, "externalId"),
]  # fmt: skip


def test_each_wrong_field_of_a_workflow_is_named(api: TestClient) -> None:
    for body, path in WRONG_WORKFLOWS:
        answer = api.post(WORKFLOWS, json=body)
        assert answer.status_code == 400
        assert list(answer.json()["errors"]) == [path], answer.text


NO_WORKFLOWS = ["", "{", "[]", "null", '"x"', '{"steps": "\\ud800"}']


def test_a_body_that_is_no_workflow_is_a_400(api: TestClient) -> None:
    for content in NO_WORKFLOWS:
        headers = {"Content-Type": "application/json"}
        answer = api.post(WORKFLOWS, content=content, headers=headers)
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"


UNREADABLE = ["[" * 400 + "]" * 400, "NaN", "-Infinity", '"\\ud800"']


def test_what_no_reader_could_take_is_a_400(api: TestClient, model: str) -> None:
    headers = {"Content-Type": "application/json"}
    for value, field, whatif in product(UNREADABLE, ("metadata", "arguments"), ("true", "false")):
        content = f'{{"steps": [{json.dumps(drawing(model))}], "{field}": {{"a": {value}}}}}'
        answer = api.post(WORKFLOWS, content=content, headers=headers, params={"whatif": whatif})
        assert answer.status_code == 400, (value, field, whatif, answer.text)
        deep = content.replace('"prompt": "a mill"', f'"prompt": {value}')
        assert api.post(WORKFLOWS, content=deep, headers=headers).status_code == 400


def test_a_nul_byte_is_a_400(api: TestClient, model: str) -> None:
    submit(api, drawing(model, prompt="a\0b"), status=400)


def test_every_word_for_a_sampler_means_one_that_is_here() -> None:
    plain = [*SAMPLE_METHODS.values(), *COMFY_SAMPLERS.values()]
    pairs = [pair for pair in SCHEDULERS.values() if pair[0]]
    assert {name for name, _ in pairs} | set(plain) <= SAMPLERS.keys()
    assert all(schedule in SAMPLERS[name].schedules for name, schedule in pairs)
    assert set(SCHEDULES.values()) <= {s for sampler in SAMPLERS.values() for s in sampler.schedules}
