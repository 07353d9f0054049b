"""OpenAI's API: models by id, pictures from words and from pictures, links that need no token, errors."""

import base64
import io
import json
import time
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from fastapi.testclient import TestClient
from PIL import Image as Pillow
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.states import JobState
from app.core.storage import get_storage
from app.gallery.models import ModelVersion
from app.images.models import Image
from app.jobs.models import Job
from app.uploads.models import Upload
from tests.app.compat.drawing import Worker, hire, make_checkpoint
from tests.app.conftest import Browser, Script
from tests.app.generation.making import pixels_of, png
from tests.app.training.factories import make_lora
from tests.factories import make_user


@pytest.fixture
def user(db: Session) -> User:
    return make_user(db, "gioia")


@pytest.fixture
def base(db: Session, user: User) -> ModelVersion:
    return make_checkpoint(db, user, "olive")


@pytest.fixture
def program(user: User, base: ModelVersion, script: Script) -> TestClient:
    return script(user, "generate")


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    return hire(monkeypatch)


def draw(program: TestClient, **body: Any) -> Any:
    return program.post("/v1/images/generations", json={"prompt": "red house"} | body)


def edit(program: TestClient, files: Any, **data: Any) -> Any:
    return program.post("/v1/images/edits", files=files, data={"prompt": "red house"} | data)


def holed() -> bytes:
    """A picture whose left half is transparent."""
    picture = Pillow.new("RGBA", (128, 96), (200, 80, 40, 255))
    picture.paste((0, 0, 0, 0), (0, 0, 64, 96))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def refused(answer: Any, status: int, code: str | None = None, param: str | None = None) -> str:
    """The message of an error that has all that OpenAI's have."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert param == error["param"], error
    assert code in (None, error["code"]), error
    assert (answer.headers.get("x-should-retry") == "false") is (status not in (429, 503))
    return str(error["message"])


def test_models_are_listed_and_found_by_their_id(
    db: Session, user: User, base: ModelVersion, program: TestClient, worker: Worker
) -> None:
    other = make_checkpoint(db, user, "cypress")
    listed = program.get("/v1/models").json()
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == [
        f"gioia/cypress@{other.id}",
        f"gioia/olive@{base.id}",
    ]
    model = listed["data"][1]
    created = int(base.created_at.timestamp())
    assert model == {"id": model["id"], "object": "model", "created": created, "owned_by": "gioia"}
    for name in (quote(model["id"], safe=""), model["id"], str(base.id), "olive", "olive.safetensors"):
        assert program.get(f"/v1/models/{name}").json() == model
    refused(program.get("/v1/models/nowhere"), 404, "model_not_found", "model")
    draw(program, model=model["id"])
    assert worker.job.base.model_version_id == base.id
    draw(program, model="dall-e-3")
    assert worker.job.base.model_version_id == other.id, "OpenAI's own names mean the chosen model"
    refused(draw(program, model="dalle"), 404, "model_not_found", "model")


def test_pictures_inside_the_answer(program: TestClient, worker: Worker) -> None:
    answer = draw(
        program, n=2, size="136x96", response_format="b64_json", quality="hd", style="vivid", user="u",
        output_format="webp", negative_prompt="fog", seed=7, steps=9, cfg_scale=3.5, sampler="Euler a",
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (len(body["data"]), body["seeds"], body["size"]) == (2, [7, 8], "136x96")
    assert isinstance(body["created"], int)
    for each in body["data"]:
        assert set(each) == {"b64_json"}
        assert pixels_of(base64.b64decode(each["b64_json"])).size == (136, 96)
    job = worker.job
    assert (job.negative_prompt, job.steps, job.cfg_scale, job.sampler) == ("fog", 9, 3.5, "Euler a")


def test_a_link_works_without_a_token_for_its_time(
    db: Session, program: TestClient, worker: Worker, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = draw(program, size="auto").json()["data"][0]["url"]
    parts = urlsplit(url)
    assert parts.netloc == "testserver"
    path = f"{parts.path}?{parts.query}"
    found = client.get(path)
    assert (found.status_code, found.headers["content-type"]) == (200, "image/png")
    assert found.headers["cross-origin-resource-policy"] == "cross-origin"
    assert client.head(path).headers["content-length"] == str(len(found.content))
    image = db.scalars(select(Image)).one()
    assert (image.visibility, image.share_key) == ("private", None)
    for changed in (path.replace("sig=", "sig=0"), path.replace("until=", "until=9"), parts.path):
        refused(client.get(changed), 404)
    later = time.time() + 3 * 3600
    monkeypatch.setattr(time, "time", lambda: later)
    refused(client.get(path), 404)


def test_loras_by_name_and_by_number(db: Session, user: User, program: TestClient, worker: Worker) -> None:
    lora = make_lora(db, user)
    for said, strength in (
        ([{"name": "windmills", "weight": 0.4}], 0.4),
        ([{"model_version_id": lora.id, "strength": 0.3}], 0.3),
        ([lora.id], lora.strength),
        (["Windmills"], lora.strength),
    ):
        assert draw(program, loras=said).status_code == 200
        used = worker.job.loras[0]
        assert (used.model_version_id, used.strength) == (lora.id, strength)
    message = refused(draw(program, loras=["nowhere"]), 400, "validation-failed", "loras")
    assert message == "There is no LoRA “nowhere” here."
    refused(draw(program, loras=[{"name": "windmills", "weight": 9}]), 400, None, "loras")


def test_a_picture_is_drawn_anew_where_it_is_transparent(program: TestClient, worker: Worker) -> None:
    answer = edit(program, {"image": ("a.png", holed(), "image/png")}, strength="0.9", n="1", steps="8")
    assert answer.status_code == 200, answer.text
    start = worker.job.start
    assert start is not None
    assert start.mask is not None
    assert (start.denoise, worker.job.steps) == (0.9, 8)
    assert (worker.job.width, worker.job.height) == (128, 96)
    mask = pixels_of(get_storage().get(start.mask.key)).convert("L")
    assert (mask.getpixel((10, 10)), mask.getpixel((100, 10))) == (255, 0)


def test_a_mask_of_its_own_and_a_picture_without(program: TestClient, worker: Worker) -> None:
    files = [("image[]", ("a.png", png(), "image/png")), ("mask", ("m.png", holed(), "image/png"))]
    assert edit(program, files, size="96x96", response_format="b64_json").status_code == 200
    assert worker.job.start is not None
    assert worker.job.start.mask is not None
    assert worker.job.width == 96
    assert edit(program, {"image": ("a.png", png(), "image/png")}, size="", n="").status_code == 200
    assert worker.job.start is not None
    assert worker.job.start.mask is None


def test_loras_in_a_form(db: Session, user: User, program: TestClient, worker: Worker) -> None:
    lora = make_lora(db, user)
    picture = {"image": ("a.png", png(), "image/png")}
    for data in (
        {"loras": json.dumps([{"name": "windmills", "weight": 0.4}])},
        {"loras[][name]": "windmills", "loras[][weight]": "0.4"},
    ):
        assert edit(program, picture, **data).status_code == 200
        assert [(used.model_version_id, used.strength) for used in worker.job.loras] == [(lora.id, 0.4)]
    refused(edit(program, picture, loras="{"), 400)
    uneven = {"loras[][name]": ["windmills", "x"], "loras[][weight]": "0.4"}
    refused(edit(program, picture, **uneven), 400, None, "loras")


def test_what_is_wrong_is_said_with_its_parameter(db: Session, program: TestClient, worker: Worker) -> None:
    for body, param in (
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x" * 6001}, "prompt"),
        ({"n": 11}, "n"),
        ({"n": 9}, "n"),
        ({"n": "two"}, "n"),
        ({"size": "large"}, "size"),
        ({"size": "1024x1024"}, "size"),
        ({"size": "130x128"}, "size"),
        ({"response_format": "jpeg"}, "response_format"),
        ({"stream": True}, "stream"),
        ({"cfg_scale": 1000}, "cfg_scale"),
        ({"scheduler": "nowhere"}, "scheduler"),
    ):
        refused(draw(program, **body), 400, None, param)
    refused(program.post("/v1/images/generations", json={}), 400, None, "prompt")
    refused(program.post("/v1/images/generations", content="{"), 400)
    refused(draw(program, sampler="Restart"), 404)
    picture = ("a.png", png(), "image/png")
    refused(edit(program, {}), 400, None, "image")
    refused(edit(program, [("image", picture), ("image", picture)]), 400, None, "image")
    refused(edit(program, {"image": ("a.png", b"<html>", "image/png")}), 400, None, "image")
    refused(edit(program, {"image": picture, "mask": ("m.png", b"x", "image/png")}), 400, None, "mask")
    refused(edit(program, {"image": picture}, strength="2"), 400, None, "strength")
    assert worker.ids == []
    assert db.scalars(select(Upload)).all() == [], "what was kept before the error is gone with it"


def test_who_may_draw(
    user: User, base: ModelVersion, script: Script, client: TestClient, browser: Browser
) -> None:
    assert "token" in refused(client.get("/v1/models"), 401, "invalid_api_key")
    client.headers["Authorization"] = "Bearer bottega_wrong"
    refused(draw(client), 401, "invalid_api_key")
    refused(draw(script(user, "read")), 403, "insufficient-scope")
    assert script(user, "read").get("/v1/models").status_code == 200
    refused(script(user, "publish").get("/v1/models"), 403)


def test_past_the_limit_it_says_where_it_goes_on(
    db: Session, program: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.core.config import get_settings

    monkeypatch.setattr(get_settings().server, "hold_seconds", 0.0)
    answer = draw(program)
    address = f"http://testserver/api/v1/jobs/{db.scalars(select(Job)).one().id}"
    assert answer.headers["location"] == address
    assert address in refused(answer, 504, "still-drawing")


def test_a_job_that_fails_or_is_stopped(program: TestClient, worker: Worker) -> None:
    worker.outcome, worker.most, worker.error = JobState.FAILED, 0, ("out-of-memory", "Too large.")
    assert refused(draw(program), 500, "out-of-memory") == "Too large."
    worker.outcome, worker.error = JobState.CANCELED, None
    refused(draw(program), 409, "job-canceled")
    worker.most = 1
    assert len(draw(program, n=3).json()["data"]) == 1
