"""Sets of clips by REST: what is stored and shown, cutting, refusals in words, trainings."""

import io
import zipfile
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.accounts.models import User
from app.accounts.quotas import used_bytes
from app.contract.jobs import FilesJob
from app.core.blobs import Blob
from app.core.config import get_settings
from app.core.errors import Invalid
from app.core.storage import get_storage
from app.datasets import service
from app.datasets.media import NOTHING_TRAINS, check_trainable, trained_media
from app.jobs.models import Job
from tests.app.conftest import Browser, Script
from tests.app.datasets.films import bar_at, film, gif, shown
from tests.app.datasets.pictures import png, zipped
from tests.app.training.factories import training_body
from tests.factories import make_dataset
from worker.families import catalog
from worker.tasks import FILES_TASKS


@pytest.fixture
def clips(api: TestClient) -> str:
    answer = api.post("/api/v1/datasets", json={"name": "Boats", "media": "video"})
    assert answer.status_code == 201
    return str(answer.json()["id"])


def send(api: TestClient, dataset: str, *files: tuple[str, bytes]) -> dict[str, Any]:
    answer = api.post(f"/api/v1/datasets/{dataset}/items", files=[("files", f) for f in files])
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def codes(body: dict[str, Any]) -> dict[str, str]:
    return {r["name"]: r["code"] for r in body["rejected"]}


def test_clips_have_captions_unless_tags_are_wanted(api: TestClient, clips: str) -> None:
    shown_set = api.get(f"/api/v1/datasets/{clips}").json()
    assert (shown_set["media"], shown_set["label_type"]) == ("video", "caption")
    tags = api.post("/api/v1/datasets", json={"name": "B", "media": "video", "label_type": "tag"}).json()
    assert tags["label_type"] == "tag"
    assert api.post("/api/v1/datasets", json={"name": "C"}).json()["label_type"] == "tag"


def test_a_clip_is_stored_with_what_is_known_of_it(api: TestClient, clips: str) -> None:
    body = send(
        api, clips, ("boat.mov", film(24, 12, form="mov", sound=True)), ("boat.txt", b"A boat, left.")
    )
    assert body["rejected"] == []
    (item,) = body["accepted"]
    assert item["label"] == "A boat, left."
    assert (item["media"], item["width"], item["height"]) == ("video", 96, 64)
    assert (item["fps"], item["frames"], item["duration"]) == (12, 24, 2)
    clip = api.get(item["url"])
    assert clip.headers["content-type"] == "video/mp4"
    assert clip.headers["content-disposition"].startswith("inline")
    assert [bar_at(image) for image in shown(clip.content)] == list(range(24))
    part = api.get(item["url"], headers={"Range": "bytes=0-99"})
    assert (part.status_code, part.content) == (206, clip.content[:100])
    poster, strip = api.get(item["thumb_url"]), api.get(item["strip_url"])
    assert Image.open(io.BytesIO(poster.content)).size == (96, 64)
    assert Image.open(io.BytesIO(strip.content)).height == 90
    size = len(clip.content) + len(poster.content) + len(strip.content)
    assert api.get(f"/api/v1/datasets/{clips}").json()["size_bytes"] == size


def test_a_picture_is_a_clip_of_one_frame(api: TestClient, clips: str) -> None:
    body = send(api, clips, ("a.png", png(1)), ("really-a-picture.mp4", png(2)), ("one.gif", gif(1)))
    assert body["rejected"] == []
    for item in body["accepted"]:
        assert (item["media"], item["frames"], item["fps"], item["duration"]) == ("image", 1, None, None)
        assert item["strip_url"] is None
        assert api.get(item["url"]).headers["content-type"] == "image/png"
    address = f"/api/v1/datasets/{clips}/items/{body['accepted'][0]['id']}/strip"
    assert api.get(address).status_code == 404


def test_bad_files_have_their_own_words_and_the_rest_is_taken(api: TestClient, clips: str) -> None:
    webm = film(8, 8, form="webm", codec="libvpx")
    body = send(
        api, clips,
        ("good.gif", gif(4)), ("page.mp4", b"<!DOCTYPE html><html></html>"), ("nothing.mp4", b""),
        ("cut.mp4", film()[:900]), ("list.csv", b"a,b\n1,2\n"), ("again.gif", gif(4)),
        ("zip.mp4", zipped([("inside.webm", webm), ("inside.txt", b"A bar.")])),
    )  # fmt: skip
    assert {item["name"]: item["label"] for item in body["accepted"]} == {
        "good.gif": "", "inside.webm": "A bar.",
    }  # fmt: skip
    assert codes(body) == {
        "page.mp4": "unsupported-format", "nothing.mp4": "empty-file", "cut.mp4": "clip-unreadable",
        "list.csv": "not-a-clip",
    }  # fmt: skip
    assert [one["name"] for one in body["duplicates"]] == ["again.gif"]
    words = {r["name"]: r["detail"] for r in body["rejected"]}
    assert words["list.csv"].startswith("list.csv is a list")


def test_limits_of_the_settings(api: TestClient, clips: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(get_settings().limits, "clip_bytes", 1000)
    body = send(api, clips, ("large.mp4", film()), ("in.zip", zipped([("large.mp4", film())])))
    assert set(codes(body).values()) == {"too-large"}


@pytest.mark.parametrize(("name", "data"), [("a.gif", gif(3)), ("a.mp4", b"\0\0\0\x18ftypisom" + bytes(100))])
def test_a_set_of_pictures_says_where_clips_belong(
    api: TestClient, db: Session, owner: User, name: str, data: bytes
) -> None:
    body = send(api, make_dataset(db, owner).id, (name, data))
    assert codes(body) == {name: "unsupported-format"}
    assert "make a data set of clips for it" in body["rejected"][0]["detail"]


def test_what_will_be_cut(api: TestClient, clips: str) -> None:
    clip, still = send(api, clips, ("a.mp4", film(48, 24)), ("b.png", png(1)))["accepted"]
    url = f"/api/v1/datasets/{clips}/items/{clip['id']}/windows"
    cut = api.get(url, params={"family": "wan", "mode": "chunks", "length": 17}).json()
    assert (cut["fps"], cut["frames"], cut["unused"]) == (16, 32, 0)
    assert cut["windows"] == [
        {"start": 0, "length": 17, "start_seconds": 0, "end_seconds": 17 / 16},
        {"start": 15, "length": 17, "start_seconds": 15 / 16, "end_seconds": 2},
    ]
    ltx = api.get(url, params={"family": "ltx", "mode": "head", "length": 200}).json()
    assert [(w["start"], w["length"]) for w in ltx["windows"]] == [(0, 41)]
    assert ltx["unused"] == 7
    one = api.get(f"/api/v1/datasets/{clips}/items/{still['id']}/windows").json()
    assert [(w["start"], w["length"]) for w in one["windows"]] == [(0, 1)]
    for wrong in ({"family": "sd1"}, {"mode": "middle"}, {"length": 0}, {"colour": "red"}):
        assert api.get(url, params=wrong).status_code == 422


def test_what_a_training_and_an_export_take(api: TestClient, clips: str, db: Session, owner: User) -> None:
    send(api, clips, ("a.mp4", film(24, 12)), ("a.txt", b"A bar."), ("b.png", png(1)))
    clip, still = service.snapshot(db, owner, clips)
    assert (clip.frames, clip.fps, clip.label) == (24, 12, "A bar.")
    assert (still.frames, still.fps) == (1, None)
    with zipfile.ZipFile(io.BytesIO(api.get(f"/api/v1/datasets/{clips}/export").content)) as archive:
        assert archive.namelist() == ["000.mp4", "000.txt", "001.png"]


def test_deleting_frees_clip_poster_and_strip(api: TestClient, clips: str, db: Session, owner: User) -> None:
    first, second = send(api, clips, ("a.mp4", film(12, 12)), ("b.mp4", film(12, 12, first=3)))["accepted"]
    assert len(db.scalars(select(Blob)).all()) == 6
    assert used_bytes(db, owner) == sum(db.scalars(select(Blob.size)))
    assert api.delete(f"/api/v1/datasets/{clips}/items/{first['id']}").status_code == 204
    assert len(db.scalars(select(Blob)).all()) == 3
    assert api.get(second["strip_url"]).status_code == 200
    assert api.delete(f"/api/v1/datasets/{clips}").status_code == 204
    assert db.scalars(select(Blob)).all() == []


def test_a_large_clip_is_read_by_a_worker(
    api: TestClient, clips: str, db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "IN_REQUEST_BYTES", 1000)
    answer = api.post(f"/api/v1/datasets/{clips}/items", files={"files": ("a.mp4", film(24, 12))})
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/api/v1/jobs/{answer.json()['id']}"
    job = FilesJob.model_validate(db.get_one(Job, answer.json()["id"]).payload)
    output = FILES_TASKS[job.task](db, get_storage(), job)
    assert output is not None
    assert (output["accepted"], output["rejected"]) == (1, [])
    (item,) = api.get(f"/api/v1/datasets/{clips}/items").json()["items"]
    assert (item["name"], item["frames"]) == ("a.mp4", 24)


@pytest.mark.parametrize("at_once", [True, False])
def test_a_clip_that_came_in_parts(
    api: TestClient, clips: str, db: Session, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    data = film(24, 12)
    upload = api.post("/api/v1/uploads", json={"name": "boat.mp4", "size": len(data)}).json()
    for number in upload["missing"]:
        assert api.put(f"/api/v1/uploads/{upload['id']}/parts/{number}", content=data).status_code == 204
    assert api.post(f"/api/v1/uploads/{upload['id']}/complete").status_code == 202
    if not at_once:
        monkeypatch.setattr(service, "IN_REQUEST_BYTES", 1000)
    answer = api.post(f"/api/v1/datasets/{clips}/items", json={"upload": upload["id"]})
    assert answer.status_code == (200 if at_once else 202), answer.text
    if not at_once:
        job = FilesJob.model_validate(db.get_one(Job, answer.json()["id"]).payload)
        FILES_TASKS[job.task](db, get_storage(), job)
    (item,) = api.get(f"/api/v1/datasets/{clips}/items").json()["items"]
    assert (item["name"], item["frames"], item["media"]) == ("boat.mp4", 24, "video")


def test_the_example_set_of_clips(api: TestClient, clips: str) -> None:
    """Clips with their captions; asked for twice they are there once."""
    first = api.post(f"/api/v1/datasets/{clips}/example").json()
    again = api.post(f"/api/v1/datasets/{clips}/example").json()
    assert (first["rejected"], again["accepted"]) == ([], [])
    assert len(first["accepted"]) == len(again["duplicates"]) >= 5
    assert {item["media"] for item in first["accepted"]} == {"video"}
    assert all(item["label"] and item["label_source"] == "file" for item in first["accepted"])


def test_who_trains_on_what(db: Session, owner: User) -> None:
    """Read from the specs: a set is trained by a family that names its media."""
    specs = list(catalog.specs().values())
    pictures = specs[0].model_copy(update={"media": ("image",)})
    films = specs[0].model_copy(update={"media": ("image", "video"), "title": "Films"})
    alone = specs[0].model_copy(update={"media": ("video",)})
    assert trained_media([pictures]) == ("image",)
    assert trained_media([films, pictures]) == ("image", "video")
    clips, stills = make_dataset(db, owner, media="video"), make_dataset(db, owner)
    check_trainable(stills, pictures)
    check_trainable(clips, films)
    with pytest.raises(Invalid, match=NOTHING_TRAINS):
        check_trainable(clips, pictures, [pictures])
    with pytest.raises(Invalid, match="trains on pictures"):
        check_trainable(clips, pictures, [pictures, films])
    with pytest.raises(Invalid, match="trains on clips alone"):
        check_trainable(stills, alone, [alone])


def test_trainings_refuse_clips_in_words(
    db: Session,
    owner: User,
    api: TestClient,
    script: Script,
    browser: Browser,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As long as no family trains on clips: by REST, in the wizard, on the set's page."""
    pictures = {name: spec for name, spec in catalog.specs().items() if "video" not in spec.media}
    monkeypatch.setattr(catalog, "specs", lambda: pictures)
    body = training_body(db, owner).model_dump(exclude_none=True)
    clips = make_dataset(db, owner, "Clips", items=3, media="video")
    answer = script(owner, "read", "train").post("/api/v1/trainings", json=body | {"dataset": clips.id})
    assert (answer.status_code, answer.json()["code"]) == (422, "dataset-media")
    assert answer.json()["detail"].startswith(NOTHING_TRAINS)
    assert answer.json()["errors"][0]["pointer"] == "#/dataset"
    person = browser(owner)
    page = person.post("/train", data={"dataset": clips.id})
    assert page.status_code == 422
    assert NOTHING_TRAINS in page.text
    wizard = person.post("/train").headers["location"].replace("/about", "")
    step = person.get(f"{wizard}/images").text
    assert clips.id not in step
    assert body["dataset"] in step
    shown_set = person.get(f"/datasets/{clips.id}").text
    assert NOTHING_TRAINS in shown_set
    assert "Train with this set" not in shown_set
    assert 'value="video"' not in person.get("/datasets").text


def test_sets_of_clips_are_offered_where_a_family_trains_on_them(
    db: Session, owner: User, browser: Browser
) -> None:
    clips = make_dataset(db, owner, "Clips", items=3, media="video")
    person = browser(owner)
    assert 'value="video"' in person.get("/datasets").text
    shown = person.get(f"/datasets/{clips.id}").text
    assert "Train with this set" in shown
    assert NOTHING_TRAINS not in shown
