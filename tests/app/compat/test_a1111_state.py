"""Options, lists, progress and interrupt of A1111's API: each belongs to the token that asks."""

import base64
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event
from sqlalchemy.orm import Session

from app.accounts.models import ApiToken, User
from app.contract.events import Progress
from app.contract.states import JobState
from app.gallery.models import ModelVersion
from app.generation import service
from app.jobs import leases
from app.jobs import service as jobs
from app.jobs.models import Job
from app.jobs.workers import say_hello
from tests.app.compat.drawing import draw, make_checkpoint, preview
from tests.app.conftest import Browser, Script
from tests.app.generation.making import body, make_component, png
from tests.app.training.factories import make_lora
from tests.factories import make_user

QUERIES = {"sd-models": 5, "loras": 5, "options": 5}
"""The token with its user; the files with their versions; of these the model's tags and versions, all
files and pictures."""


@pytest.fixture
def user(db: Session) -> User:
    return make_user(db, "gioia")


@pytest.fixture
def base(db: Session, user: User) -> ModelVersion:
    return make_checkpoint(db, user, "olive")


def get(client: TestClient, path: str, **params: Any) -> Any:
    answer = client.get(f"/sdapi/v1/{path}", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def post(client: TestClient, path: str, **body: Any) -> Any:
    answer = client.post(f"/sdapi/v1/{path}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def start(db: Session, user: User, base: ModelVersion, client: TestClient, **fields: Any) -> Job:
    """A job that waits, as this program's txt2img makes it."""
    secret = client.headers.get("authorization", "").removeprefix("Bearer ")
    token = next((t for t in db.query(ApiToken) if secret and secret.startswith(t.prefix)), None)
    labels = {"face": "a1111", "token": token.id if token else 0}
    return service.start_generation(db, user, body(base.id, **fields), labels=labels)


def test_a_model_is_chosen_for_one_token_alone(
    db: Session, user: User, base: ModelVersion, script: Script, browser: Browser
) -> None:
    other = make_checkpoint(db, user, "cypress")
    mine, second, page = script(user), script(user), browser(user)
    titles = {each["model_name"]: each["title"] for each in get(mine, "sd-models")}
    assert titles["olive"] == f"olive.safetensors [{base.files[0].blob_sha256[:10]}]"
    assert get(mine, "options")["sd_model_checkpoint"] == titles["cypress"], "the newest"
    assert post(mine, "options", sd_model_checkpoint=titles["olive"]) is None
    assert get(mine, "options")["sd_checkpoint_hash"] == base.files[0].blob_sha256
    assert get(second, "options")["sd_model_checkpoint"] == titles["cypress"]
    post(page, "options", sd_model_checkpoint="OLIVE")
    assert get(page, "options")["sd_model_checkpoint"] == titles["olive"]
    assert get(second, "options")["sd_model_checkpoint"] == titles["cypress"]
    base.model.visibility, base.model.user_id = "private", make_user(db).id
    assert get(mine, "options")["sd_model_checkpoint"] == titles["cypress"], "what is gone is not chosen"
    assert other.id


def test_all_options_sent_back_change_only_what_differs(
    db: Session, user: User, base: ModelVersion, script: Script
) -> None:
    make_component(db, user, "VAE", "sharp")
    program = script(user)
    options = get(program, "options")
    post(program, "options", **options | {"sd_vae": "sharp.safetensors", "unknown": {"x": 1}})
    token = db.query(ApiToken).one()
    assert set(token.preferences["a1111"]) == {"vae"}
    post(program, "options", CLIP_stop_at_last_layers=2)
    shown = get(program, "options")
    assert (shown["sd_vae"], shown["CLIP_stop_at_last_layers"]) == ("sharp.safetensors", 2)
    post(program, "options", **shown | {"sd_vae": "Automatic"})
    assert token.preferences["a1111"] == {"clip_skip": 2}


def test_options_that_cannot_be(db: Session, user: User, base: ModelVersion, script: Script) -> None:
    program = script(user)
    for said, status in (
        ({"sd_model_checkpoint": "nowhere"}, 404),
        ({"sd_vae": "nowhere"}, 404),
        ({"sd_model_checkpoint": 7}, 422),
        ({"CLIP_stop_at_last_layers": "two"}, 422),
        ({"CLIP_stop_at_last_layers": 99}, 422),
        ([1], 422),
    ):
        answer = program.post("/sdapi/v1/options", json=said)
        assert answer.status_code == status, (said, answer.text)
        assert {"error", "detail", "body", "errors"} <= set(answer.json())
    assert db.query(ApiToken).one().preferences == {}


def test_lists_have_what_programs_read(db: Session, user: User, base: ModelVersion, script: Script) -> None:
    make_lora(db, user)
    make_component(db, user, "TextualInversion", "bad-hands")
    program = script(user, "read")
    model = get(program, "sd-models")[0]
    sha = base.files[0].blob_sha256
    assert model == {
        "title": f"olive.safetensors [{sha[:10]}]", "model_name": "olive", "hash": sha[:10], "sha256": sha,
        "filename": "olive.safetensors", "config": None,
    }  # fmt: skip
    lora = get(program, "loras")[0]
    assert (lora["name"], lora["alias"], lora["path"]) == ("windmills", "Windmills", "windmills.safetensors")
    assert lora["metadata"]["ss_sd_model_name"] == "Starter 1"
    assert list(get(program, "embeddings")["loaded"]) == ["bad-hands"]
    samplers = {each["name"]: each for each in get(program, "samplers")}
    assert samplers["Heun"]["options"] == {"scheduler": "normal", "second_order": "True"}
    assert "k_euler_a" in samplers["Euler a"]["aliases"]
    schedulers = {each["name"]: each["label"] for each in get(program, "schedulers")}
    assert (schedulers["automatic"], schedulers["sgm_uniform"]) == ("Automatic", "SGM Uniform")
    assert [each["name"] for each in get(program, "upscalers")] == ["Lanczos", "Nearest"]
    assert get(program, "latent-upscale-modes")[0] == {"name": "Latent"}
    assert get(program, "scripts") == {"txt2img": [], "img2img": []}
    assert post(program, "refresh-loras") is None


def test_lists_cost_the_same_for_one_and_three(
    db: Session, user: User, base: ModelVersion, script: Script
) -> None:
    program = script(user)

    def count(path: str) -> int:
        seen: list[str] = []

        def note(conn: Any, cursor: Any, statement: str, *_: Any) -> None:
            if statement.startswith("SELECT"):
                seen.append(statement)

        event.listen(db.get_bind(), "before_cursor_execute", note)
        found = get(program, path)
        event.remove(db.get_bind(), "before_cursor_execute", note)
        assert found
        return len(seen)

    make_lora(db, user)
    costs = {path: count(path) for path in ("sd-models", "loras", "options")}
    for stem in ("cypress", "pine"):
        make_checkpoint(db, user, stem)
        make_lora(db, user)
    assert {path: count(path) for path in costs} == costs == QUERIES


def test_memory_is_that_of_the_card_that_draws(db: Session, user: User, script: Script) -> None:
    program = script(user)
    assert get(program, "memory")["cuda"] == {"error": "not told"}
    say_hello(db, {"id": "w", "queues": ["generate"], "memory_bytes": 24 << 30})
    assert get(program, "memory")["cuda"]["system"]["total"] == 24 << 30


def test_progress_is_that_of_ones_own_token(
    db: Session, user: User, base: ModelVersion, script: Script
) -> None:
    program, other = script(user), script(user)
    idle = get(program, "progress")
    assert (idle["progress"], idle["state"]["job_count"], idle["current_image"]) == (0.0, 0, None)
    job = start(db, user, base, program, quantity=2)
    waiting = get(program, "progress")
    assert (waiting["progress"], waiting["state"]["job_count"]) == (0.0, 2)
    assert waiting["textinfo"] == "In queue: 1. No worker is running."
    assert get(other, "progress") == idle
    jobs.change_state(db, job, JobState.STARTING)
    job.lease_until, job.fence = job.created_at, 1
    leases.record_progress(db, job, Progress(phase="sampling", current=10, total=40, eta_seconds=6.0), [])
    draw(db, job)
    preview(db, job.id, png())
    running = get(program, "progress")
    state = running["state"]
    assert (running["progress"], running["eta_relative"]) == (0.25, 6.0)
    assert (state["sampling_step"], state["sampling_steps"], state["job_no"]) == (10, 40, 1)
    assert base64.b64decode(running["current_image"]) == png()
    assert get(program, "progress", skip_current_image="true")["current_image"] is None


def test_interrupt_stops_ones_own_and_nothing_else(
    db: Session, user: User, base: ModelVersion, script: Script, browser: Browser
) -> None:
    program, other, page = script(user), script(user), browser(user)
    first, second = start(db, user, base, program), start(db, user, base, program)
    theirs, by_page = start(db, user, base, other), start(db, user, base, page)
    elsewhere = service.start_generation(db, user, body(base.id))
    everything = (first, second, theirs, by_page, elsewhere)
    assert post(program, "interrupt") == {}
    assert [job.status for job in everything] == ["canceled", *["queued"] * 4]
    jobs.change_state(db, second, JobState.STARTING)
    second.lease_until = second.created_at
    post(program, "interrupt")
    assert get(program, "progress")["state"]["interrupted"] is True
    post(page, "interrupt")
    assert [job.status for job in everything] == ["canceled", "canceling", "queued", "canceled", "queued"]
    assert post(script(user), "interrupt") == {}


def test_skip_is_for_single_pictures(db: Session, user: User, base: ModelVersion, script: Script) -> None:
    program = script(user)
    assert post(program, "skip") is None
    several = start(db, user, base, program, quantity=2)
    answer = program.post("/sdapi/v1/skip")
    assert (answer.status_code, several.status) == (409, "queued")
    assert "interrupt" in answer.json()["detail"]
    post(program, "interrupt")
    one = start(db, user, base, program)
    post(program, "skip")
    assert one.status == "canceled"


def test_a_token_that_only_reads_changes_nothing(
    db: Session, user: User, base: ModelVersion, script: Script
) -> None:
    reader = script(user, "read")
    for path in ("txt2img", "img2img", "options", "interrupt", "skip"):
        answer = reader.post(f"/sdapi/v1/{path}", json={})
        assert (answer.status_code, answer.json()["code"]) == (403, "insufficient-scope")
    assert get(reader, "progress")["progress"] == 0
    uploader = script(user, "publish")
    assert uploader.get("/sdapi/v1/sd-models").status_code == 403


def test_png_info_reads_any_picture(user: User, script: Script) -> None:
    program = script(user, "read")
    text = "red house\nNegative prompt: fog\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 9, Size: 64x96"
    found = post(program, "png-info", image="data:image/png;base64," + base64.b64encode(png(text)).decode())
    assert found["info"] == text
    told = found["parameters"]
    assert (told["Prompt"], told["Negative prompt"], told["Seed"]) == ("red house", "fog", "9")
    assert (told["Size-1"], told["Size-2"]) == (64, 96)
    plain = post(program, "png-info", image=base64.b64encode(png()).decode())
    assert plain == {"info": "", "items": {}, "parameters": {}}
    for wrong in ("", "no base64!", base64.b64encode(b"<svg/>").decode()):
        answer = program.post("/sdapi/v1/png-info", json={"image": wrong})
        assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", "image"])


def test_an_address_that_there_is_not_answers_in_json(user: User, script: Script) -> None:
    answer = script(user).get("/sdapi/v1/nowhere")
    assert (answer.status_code, answer.json()["detail"]) == (404, "There is nothing at this address.")
