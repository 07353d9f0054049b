"""Clips that somebody brings: normalised in the decoder's process, read first, refused in words."""

import io
from typing import Any

import av
import numpy as np
import pytest
from sqlalchemy.orm import Session

from app.core.blobs import Blob
from app.core.storage import get_storage
from app.gallery.models import VersionPicture
from app.images.models import Image
from tests.app.conftest import Browser, Script
from tests.app.images.clips import TEXT, clip, size_of, told_by
from tests.factories import make_model, make_user, make_version


def film(form: str, codec: str, frames: int = 6) -> bytes:
    """A film as other programs write it."""
    out = io.BytesIO()
    with av.open(out, "w", format=form) as movie:
        stream: Any = movie.add_stream(codec, rate=6)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "rgb8" if codec == "gif" else "yuv420p"
        for number in range(frames):
            shade = np.full((64, 96, 3), 40 * number, np.uint8)
            movie.mux(stream.encode(av.VideoFrame.from_ndarray(shade, format="rgb24")))
        movie.mux(stream.encode(None))
    return out.getvalue()


def stored(db: Session, sha256: str | None) -> bytes:
    return get_storage().get(db.get_one(Blob, sha256).key)


def test_an_mp4_with_generation_data(db: Session, script: Script) -> None:
    answer = script(make_user(db)).post("/api/v1/images", files={"file": ("boat.png", clip())})
    assert answer.status_code == 201, answer.text
    image = db.get_one(Image, answer.json()["id"])
    assert (image.media_type, image.frames, image.fps, image.origin) == ("video/mp4", 9, 8, "uploaded")
    assert (image.width, image.height, image.prompt) == (96, 64, "a boat sails left")
    assert (image.meta["frames"], image.meta["fps"], image.meta["seed"]) == (9, 8, 3)
    kept = stored(db, image.blob_sha256)
    assert told_by(kept) == ""
    assert size_of(stored(db, image.poster_sha256)) == ("JPEG", (96, 64))
    assert (answer.json()["type"], answer.json()["visibility"]) == ("video", "private")


@pytest.mark.parametrize(("form", "codec"), [("webm", "libvpx"), ("gif", "gif")])
def test_other_films_become_mp4(db: Session, script: Script, form: str, codec: str) -> None:
    answer = script(make_user(db)).post("/api/v1/images", files={"file": ("a.bin", film(form, codec))})
    assert answer.status_code == 201, answer.text
    image = db.get_one(Image, answer.json()["id"])
    assert (image.media_type, image.frames) == ("video/mp4", 6)
    with av.open(io.BytesIO(stored(db, image.blob_sha256))) as movie:
        assert movie.streams.video[0].codec_context.name == "h264"


def test_one_frame_is_a_picture(db: Session, script: Script) -> None:
    answer = script(make_user(db)).post("/api/v1/images", files={"file": ("a.gif", film("gif", "gif", 1))})
    image = db.get_one(Image, answer.json()["id"])
    assert (image.media_type, image.is_clip, image.frames, image.poster_sha256) == (
        "image/png",
        False,
        1,
        None,
    )


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("cut.mp4", clip()[: len(clip()) // 2], "clip-truncated"),
        ("empty.mp4", b"", "empty-file"),
        ("lie.mp4", b"\0\0\0\x18ftypmp42" + b"\0" * 400, "clip-unreadable"),
    ],
)
def test_what_is_no_clip(db: Session, script: Script, name: str, content: bytes, code: str) -> None:
    answer = script(make_user(db)).post("/api/v1/images", files={"file": (name, content)})
    assert answer.status_code == 422
    assert (answer.json()["code"], answer.json()["detail"].split()[0]) == (code, name)


def test_a_clip_on_a_page(db: Session, browser: Browser, script: Script) -> None:
    user = make_user(db)
    version = make_version(db, make_model(db, user, visibility="public"), status="Published")
    address = f"/models/{version.model_id}/versions/{version.id}/pictures"
    sent = [("files", ("boat.mp4", clip())), ("files", ("boat.gif", film("gif", "gif")))]
    assert browser(user).post(address, files=sent).status_code == 303
    db.expire_all()
    shown = [row.image for row in db.query(VersionPicture).filter_by(version_id=version.id)]
    assert [image.media_type for image in shown] == ["video/mp4", "video/mp4"]
    (first, _) = script(make_user(db)).get(f"/api/v1/model-versions/{version.id}").json()["images"]
    assert (first["type"], first["metadata"]["duration"]) == ("video", 1.125)
    assert first["url"].endswith(".mp4")


def test_a_dropped_clip_fills_the_form(db: Session, browser: Browser) -> None:
    from tests.app.generation.test_clips import video_base

    user = make_user(db)
    base = video_base(db, user)
    page = browser(user).post(
        "/generate/read", files={"file": ("a.mp4", clip())}, data={"base": str(base.id)}
    )
    assert "Filled from" in page.text
    assert '<option value="9" selected>1.1 s' in page.text
    assert TEXT.splitlines()[0] in page.text
    refused = browser(user).post("/generate/read", files={"file": ("a.mp4", clip(""))})
    assert "There is no generation data in it" in refused.text
    nothing = browser(user).post("/generate/read", files={"file": ("a.webm", film("webm", "libvpx"))})
    assert "There is no generation data in it" in nothing.text
    start = browser(user).post("/generate/pictures", files={"file": ("a.mp4", clip())})
    assert (start.status_code, "a.mp4 is a clip, and a picture is wanted here" in start.text) == (422, True)
