"""txt2img and img2img of A1111's API: what is drawn, what is answered, and what is refused in words."""

import base64
import io
import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image as Pillow
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.accounts import tokens
from app.accounts.models import User
from app.contract.states import JobState
from app.core.storage import get_storage
from app.gallery.models import ModelVersion
from app.images.models import Image
from app.jobs.models import Job
from tests.app.compat.drawing import Worker, hire, make_checkpoint
from tests.app.conftest import Script, Visitor
from tests.app.generation.making import make_component, pixels_of, png
from tests.app.training.factories import make_lora
from tests.factories import make_file, make_model, make_user, make_version

KEYS = {
    "prompt", "all_prompts", "negative_prompt", "all_negative_prompts", "seed", "all_seeds", "subseed",
    "all_subseeds", "subseed_strength", "width", "height", "sampler_name", "cfg_scale", "steps", "batch_size",
    "restore_faces", "face_restoration_model", "sd_model_name", "sd_model_hash", "sd_vae_name", "sd_vae_hash",
    "seed_resize_from_w", "seed_resize_from_h", "denoising_strength", "extra_generation_params",
    "index_of_first_image", "infotexts", "styles", "job_timestamp", "clip_skip",
    "is_using_inpainting_conditioning", "version",
}  # fmt: skip
"""Of `info`, as A1111 has them."""


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


def draw(program: TestClient, path: str = "txt2img", **body: Any) -> Any:
    """Also what no orderly program sends: numbers that are none, halves of characters."""
    headers = {"Content-Type": "application/json"}
    return program.post(f"/sdapi/v1/{path}", content=json.dumps(body), headers=headers)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_pictures_come_back_with_all_that_a1111_tells(program: TestClient, worker: Worker) -> None:
    answer = draw(
        program, prompt="red house", negative_prompt="fog", seed=5, batch_size=2, n_iter=2, steps=7,
        width=136, height=96, cfg_scale=4.5, sampler_name="Euler a", scheduler="automatic",
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    body = answer.json()
    info = json.loads(body["info"])
    assert set(info) - {"warnings", "job_id"} == KEYS
    assert (info["all_seeds"], info["warnings"]) == ([5, 6, 7, 8], [])
    assert (info["sd_model_name"], info["sampler_name"], info["steps"]) == ("Olive", "Euler a", 7)
    assert answer.headers["x-job-id"] == info["job_id"] == worker.ids[0]
    assert len(body["images"]) == len(info["infotexts"]) == 4
    for picture, text in zip(body["images"], info["infotexts"], strict=True):
        opened = pixels_of(base64.b64decode(picture))
        assert (opened.size, opened.info["parameters"]) == ((136, 96), text)
    assert "Seed: 6" in info["infotexts"][1]
    assert body["parameters"]["batch_size"] == 2
    job = worker.job
    assert (job.prompt, job.negative_prompt, job.steps, job.cfg_scale) == ("red house", "fog", 7, 4.5)
    assert (job.sampler, job.schedule) == ("Euler a", "Normal")


def test_what_is_left_out_is_the_models_own(program: TestClient, worker: Worker) -> None:
    answer = draw(program, prompt="x", steps=None, seed=None, sampler_name=None, send_images=False)
    assert answer.json()["images"] == []
    job = worker.job
    assert (job.steps, job.cfg_scale, job.width, job.height) == (20, 5.0, 128, 128)
    assert (job.sampler, job.schedule, len(job.seeds)) == ("DPM++ 2M", "Karras", 1)


def test_an_infotext_fills_what_is_not_said(program: TestClient, worker: Worker) -> None:
    text = "mill\nNegative prompt: fog\nSteps: 9, Sampler: Euler a, CFG scale: 3, Seed: 4, Size: 96x136"
    info = json.loads(draw(program, infotext=text, steps=6).json()["info"])
    assert (info["prompt"], info["negative_prompt"], info["steps"], info["seed"]) == ("mill", "fog", 6, 4)
    assert (worker.job.width, worker.job.height, worker.job.sampler) == (96, 136, "Euler a")


def test_old_names_of_samplers_and_schedules(program: TestClient, worker: Worker) -> None:
    wanted = {
        ("DPM++ 2M Karras", None): ("DPM++ 2M", "Karras"),
        ("dpm++ 2m sde exponential", "Automatic"): ("DPM++ 2M SDE", "Exponential"),
        ("k_dpmpp_2m", "sgm_uniform"): ("DPM++ 2M", "SGM Uniform"),
        ("Euler", "Beta"): ("Euler", "Beta"),
    }
    for (name, schedule), expected in wanted.items():
        draw(program, prompt="x", sampler_index=name, scheduler=schedule)
        assert (worker.job.sampler, worker.job.schedule) == expected


def test_a_lora_in_the_prompt_is_used(db: Session, user: User, program: TestClient, worker: Worker) -> None:
    lora = make_lora(db, user)
    prompt = "mill <lora:windmills:0.5:0.7>, <lora:nowhere:1>"
    info = json.loads(draw(program, prompt=prompt).json()["info"])
    used = worker.job.loras[0]
    assert (used.model_version_id, used.text_encoder_strength, used.strength) == (lora.id, 0.5, 0.7)
    assert info["prompt"] == prompt
    assert [words for words in info["warnings"] if "nowhere" in words]


def test_hires_fix(program: TestClient, worker: Worker) -> None:
    hires = {"enable_hr": True, "denoising_strength": 0.4, "hr_second_pass_steps": 0}
    draw(program, prompt="x", hr_scale=1.5, hr_upscaler="Lanczos", **hires)
    assert worker.job.hires is not None
    assert worker.job.hires.model_dump() == {
        "scale": 1.5,
        "upscaler": "Lanczos",
        "denoise": 0.4,
        "steps": None,
    }
    draw(program, prompt="x", width=128, height=96, hr_resize_x=256, hr_resize_y=192, **hires)
    assert worker.job.hires is not None
    assert (worker.job.hires.scale, worker.job.hires.upscaler) == (2.0, "Latent")
    answer = draw(program, prompt="x", width=128, height=96, hr_resize_x=256, hr_resize_y=256, **hires)
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", "hr_resize_x"])
    answer = draw(program, prompt="x", hr_upscaler="LDSR", **hires)
    assert answer.json()["detail"][0]["loc"] == ["body", "hr_upscaler"]
    assert "Lanczos" in answer.json()["errors"]
    draw(program, prompt="x", enable_hr=False, denoising_strength=0.7)
    assert worker.job.hires is None


def test_wishes_without_effect_are_told(program: TestClient, worker: Worker) -> None:
    answer = draw(
        program, prompt="x", subseed=3, subseed_strength=0.2, tiling=True, restore_faces=True,
        styles=["noir"], seed_resize_from_w=64, refiner_checkpoint="other", s_noise=2,
        override_settings={"eta_ddim": float("nan")},
    )  # fmt: skip
    assert answer.json()["parameters"]["override_settings"] == {"eta_ddim": None}
    told = [words.split()[0] for words in json.loads(answer.json()["info"])["warnings"]]
    assert told == [
        "subseed_strength", "seed_resize_from_w", "styles", "restore_faces", "tiling", "refiner_checkpoint",
        "override_settings.eta_ddim",
    ]  # fmt: skip


def test_scripts_that_do_something_are_refused(program: TestClient, worker: Worker) -> None:
    for body in (
        {"script_name": "X/Y/Z plot"},
        {"alwayson_scripts": {"ADetailer": {"args": [True, {"ad_model": "face"}]}}},
        {"alwayson_scripts": {"ControlNet": {"args": [{"image": "x", "enabled": True}]}}},
    ):
        answer = draw(program, prompt="x", **body)
        assert (answer.status_code, answer.json()["detail"].split(":")[0]) == (404, "Script not found")
    deep: Any = []
    for _ in range(800):
        deep = [deep]
    assert draw(program, prompt="x", alwayson_scripts={"x": {"args": deep}}).status_code == 404
    off = {
        "ADetailer": {"args": [False, {"ad_model": "face"}]},
        "ControlNet": {"args": []},
        "x": {"args": [{"enabled": False}]},
    }
    assert draw(program, prompt="x", alwayson_scripts=off, script_name=None).status_code == 200


def test_override_settings_are_for_one_request(
    db: Session, user: User, base: ModelVersion, program: TestClient, worker: Worker
) -> None:
    other = make_checkpoint(db, user, "cypress")
    vae = make_component(db, user, "VAE", "sharp")
    settings = {
        "sd_model_checkpoint": "cypress",
        "sd_vae": "sharp.safetensors",
        "CLIP_stop_at_last_layers": 2,
    }
    draw(program, prompt="x", override_settings=settings)
    assert worker.job.base.model_version_id == other.id
    assert worker.job.base.vae is not None
    assert (worker.job.base.vae.name, worker.job.clip_skip) == (vae.files[0].name, 2)
    options = program.get("/sdapi/v1/options").json()
    draw(program, prompt="x", override_settings={"sd_model_checkpoint": options["sd_model_checkpoint"]})
    assert (worker.job.base.vae, worker.job.clip_skip) == (None, 1)


def test_from_a_picture_and_a_mask(program: TestClient, worker: Worker) -> None:
    mask = png(size=(200, 100), color="#000000")
    answer = draw(
        program, "img2img", prompt="x", init_images=["data:image/png;base64," + b64(png(size=(200, 100)))],
        mask=b64(mask), mask_blur=7, denoising_strength=0.6, inpainting_mask_invert=1, inpainting_fill=1,
        inpaint_full_res=False, include_init_images=True,
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    start = worker.job.start
    assert start is not None
    assert start.mask is not None
    assert (start.denoise, start.mask_blur, start.mask_padding) == (0.6, 7, None)
    assert (worker.job.width, worker.job.height) == (200, 96), "the picture's own size, in steps of 8"
    assert pixels_of(get_storage().get(start.mask.key)).convert("L").getpixel((5, 5)) == 255, "inverted"
    body = answer.json()
    assert len(body["images"]) == 2
    assert "init_images" not in body["parameters"]
    assert json.loads(body["info"])["warnings"] == []


def test_a_mask_with_transparency_is_drawn_where_it_is_painted(program: TestClient, worker: Worker) -> None:
    painted = Pillow.new("RGBA", (128, 96), (0, 0, 0, 0))
    painted.paste((0, 0, 0, 255), (0, 0, 64, 96))
    out = io.BytesIO()
    painted.save(out, "PNG")
    answer = draw(program, "img2img", prompt="x", init_images=[b64(png())], mask=b64(out.getvalue()))
    start = worker.job.start
    assert start is not None
    assert start.mask is not None
    mask = pixels_of(get_storage().get(start.mask.key)).convert("L")
    assert (mask.getpixel((10, 10)), mask.getpixel((100, 10))) == (255, 0)
    assert start.mask_padding == 0, "only the masked part, as A1111 does where nothing is said"
    assert len(json.loads(answer.json()["info"])["warnings"]) == 1, "inpainting_fill is not done"


def test_what_is_wrong_is_said_at_its_field(program: TestClient, worker: Worker) -> None:
    picture = b64(png())
    wrong: list[tuple[str, dict[str, Any], int, str]] = [
        ("txt2img", {"width": 130}, 422, "width"),
        ("txt2img", {"batch_size": 5, "n_iter": 5}, 422, "batch_size"),
        ("txt2img", {"batch_size": 0}, 422, "batch_size"),
        ("txt2img", {"steps": "many"}, 422, "steps"),
        ("txt2img", {"seed": 10**30}, 422, "seed"),
        ("txt2img", {"prompt": "x" * 6001}, 422, "prompt"),
        ("txt2img", {"sampler_name": "Euler a", "scheduler": "karras"}, 422, "scheduler"),
        ("txt2img", {"override_settings": {"CLIP_stop_at_last_layers": 0}}, 422, "CLIP_stop_at_last_layers"),
        ("txt2img", {"prompt": "a\ud800b"}, 422, "prompt"),
        ("txt2img", {"hr_scale": float("nan")}, 422, "hr_scale"),
        ("img2img", {"init_images": ["http://example.com/a.png"]}, 422, "init_images"),
        ("img2img", {"init_images": [b64(b"<html>")]}, 422, "init_images"),
        ("img2img", {"init_images": [picture, picture]}, 422, "init_images"),
        ("img2img", {"init_images": [picture], "mask": "%%%"}, 422, "mask"),
        ("img2img", {"init_images": [picture], "denoising_strength": 2}, 422, "denoising_strength"),
        ("img2img", {"init_images": []}, 404, "Init image not found"),
        ("txt2img", {"sampler_name": "Restart"}, 404, "Sampler not found"),
        ("txt2img", {"override_settings": {"sd_model_checkpoint": "no"}}, 404, "model 'no' not found"),
        ("txt2img", {"override_settings": {"sd_vae": "nowhere"}}, 404, "VAE 'nowhere' not found"),
    ]  # fmt: skip
    for path, body, status, told in wrong:
        answer = draw(program, path, **{"prompt": "x", **body})
        said = answer.json()
        assert answer.status_code == status, (body, answer.text)
        assert {"error", "detail", "body", "errors"} <= set(said)
        field = said["detail"][0]["loc"][1] if status == 422 else said["detail"]
        assert field.startswith(told), (body, said)
    assert worker.ids == []


def test_a_body_that_is_no_json(program: TestClient) -> None:
    answer = program.post("/sdapi/v1/txt2img", content="{", headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert "not JSON" in answer.json()["errors"]
    listed = program.post("/sdapi/v1/txt2img", json=[1])
    assert (listed.status_code, listed.json()["detail"][0]["loc"]) == (422, ["body"])
    nul = draw(program, prompt="a\0b")
    assert (nul.status_code, nul.json()["code"]) == (422, "validation-failed")
    assert draw(program, prompt="x", alwayson_scripts={"x": "y" * (5 << 20)}).status_code == 413


def test_other_peoples_private_models_are_not_there(db: Session, program: TestClient, worker: Worker) -> None:
    owner = make_user(db)
    secret = make_checkpoint(db, owner, "secret", visibility="private")
    private = make_model(db, owner, "hidden", visibility="private")
    make_file(
        db, make_version(db, private, base_model="Starter 1", status="Published"), name="hidden.safetensors"
    )
    for name in ("secret", f"secret.safetensors [{secret.files[0].blob_sha256[:10]}]"):
        answer = draw(program, prompt="x", override_settings={"sd_model_checkpoint": name})
        assert answer.status_code == 404
    info = json.loads(draw(program, prompt="x <lora:hidden:1>").json()["info"])
    assert (worker.job.loras, len(info["warnings"])) == ((), 1)
    titles = [each["title"] for each in program.get("/sdapi/v1/sd-models").json()]
    assert [title.split()[0] for title in titles] == ["olive.safetensors"]


def test_past_the_limit_it_says_where_it_goes_on(
    db: Session, program: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.core.config import get_settings

    monkeypatch.setattr(get_settings().server, "hold_seconds", 0.0)
    answer = draw(program, prompt="x")
    job = db.scalars(select(Job)).one()
    assert (answer.status_code, job.status) == (504, "queued")
    assert answer.headers["location"] == f"http://testserver/api/v1/jobs/{job.id}"
    assert answer.json()["job"] in answer.json()["detail"]


def test_stopped_it_answers_with_what_is_done(program: TestClient, worker: Worker) -> None:
    worker.outcome, worker.most = JobState.CANCELED, 1
    answer = draw(program, prompt="x", n_iter=3)
    info = json.loads(answer.json()["info"])
    assert (answer.status_code, len(answer.json()["images"]), len(info["all_seeds"])) == (200, 1, 1)
    assert "stopped" in info["warnings"][0]


def test_a_failure_is_told_in_the_workers_words(program: TestClient, worker: Worker) -> None:
    worker.outcome, worker.most = JobState.FAILED, 0
    worker.error = ("out-of-memory", "The machine ran out of memory. Choose a smaller size.")
    answer = draw(program, prompt="x")
    assert (answer.status_code, answer.json()["code"]) == (500, "out-of-memory")
    assert answer.json()["detail"] == worker.error[1]


def test_who_may_draw(
    db: Session, user: User, base: ModelVersion, program: TestClient, worker: Worker
) -> None:
    def by_basic(password: str) -> Any:
        client = Visitor(program.app, db)
        return client.post("/sdapi/v1/txt2img", json={"prompt": "x"}, auth=("anything", password))

    _, secret = tokens.create_token(db, user, name="bot", scopes=["generate"])
    assert by_basic(secret).status_code == 200
    refused = by_basic("bottega_wrong")
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, 'Basic realm="bottega"')
    _, reading = tokens.create_token(db, user, name="reader", scopes=["read"])
    assert (by_basic(reading).status_code, by_basic(reading).json()["code"]) == (403, "insufficient-scope")
    assert db.scalar(select(func.count()).select_from(Image)) == 1


def test_the_same_twice_is_two_jobs(db: Session, program: TestClient, worker: Worker) -> None:
    for _ in range(2):
        assert draw(program, prompt="x", seed=1).status_code == 200
    assert len(set(worker.ids)) == 2


def test_without_a_checkpoint_it_says_so(db: Session, script: Script) -> None:
    answer = draw(script(make_user(db), "generate"), prompt="x")
    assert (answer.status_code, answer.json()["detail"]) == (
        404,
        "No checkpoint that can draw is installed here.",
    )
