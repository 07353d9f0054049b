"""Clips in the generator: the chosen model decides, lengths are legal ones, and results are clips."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.events import Finished, Picture
from app.contract.family import ClipDefaults, ClipRule
from app.contract.jobs import GenerateJob
from app.core.errors import Invalid
from app.gallery import refs
from app.gallery.models import ModelVersion
from app.generation import clips, estimate, plan, prefill, reading, resolve, service
from app.generation.form import body_of
from app.generation.schemas import EpochOf, GenerationIn
from app.images.models import Image
from app.jobs.models import Job
from app.training.service import get_checkpoint
from tests.app.conftest import Browser
from tests.app.generation.making import body
from tests.app.images.clips import TEXT, clip, make_clip, poster_of
from tests.app.training.factories import make_base, make_training
from tests.factories import make_blob, make_file, make_image, make_model, make_user, make_version
from worker.families.catalog import specs

VIDEO = {"base_model": "Video Starter 1", "family": "video_starter"}
LTX = {"base_model": "LTXV", "family": "ltx"}
STARTER = specs()["video_starter"].clips
SHIFT = STARTER.shift if STARTER else 0.0
RULES = ClipDefaults(rule=ClipRule(fps=16), window=33, max_window=81, length=49, max_length=121, shift=5.0)


def video_base(db: Session, user: User, **fields: Any) -> ModelVersion:
    model = make_model(db, user, "Video Starter", type="Checkpoint", visibility="public")
    version = make_version(db, model, **VIDEO | {"status": "Published"} | fields)
    make_file(db, version, format="Diffusers", name="video-starter-1.zip")
    db.refresh(version)
    return version


def planned(db: Session, user: User, wanted: GenerationIn) -> GenerateJob:
    return plan.plan_generation(db, user, wanted).job


def wrong(db: Session, user: User, base: ModelVersion, **fields: Any) -> dict[str, str]:
    with pytest.raises(Invalid) as refused:
        plan.plan_generation(db, user, body(base.id, **fields))
    return {error.pointer: error.detail for error in refused.value.errors}


def deliver(db: Session, job: Job) -> Image:
    """The first clip of a job, as a worker hands it over."""
    event = Picture(index=0, seed=7, path="000.mp4", width=96, height=64, infotext=TEXT, frames=9, fps=8,
                    poster="000.jpg")  # fmt: skip
    blobs = make_blob(db, clip(), "video/mp4"), make_blob(db, poster_of(), "image/jpeg")
    return service.add_picture(db, job, event, *blobs)


def test_lengths() -> None:
    legal = clips.legal_lengths(RULES)
    assert (legal[:4], legal[-1], len(legal)) == ([1, 5, 9, 13], 121, 31)
    offered = clips.offered_lengths(RULES, 13)
    assert {13, 49, 121} <= set(offered) <= set(legal[1:])
    assert len(offered) <= clips.OFFERED + 2
    assert clips.offered_lengths(RULES, 14) == clips.offered_lengths(RULES)
    assert [clips.nearest_length(asked, RULES) for asked in (0, 3, 14, 80.0, 9e9)] == [1, 1, 13, 81, 121]
    assert clips.rates_of(RULES, 12.5) == [8, 12, 12.5, 16, 24, 30]


def test_what_is_left_out_is_the_familys(db: Session) -> None:
    user = make_user(db)
    job = planned(db, user, body(video_base(db, user).id, seed=7, quantity=2))
    assert (job.frames, job.fps, job.shift) == (17, 8, SHIFT)
    assert (job.sampler, job.schedule, job.width, job.height) == ("Euler", "Normal", 64, 64)
    assert job.seeds == (7, 8)
    job = planned(db, user, body(video_base(db, user).id, frames=9, fps=12, shift=5, sampler="DPM++ 2M"))
    assert (job.frames, job.fps, job.shift, job.schedule) == (9, 12, 5, "Normal")
    assert planned(db, user, body(make_base(db, user).id, frames=1)).frames == 1


@pytest.mark.parametrize(
    ("fields", "pointer", "words"),
    [
        ({"frames": 10}, "#/frames", "give 4 · n + 1 frames from 1 to 33; the nearest is 9"),
        ({"frames": 37}, "#/frames", "give 4 · n + 1 frames from 1 to 33; the nearest is 33"),
        ({"shift": 0}, "#/shift", "give more than 0 and at most 20"),
        ({"shift": 21}, "#/shift", "give more than 0 and at most 20"),
        ({"sampler": "Euler a"}, "#/sampler", "choose one of Euler, DPM++ 2M, UniPC"),
        ({"sampler": "DPM++ 2M Karras"}, "#/sampler",
         "DPM++ 2M has no Karras: choose one of Automatic, Normal"),
        ({"hires": {}}, "#/hires", "the hires fix is for pictures; clips have none"),
        ({"clip_skip": 2}, "#/clip_skip", "CLIP skip is for pictures; clips have none"),
        ({"grid": {"x": {"axis": "seed", "values": [1, 2]}}}, "#/grid",
         "a grid of values is for pictures; clips have none"),
        ({"mask": 7}, "#/mask", "a mask is for pictures; clips have none"),
        ({"init_image": 7}, "#/init_image", "Bottega Video Starter cannot go on from a picture"),
        ({"width": 70}, "#/width", "give 32 to 128 pixels in steps of 16"),
    ],
)  # fmt: skip
def test_what_clips_cannot_have(db: Session, fields: dict[str, Any], pointer: str, words: str) -> None:
    user = make_user(db)
    assert wrong(db, user, video_base(db, user), **fields)[pointer] == words


@pytest.mark.parametrize("fields", [{"frames": 17}, {"fps": 8}, {"shift": 3}])
def test_pictures_have_no_length(db: Session, fields: dict[str, Any]) -> None:
    user = make_user(db)
    (words,) = wrong(db, user, make_base(db, user), **fields).values()
    assert words.endswith("draws pictures; choose a model that draws clips, or leave this out")


def test_a_first_frame(db: Session) -> None:
    user = make_user(db)
    base, picture = video_base(db, user, **LTX), make_image(db, user)
    job = planned(db, user, body(base.id, init_image=picture.id, frames=17))
    assert job.start is not None
    assert (job.start.file.sha256, job.start.denoise, job.start.mask) == (picture.blob_sha256, 1.0, None)
    shown = make_clip(db, user)
    job = planned(db, user, body(base.id, init_image=shown.id))
    assert job.start is not None
    assert (job.start.file.sha256, job.start.file.name) == (shown.poster_sha256, "first.jpg")
    assert set(wrong(db, user, base, init_image=picture.id, frames=1, denoise=0.3)) == {
        "#/init_image", "#/denoise"
    }  # fmt: skip
    starter = planned(db, user, body(make_base(db, user).id, init_image=shown.id))
    assert starter.start is not None
    assert starter.start.file.sha256 == shown.poster_sha256


def test_a_first_frame_comes_back(db: Session, browser: Browser) -> None:
    user = make_user(db)
    base, shown = video_base(db, user, **LTX), make_clip(db, user)
    still = make_image(db, user)
    wanted = body(base.id, init_image=shown.id, frames=17, seed=7)
    filled = prefill.from_query(db, user, image=deliver(db, service.start_generation(db, user, wanted)).id)
    assert filled.start_url == f"/images/{shown.id}/anim=false/bottega-{shown.id}.jpeg"
    form = {name: str(value) for name, value in filled.fields.items() if value is not None}
    assert planned(db, user, body_of(form | {"model_version_id": str(base.id)})) == planned(db, user, wanted)
    page = browser(user).get(f"/generate?start={shown.id}&version={base.id}").text
    assert ("First frame" in page, "data-mask-open" in page) == (True, False)
    offered = browser(user).get("/generate/pictures").text
    assert (f'data-start-image="{still.id}"' in offered, f'data-start-image="{shown.id}"' in offered) == (
        True,
        False,
    )


def test_a_lora_of_two_files(db: Session) -> None:
    user = make_user(db)
    model = make_model(db, user, "Sails", visibility="public")
    version = make_version(
        db, model, base_model="Wan Video 2.2 T2V-A14B", family="wan22_a14b", status="Published"
    )
    low = make_file(db, version, b"low", name="sails_low_noise.safetensors")
    high = make_file(db, version, b"high", name="sails_high_noise.safetensors", is_primary=False)
    db.refresh(version)
    lora = refs.lora_ref(db, user, version.id)
    assert (lora.name, lora.file.sha256) == ("sails_high_noise", high.blob_sha256)
    assert lora.low_noise is not None
    assert lora.low_noise.sha256 == low.blob_sha256


def test_a_finished_clip(db: Session) -> None:
    user = make_user(db)
    wanted = body(video_base(db, user).id, prompt="a boat sails left", seed=7, frames=9, steps=4)
    job = service.start_generation(db, user, wanted)
    image = deliver(db, job)
    assert (image.media_type, image.frames, image.fps, image.prompt) == (
        "video/mp4",
        9,
        8,
        "a boat sails left",
    )
    told = {name: image.meta[name] for name in ("frames", "fps", "shift", "seed", "sampler")}
    assert told == {"frames": 9, "fps": 8, "shift": SHIFT, "seed": 7, "sampler": "Euler"}
    assert "clipSkip" not in image.meta
    output = service.complete_generation(db, job, Finished(outcome="succeeded", run_seconds=4))
    (made,) = output["images"]
    assert (made["media_type"], made["frames"], made["fps"], made["duration"]) == ("video/mp4", 9, 8, 1.125)
    assert made["poster_url"] == f"/images/{image.id}/anim=false/bottega-{image.id}.jpeg"
    job.status, job.output = "succeeded", output
    db.flush()
    assert estimate.eta_seconds(db, "video_starter", estimate.work(planned(db, user, wanted))) == 4
    longer = planned(db, user, wanted.model_copy(update={"frames": 17}))
    assert estimate.eta_seconds(db, "video_starter", estimate.work(longer)) == pytest.approx(
        4 * 17 / 9, abs=0.1
    )


def test_remix_keeps_everything(db: Session) -> None:
    user = make_user(db)
    base = video_base(db, user)
    wanted = body(base.id, seed=7, frames=9, fps=12, shift=4, steps=4, sampler="UniPC")
    filled = prefill.from_query(db, user, image=deliver(db, service.start_generation(db, user, wanted)).id)
    form = {name: str(value) for name, value in filled.fields.items() if value is not None}
    again = planned(db, user, body_of(form | {"model_version_id": str(base.id)}))
    assert again == planned(db, user, wanted)


def test_generation_data_of_a_clip_fills_the_form(db: Session) -> None:
    user = make_user(db)
    base = video_base(db, user)
    text = TEXT.replace("Frames: 9", "Frames: 44").replace("Sampler: Euler", "Sampler: Magic, Shift: 99")
    filled = reading.read_text(db, user, text, base=str(base.id))
    assert {name: filled.fields[name] for name in ("frames", "fps", "shift", "sampler", "seed")} == {
        "frames": 33, "fps": 8, "shift": SHIFT, "sampler": "Euler", "seed": 3,
    }  # fmt: skip
    assert len(filled.notes) == 3
    endless = reading.read_text(db, user, TEXT.replace("Frames: 9", "Frames: 1e999"), base=str(base.id))
    assert not endless.fields["frames"]


def test_another_kind_of_model_begins_anew(db: Session) -> None:
    user = make_user(db)
    video, starter = video_base(db, user), make_base(db, user)
    left = {
        "prompt": "a boat",
        "seed": "4",
        "width": "128",
        "height": "96",
        "sampler": "Euler a",
        "hires": "on",
    }
    filled = prefill.from_form(db, user, left | {"model_version_id": str(video.id)})
    kept = {name: value for name, value in filled.fields.items() if value}
    assert kept == {"prompt": "a boat", "seed": "4", "model_version_id": str(video.id)}
    back = prefill.from_form(
        db, user, {"prompt": "b", "frames": "17", "sampler": "UniPC", "model_version_id": str(starter.id)}
    )
    assert (back.fields["prompt"], "frames" in back.fields, "sampler" in back.fields) == ("b", False, False)


def test_the_page_offers_both_where_both_are_there(db: Session, browser: Browser) -> None:
    user = make_user(db)
    starter = make_base(db, user)
    owner = browser(user)
    assert "media=video" not in owner.get("/generate").text
    video = video_base(db, user)
    for media, base in (("video", video), ("image", starter)):
        page = owner.get(f"/generate?media={media}").text
        assert f'name="model_version_id" value="{base.id}"' in page
        assert ('name="frames"' in page, 'name="hires"' in page) == (media == "video", media == "image")
        assert "/generate?media=video" in page
    assert owner.get("/generate?media=sound").status_code == 422
    page = owner.get(f"/generate?version={video.id}").text
    assert '<option value="17" selected>2.1 s' in page
    assert "Euler a" not in page


def test_clips_in_queue_and_history(db: Session, browser: Browser) -> None:
    user = make_user(db)
    job = service.start_generation(db, user, body(video_base(db, user).id, frames=9))
    image = deliver(db, job)
    owner = browser(user)
    card = owner.get(f"/generate/jobs/{job.id}").text
    assert f'src="/images/{image.id}/file"' in card.split("<video")[1]
    assert f'data-clip="/images/{image.id}/file"' in owner.get("/generate").text


def test_rest(client: TestClient, db: Session, browser: Browser) -> None:
    user = make_user(db)
    owner = browser(user)
    wanted = {
        "model_version_id": video_base(db, user).id,
        "prompt": "a boat",
        "frames": 9,
        "fps": 12,
        "shift": 2,
    }
    found = owner.post("/api/v1/generations?dry_run=true", json=wanted)
    assert {name: found.json()["input"][name] for name in ("frames", "fps", "shift")} == {
        "frames": 9, "fps": 12, "shift": 2
    }  # fmt: skip
    refused = owner.post("/api/v1/generations", json=wanted | {"frames": 8, "fps": 99})
    assert refused.status_code == 422
    refused = owner.post("/api/v1/generations", json=wanted | {"frames": 8})
    assert [error["pointer"] for error in refused.json()["errors"]] == ["#/frames"]
    started = owner.post("/api/v1/generations", json=wanted)
    assert (started.status_code, started.json()["input"]["frames"]) == (202, 9)


def test_an_epoch_of_two_files(db: Session) -> None:
    user = make_user(db)
    job = make_training(db, user, epochs=1)
    row = get_checkpoint(db, user, job.id, 1)
    source = EpochOf(id=job.id, epoch=1)
    assert resolve.epoch_ref(db, user, source).low_noise is None
    second = make_blob(db, b"low")
    row.low_noise_sha256 = second.sha256
    row.low_noise = {"name": "Tuscany-000001_low.safetensors", "size": second.size, "tensor_sha256": "0" * 64}
    low = resolve.epoch_ref(db, user, source).low_noise
    assert low is not None
    assert (low.sha256, low.size, low.name) == (second.sha256, 3, "Tuscany-000001_low.safetensors")
