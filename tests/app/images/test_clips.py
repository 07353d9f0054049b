"""Clips among the pictures: rows, bytes, ranges, posters, and what a file tells."""

import io

import av
import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.core.blobs import Blob
from app.core.storage import get_storage
from app.gallery.service import add_picture
from app.images import service
from app.images.plain import without_texts
from tests.app.conftest import Browser
from tests.app.images.clips import (
    FPS,
    FRAMES,
    HEIGHT,
    TEXT,
    WIDTH,
    clip,
    make_clip,
    poster_of,
    size_of,
    told_by,
)
from tests.factories import make_blob, make_file, make_job, make_model, make_user, make_version


def decoded(content: bytes) -> list[bytes]:
    with av.open(io.BytesIO(content), "r") as movie:
        return [frame.to_ndarray(format="rgb24").tobytes() for frame in movie.decode(video=0)]


def test_a_drawn_clip_becomes_a_row_once(db: Session) -> None:
    user = make_user(db)
    job = make_job(db, user, type="generation")
    blob, small = make_blob(db, clip(), "video/mp4"), make_blob(db, poster_of(), "image/jpeg")
    facts = {"width": WIDTH, "height": HEIGHT, "frames": FRAMES, "fps": FPS, "poster": small}
    first = service.create_generated(db, job, blob=blob, index=0, resources=(), prompt="a boat", **facts)
    assert service.create_generated(db, job, blob=blob, index=0, resources=(), **facts).id == first.id
    assert (first.media_type, first.is_clip, first.frames, first.fps) == ("video/mp4", True, FRAMES, FPS)
    assert (first.poster_sha256, first.thumb_sha256, first.duration) == (small.sha256, small.sha256, 1.125)


def test_a_wide_poster_gets_a_small_picture(db: Session) -> None:
    user = make_user(db)
    job = make_job(db, user, type="generation")
    blob, small = make_blob(db, clip(), "video/mp4"), make_blob(db, poster_of(900, 480), "image/jpeg")
    image = service.create_generated(
        db, job, blob=blob, index=0, resources=(), width=900, height=480, frames=FRAMES, fps=FPS, poster=small
    )
    assert image.thumb_sha256 not in (small.sha256, blob.sha256)
    thumb = db.get_one(Blob, image.thumb_sha256)
    assert size_of(get_storage().get(thumb.key)) == ("WEBP", (450, 240))


def test_deleting_frees_clip_and_poster(db: Session) -> None:
    user = make_user(db)
    image = make_clip(db, user)
    shas = [image.blob_sha256, image.poster_sha256]
    service.delete_image(db, user, image.id)
    assert [db.get(Blob, sha) for sha in shas] == [None, None]


def test_its_bytes(client: TestClient, db: Session, browser: Browser) -> None:
    image = make_clip(db, make_user(db), visibility="public")
    whole = client.get(f"/images/{image.id}/file")
    assert whole.content == clip()
    assert whole.headers["content-type"] == "video/mp4"
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert whole.headers["content-disposition"] == f'inline; filename="bottega-{image.id}.mp4"'
    assert whole.headers["accept-ranges"] == "bytes"
    part = client.get(f"/images/{image.id}/file.mp4", headers={"range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, clip()[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(clip())}"
    kept = client.get(f"/images/{image.id}/file?download=true")
    assert kept.headers["content-disposition"] == f'attachment; filename="bottega-{image.id}.mp4"'
    assert client.get(f"/images/{image.id}/file", headers={"range": "bytes=999999999-"}).status_code == 416


@pytest.mark.parametrize(
    ("place", "kind", "size"),
    [
        ("thumb", "JPEG", (640, 400)), ("file?width=320", "JPEG", (640, 400)),
        ("anim=false/a.mp4", "JPEG", (640, 400)), ("original=true/a.jpeg", "JPEG", (640, 400)),
        ("anim=false,width=320/a.jpeg", "WEBP", (320, 200)), ("width=100/a.png", "WEBP", (100, 62)),
    ],
)  # fmt: skip
def test_a_picture_stands_for_it(
    client: TestClient, db: Session, place: str, kind: str, size: tuple[int, int]
) -> None:
    image = make_clip(db, make_user(db), width=640, height=400, visibility="public")
    found = client.get(f"/images/{image.id}/{place}")
    assert size_of(found.content) == (kind, size)
    assert found.headers["content-type"] == f"image/{kind.lower()}"


def test_another_width_of_a_clip_is_the_clip(client: TestClient, db: Session) -> None:
    image = make_clip(db, make_user(db), visibility="public")
    for variant in ("original=true", "width=32"):
        found = client.get(f"/images/{image.id}/{variant}/bottega.mp4")
        assert (found.headers["content-type"], found.content) == ("video/mp4", clip())


def test_what_it_tells_is_taken_out_and_no_frame_changes() -> None:
    plain = without_texts(clip())
    assert told_by(clip()) == TEXT
    assert told_by(plain) == ""
    assert b"Euler" not in plain
    assert len(plain) == len(clip())
    assert decoded(plain) == decoded(clip())


@pytest.mark.parametrize("cut", [7, 8, 12, 40, 300, 1000])
def test_a_damaged_clip_passes(cut: int) -> None:
    assert len(without_texts(clip()[:cut])) == cut
    endless = b"\0\0\0\x18ftypmp42" + b"\0" * 12 + (b"\0\0\0\x08moov" * 4) + b"\0\0\0\x01udta" + b"\xff" * 8
    assert len(without_texts(endless)) == len(endless)


def test_the_owner_decides_what_others_get(client: TestClient, db: Session, browser: Browser) -> None:
    user = make_user(db, preferences={"embed_data": False})
    image = make_clip(db, user, visibility="public")
    for place in (f"/images/{image.id}/file", f"/api/v1/images/{image.id}/file"):
        assert told_by(browser(user).get(place).content) == TEXT
        plain = client.get(place)
        assert (plain.headers["content-type"], told_by(plain.content)) == ("video/mp4", "")
        part = client.get(place, headers={"range": "bytes=4-7"})
        assert (part.status_code, part.content, part.headers["etag"]) == (206, b"ftyp", plain.headers["etag"])
        assert client.get(place, headers={"if-none-match": plain.headers["etag"]}).status_code == 304
        assert client.head(place).headers["content-length"] == str(len(clip()))


def test_its_json(client: TestClient, db: Session) -> None:
    image = make_clip(db, make_user(db), visibility="public")
    make_clip(db, make_user(db))
    (found,) = client.get("/api/v1/images", params={"type": "video"}).json()["items"]
    assert (found["id"], found["type"], found["frames"], found["fps"]) == (image.id, "video", FRAMES, FPS)
    assert found["duration"] == 1.125
    assert found["url"].endswith(f"/images/{image.id}/original=true/bottega-{image.id}.mp4")
    assert client.get(found["url"]).headers["content-type"] == "video/mp4"
    assert client.get(found["posterUrl"]).headers["content-type"] == "image/jpeg"
    assert client.get(found["thumbnailUrl"]).headers["content-type"] == "image/jpeg"
    assert client.get("/api/v1/images", params={"type": "image"}).json()["items"] == []


def test_shared_by_link_published_and_deleted(client: TestClient, db: Session, browser: Browser) -> None:
    user = make_user(db)
    image = make_clip(db, user)
    owner, place = browser(user), f"/api/v1/images/{image.id}"
    assert client.get(f"/images/{image.id}/anim=false/a.jpeg").status_code == 404
    link = owner.post(f"{place}/share").json()["url"]
    page = client.get(link)
    key = link.partition("?key=")[2]
    assert f'src="/images/{image.id}/file?key={key}"' in page.text
    assert f'poster="/images/{image.id}/anim=false/bottega-{image.id}.jpeg?key={key}"' in page.text
    assert client.get(f"/images/{image.id}/anim=false/a.jpeg?key={key}").status_code == 200
    assert owner.delete(f"{place}/share").status_code == 204
    assert client.get(f"/images/{image.id}/file?key={key}").status_code == 404
    assert owner.patch(place, json={"visibility": "public"}).json()["visibility"] == "public"
    assert f'data-clip="/images/{image.id}/file"' in client.get("/images?media=video").text
    assert f"/images/{image.id}" not in client.get("/images?media=image").text
    assert "Report this clip" in client.get(f"/report?kind=image&id={image.id}").text
    number = image.id
    assert owner.delete(place).status_code == 204
    assert client.get(f"/images/{number}").status_code == 404


def test_a_clip_is_a_models_cover(client: TestClient, db: Session) -> None:
    user = make_user(db)
    model = make_model(db, user, visibility="public")
    version = make_version(db, model, status="Published")
    file = make_file(db, version)
    add_picture(db, version, make_clip(db, user, visibility="public"), 0)
    db.refresh(version)
    page = client.get(f"/models/{model.id}", follow_redirects=True).text
    assert 'data-pswp-type="clip"' in page
    assert "data-clip=" in client.get("/models").text
    preview = client.get(f"/files/{file.id}/preview/a.preview.png")
    assert (preview.headers["content-type"], size_of(preview.content)) == (
        "image/jpeg",
        ("JPEG", (WIDTH, HEIGHT)),
    )
