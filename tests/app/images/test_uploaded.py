"""Pictures that other programs made: uploaded, their data in our words, what is not installed named."""

import json

from sqlalchemy.orm import Session

from app.images.models import Image
from tests.app.conftest import Browser, Script
from tests.factories import make_user
from tests.worker.inference.metadata.graphs import node, sampler, simple
from tests.worker.inference.metadata.pictures import exif_picture, png
from worker.inference.metadata.infotext import read


def test_a_picture_from_comfyui(db: Session, script: Script, browser: Browser) -> None:
    graph = simple(
        n8=node("LoraLoaderModelOnly", lora_name="ink.safetensors", strength_model=0.8, model=["1", 0]),
        n5=sampler(model=["8", 0]),
        n9=node("CLIPTextEncode", text="gulls", clip=["1", 1]),
        n2=node("ConditioningCombine", conditioning_1=["9", 0], conditioning_2=["3", 0]),
    )
    user = make_user(db)
    answer = script(user).post("/api/v1/images", files={"file": ("a.png", png(prompt=graph))})
    assert answer.status_code == 201, answer.text
    image = db.get_one(Image, answer.json()["id"])
    assert [(r.kind, r.name, r.weight) for r in image.resources] == [
        ("checkpoint", "harbour-v2", None), ("lora", "ink", 0.8),
    ]  # fmt: skip
    assert (image.meta["sampler"], image.meta["seed"], image.meta["program"]) == (
        "DPM++ 2M Karras",
        77,
        "ComfyUI",
    )
    assert read(image.infotext).loras[0].name == "ink"
    page = browser(user).get(f"/images/{image.id}").text
    assert page.count("not on this server") == 2
    assert "2 texts were combined in the graph" in page
    assert "ComfyUI" in page


def test_a_jpeg_from_civitai_names_what_it_used(db: Session, script: Script) -> None:
    text = ('a heron\nSteps: 20, Sampler: Euler, Seed: 1, Civitai resources: [{"type":"checkpoint",'
            '"modelVersionId":7,"modelName":"Harbour"},{"type":"vae","modelVersionId":8}]')  # fmt: skip
    sent = exif_picture("JPEG", comment=b"UNICODE\0" + text.encode("utf-16-le"))
    answer = script(make_user(db)).post("/api/v1/images", files={"file": ("a.jpg", sent)})
    image = db.get_one(Image, answer.json()["id"])
    assert [(r.kind, r.name, r.model_version_id) for r in image.resources] == [
        ("checkpoint", "Harbour", None), ("vae", "Civitai version 8", None),
    ]  # fmt: skip


def test_the_name_of_a_person_is_not_kept(db: Session, script: Script) -> None:
    text = "a heron\nSteps: 20, Sampler: Euler, Seed: 1, Version: Fooocus v2, User: Ann"
    answer = script(make_user(db)).post("/api/v1/images", files={"file": ("a.png", png(parameters=text))})
    assert "Ann" not in db.get_one(Image, answer.json()["id"]).infotext
    assert "Ann" not in json.dumps(answer.json())
