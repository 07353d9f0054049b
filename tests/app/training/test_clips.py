"""Trainings on clips: plans, deliveries of two files, pages in their words, what is published."""

import re
from typing import Any

import pytest
from sqlalchemy.orm import Session

from app.core.blobs import Blob
from app.core.errors import Invalid, NotFound
from app.datasets import service as datasets
from app.gallery import service as gallery
from app.training import drafts, publishing, service
from app.training.plan import describe_plan, plan_training
from app.training.schemas import PublishIn
from tests.app.conftest import Browser, Script
from tests.app.training.factories import (
    clip_body,
    deliver_epoch,
    make_base,
    make_clip_base,
    make_clip_training,
    make_clips,
    make_training,
    training_body,
)
from tests.factories import make_dataset, make_item, make_user


def test_a_plan_of_clips(db: Session) -> None:
    """Two prompts of the length that is trained on, and what is cut told in words."""
    user = make_user(db)
    planned = plan_training(db, user, clip_body(db, user))
    assert planned.media == "video"
    assert [(p.frames, p.seed) for p in planned.job.sample_prompts] == [(17, 1), (17, 2)]
    cut = describe_plan(db, planned).cut
    assert cut is not None
    assert (cut.pieces, cut.frames, cut.fps, cut.total_frames, cut.unused_frames) == (12, 17, 8.0, 144, 0)
    said = "6 clips become 12 pieces of 17 frames (2.1 s at 8 a second). Every frame is used."
    assert cut.detail == said


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"clip_windows": "head"}, "6 clips become 6 pieces of 17 frames (2.1 s at 8 a second). 29 % of"),
        ({"clip_windows": "head", "clip_frames": 5}, "6 clips become 6 pieces of 5 frames (0.6 s at 8 a"),
        ({"clip_windows": "full"}, "6 clips become 6 pieces of 17 frames"),
    ],
)
def test_cutting_in_words(db: Session, params: dict[str, Any], words: str) -> None:
    user = make_user(db)
    cut = describe_plan(db, plan_training(db, user, clip_body(db, user, params=params))).cut
    assert cut is not None
    assert cut.detail.startswith(words)


def test_pictures_and_short_clips_are_counted(db: Session) -> None:
    user = make_user(db)
    body = clip_body(db, user)
    dataset = make_clips(db, user, items=2)
    make_item(db, dataset, 2, clip={"fps": 8.0, "frames": 9, "duration": 1.1})
    make_item(db, dataset, 3, label="A boat.")
    cut = describe_plan(db, plan_training(db, user, body.model_copy(update={"dataset": dataset.id}))).cut
    assert cut is not None
    assert cut.pieces == 6
    assert cut.detail == (
        "3 clips become 5 pieces of 17 frames (2.1 s at 8 a second); 1 of them is shorter. "
        "Every frame is used. 1 picture is a piece of one frame."
    )


def test_pictures_alone_are_trained_as_pictures(db: Session) -> None:
    """A family of clips trains on a set of pictures too: nothing is cut, and samples are pictures."""
    user = make_user(db)
    body = clip_body(db, user, dataset=make_dataset(db, user, items=4).id)
    planned = plan_training(db, user, body)
    assert (planned.media, {p.frames for p in planned.job.sample_prompts}) == ("image", {1})
    assert describe_plan(db, planned).cut is None


@pytest.mark.parametrize(("frames", "near"), [(16, 13), (200, 33), (2, 1)])
def test_lengths_of_samples_that_cannot_be_drawn(db: Session, frames: int, near: int) -> None:
    user = make_user(db)
    wanted = [{"prompt": "a boat", "frames": frames}]
    with pytest.raises(Invalid, match=f"{near}, for example") as caught:
        plan_training(db, user, clip_body(db, user, sample_prompts=wanted))
    assert [e.pointer for e in caught.value.errors] == ["#/sample_prompts"]
    with pytest.raises(Invalid, match="draws pictures"):
        plan_training(db, user, training_body(db, user, sample_prompts=[{"prompt": "x", "frames": 5}]))


def test_media_and_family_must_agree(db: Session, script: Script) -> None:
    user = make_user(db)
    api = script(user, "read", "train")
    body = clip_body(db, user).model_dump(exclude_none=True)
    wrong = body | {"base": {"model_version_id": make_base(db, user).id}}
    answer = api.post("/api/v1/trainings", json=wrong)
    assert (answer.status_code, answer.json()["code"]) == (422, "dataset-media")
    assert answer.json()["errors"][0]["pointer"] == "#/dataset"
    plan = api.post("/api/v1/trainings?dry_run=true", json=body)
    assert plan.status_code == 200
    assert plan.json()["cut"]["pieces"] == 12
    started = api.post("/api/v1/trainings", json=body)
    assert (started.status_code, started.json()["input"]["media"]) == (202, "video")
    again = body | {"params": started.json()["input"]["params"]}
    assert api.post("/api/v1/trainings?dry_run=true", json=again).json()["params"] == plan.json()["params"]


def test_clips_of_a_training_by_rest(db: Session, script: Script) -> None:
    user = make_user(db)
    job = make_clip_training(db, user, epochs=1)
    api = script(user, "read")
    first, second = api.get(f"/api/v1/trainings/{job.id}/samples").json()
    assert (first["baseline"], second["media"], second["frames"], second["fps"]) == (True, "video", 17, 8.0)
    assert second["thumb_url"] == second["poster_url"]
    clip, poster = api.get(second["url"]), api.get(second["poster_url"])
    assert (clip.headers["content-type"], poster.headers["content-type"]) == ("video/mp4", "image/jpeg")
    assert api.get(second["url"], headers={"Range": "bytes=0-3"}).content == clip.content[:4]
    picture = make_training(db, user, epochs=1)
    row = service.list_samples(db, picture.id)[0]
    assert api.get(f"/api/v1/trainings/{picture.id}/samples/{row.id}/poster").status_code == 404


def test_two_experts_are_two_files_of_one_epoch(db: Session, script: Script) -> None:
    user = make_user(db)
    job = make_clip_training(db, user, epochs=1, two_files=True)
    api = script(user, "read")
    (row,) = api.get(f"/api/v1/trainings/{job.id}/checkpoints").json()
    high, low = api.get(row["download_url"]), api.get(row["low_noise"]["download_url"])
    assert "Tuscany-000001_high_noise.safetensors" in high.headers["content-disposition"]
    assert "Tuscany-000001_low_noise.safetensors" in low.headers["content-disposition"]
    assert len(low.content) == row["low_noise"]["size_bytes"]
    assert high.content != low.content
    single = make_training(db, user, epochs=1)
    address = f"/api/v1/trainings/{single.id}/checkpoints/1/file"
    assert api.get(address, params={"noise": "low"}).status_code == 404
    assert api.get(address, params={"noise": "loud"}).status_code == 422


def test_a_delivery_that_comes_again_frees_what_it_replaces(db: Session) -> None:
    user = make_user(db)
    job = make_clip_training(db, user, epochs=1, two_files=True)
    (row,) = service.list_checkpoint_rows(db, job.id)
    gone = row.low_noise_sha256
    deliver_epoch(db, job, 1)
    db.expire_all()
    assert db.get(Blob, gone) is None
    assert service.list_checkpoint_rows(db, job.id)[0].low_noise is None


def test_files_of_clips_go_with_their_time(db: Session) -> None:
    user = make_user(db)
    job = make_clip_training(db, user, epochs=1, two_files=True)
    shas = [s.poster_sha256 for s in service.list_samples(db, job.id)]
    shas += [c.low_noise_sha256 for c in service.list_checkpoint_rows(db, job.id)]
    _, run = service.get_training(db, user, job.id)
    run.keep_until = run.keep_until and run.keep_until.replace(year=2020)
    db.flush()
    assert service.expire_checkpoints(db) == 1
    assert [db.get(Blob, sha) for sha in shas if sha] == [None] * 3


def test_publishing_brings_both_files_and_the_clips(db: Session, script: Script) -> None:
    user = make_user(db)
    job = make_clip_training(db, user, epochs=1, two_files=True)
    model = publishing.publish_checkpoint(db, user, job.id, PublishIn(checkpoint=1, visibility="public"))
    version = gallery.get_model(db, user, model.id).versions[0]
    db.refresh(version)
    names = [(f.name, f.is_primary) for f in version.files]
    assert names == [
        ("Tuscany-000001_high_noise.safetensors", True),
        ("Tuscany-000001_low_noise.safetensors", False),
    ]
    (picture,) = version.pictures
    image = picture.image
    assert (image.media_type, image.frames, image.fps) == ("video/mp4", 17, 8.0)
    assert image.poster_sha256
    assert version.training_details
    assert version.training_details["mediaType"] == "video"


def test_both_files_of_an_epoch_are_trained_further(db: Session) -> None:
    user = make_user(db)
    job = make_clip_training(db, user, epochs=1, two_files=True)
    (row,) = service.list_checkpoint_rows(db, job.id)
    further = {"training": job.id, "epoch": 1}
    planned = plan_training(db, user, clip_body(db, user, family="wan22_a14b", continue_from=further)).job
    assert planned.continue_from
    assert planned.continue_low_noise
    names = (planned.continue_from.sha256, planned.continue_low_noise.sha256)
    assert names == (row.blob_sha256, row.low_noise_sha256)


# pages


def test_the_wizard_offers_what_a_base_trains_on(db: Session, browser: Browser) -> None:
    user = make_user(db)
    stills = make_base(db, user)
    person = browser(user)
    draft = drafts.create_draft(db, user)
    page = person.get(f"/train/{draft.id}/about").text
    assert re.findall(r'name="media" value="(\w+)"', page) == ["image"]
    films = make_clip_base(db, user)
    page = person.get(f"/train/{draft.id}/about").text
    assert re.findall(r'name="media" value="(\w+)"', page) == ["image", "video"]
    about = {"name": "Boats", "type": "concept", "media": "video", "base": str(stills.id)}
    answer = person.post(f"/train/{draft.id}/about", data=about)
    assert answer.status_code == 422
    assert "trains on pictures alone" in answer.text
    answer = person.post(f"/train/{draft.id}/about", data=about | {"base": str(films.id)})
    assert answer.headers["location"] == f"/train/{draft.id}/images"


def test_a_draft_of_clips_has_a_set_of_clips(db: Session, browser: Browser) -> None:
    """Changing one's mind makes another set; the empty one goes, one with clips in it stays."""
    user = make_user(db)
    films = make_clip_base(db, user)
    draft = drafts.create_draft(db, user)
    first = drafts.open_dataset(db, user, draft).id
    drafts.save_about(
        db, user, draft.id, type="style", name="Boats", base=films.id, trigger="", media="video"
    )
    clips = drafts.open_dataset(db, user, draft)
    assert (clips.media, clips.label_type) == ("video", "caption")
    with pytest.raises(NotFound):
        datasets.get_dataset(db, user, first)
    page = browser(user).get(f"/train/{draft.id}/images").text
    assert "Drop clips here" in page
    assert "I may use these clips" in page
    state = '"cut": {"count": 2, "family": "video_starter", "length": 17, "mode": "uniform"}'
    assert state in page


def test_a_set_of_clips_brings_its_base(db: Session) -> None:
    user = make_user(db)
    films = make_clip_base(db, user)
    make_base(db, user)
    draft = drafts.create_draft(db, user)
    assert draft.fields["base"] != films.id
    drafts.use_dataset(db, user, draft.id, make_clips(db, user).id)
    assert (draft.fields["media"], draft.fields["base"]) == ("video", films.id)


def test_a_set_of_clips_without_a_base_for_it_is_kept(db: Session, browser: Browser) -> None:
    user = make_user(db)
    stills = make_base(db, user)
    draft = drafts.create_draft(db, user)
    clips = make_clips(db, user).id
    drafts.use_dataset(db, user, draft.id, clips)
    person = browser(user)
    page = person.get(f"/train/{draft.id}/about").text
    assert "No base model is installed here that trains on clips" in page
    about = {"name": "Boats", "type": "style", "media": "video", "base": str(stills.id)}
    assert person.post(f"/train/{draft.id}/about", data=about).status_code == 422
    assert draft.dataset_id == clips


def test_settings_of_clips_do_not_outlive_a_change_to_pictures(db: Session) -> None:
    user = make_user(db)
    stills, films = make_base(db, user), make_clip_base(db, user)
    draft = drafts.create_draft(db, user)
    about: dict[str, Any] = {"type": "style", "name": "Boats", "trigger": "b0at"}
    drafts.save_about(db, user, draft.id, base=films.id, media="video", **about)
    drafts.save_review(
        db, user, draft.id, {
            "params": {"clip_windows": "head", "epochs": "3"},
            "sample_prompts": [{"prompt": "a boat", "seed": 1, "frames": 9}],
        },
    )  # fmt: skip
    drafts.save_about(db, user, draft.id, base=stills.id, media="image", **about)
    assert draft.fields["params"] == {"epochs": "3"}
    draft.dataset_id = make_dataset(db, user, items=4).id
    planned = plan_training(db, user, drafts.draft_body(draft))
    assert (planned.job.params.epochs, planned.job.sample_prompts[0].frames) == (3, 1)


def test_the_review_of_clips(db: Session, browser: Browser) -> None:
    user = make_user(db)
    draft = drafts.create_draft(db, user)
    films = make_clip_base(db, user)
    drafts.save_about(
        db, user, draft.id, type="style", name="Boats", base=films.id, trigger="b0at", media="video"
    )
    draft.dataset_id = make_clips(db, user).id
    person = browser(user)
    page = person.get(f"/train/{draft.id}/review").text
    assert "6 clips become 12 pieces" in page
    assert re.findall(r'name="(prompt-\d|frames-\d)"', page) == [
        "prompt-0",
        "frames-0",
        "prompt-1",
        "frames-1",
    ]
    assert 'name="p-clip_windows"' in page
    assert 'name="p-flow_shift"' in page
    assert 'name="p-clip_skip"' not in page
    typed = {"prompt-0": "a boat", "seed-0": "3", "frames-0": "9", "p-clip_windows": "head"}
    page = person.post(f"/train/{draft.id}/review", data=typed).text
    assert "6 clips become 6 pieces" in page
    assert draft.fields["sample_prompts"] == [{"prompt": "a boat", "seed": 3, "frames": 9}]
    page = person.post(f"/train/{draft.id}/review", data=typed | {"frames-0": "10"}).text
    assert "9, for example" in page


def test_the_job_page_shows_clips_and_both_files(db: Session, browser: Browser) -> None:
    user = make_user(db)
    job = make_clip_training(db, user, epochs=1, two_files=True)
    page = browser(user).get(f"/trainings/{job.id}").text
    assert page.count("<video") == page.count("data-poster=") == 2
    assert "autoplay" not in page
    assert f'href="/api/v1/trainings/{job.id}/checkpoints/1/file?noise=low"' in page
    form = browser(user).get(f"/trainings/{job.id}/publish").text
    assert f'data-clip="/api/v1/trainings/{job.id}/samples/' in form
    assert "for low noise" in form
    assert re.findall(r'name="tags"[^>]*value="([^"]*)"', form) == [""]


def test_a_running_training_speaks_of_clips(db: Session, browser: Browser) -> None:
    user = make_user(db)
    job = make_clip_training(db, user)
    job.status, job.phase = "running", "caching"
    db.flush()
    page = browser(user).get(f"/trainings/{job.id}").text
    assert "<h1>Preparing clips and labels.</h1>" in page
    assert "6 clips</summary>" in page


def test_training_again_keeps_the_media(db: Session) -> None:
    user = make_user(db)
    job = make_clip_training(db, user)
    draft = drafts.duplicate_settings(db, user, job.id)
    assert draft.fields["media"] == "video"
    assert plan_training(db, user, drafts.draft_body(draft)).media == "video"


def test_what_a_page_shows_outlives_its_training(db: Session) -> None:
    """Clip and poster are not freed with the run."""
    user = make_user(db)
    job = make_clip_training(db, user, epochs=1)
    publishing.publish_checkpoint(db, user, job.id, PublishIn(checkpoint=1))
    shown = [s for s in service.list_samples(db, job.id) if not s.baseline]
    _, run = service.get_training(db, user, job.id)
    run.keep_until = run.keep_until and run.keep_until.replace(year=2020)
    db.flush()
    service.expire_checkpoints(db)
    assert all(db.get(Blob, sha) for s in shown for sha in (s.blob_sha256, s.poster_sha256))
