"""Files that do not tell how they were made: by the owner's setting for others, by choice for the owner."""

import io
import zlib

from fastapi.testclient import TestClient
from PIL import Image as Pillow
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.images.plain import without_texts
from tests.app.conftest import Browser
from tests.factories import make_blob, make_image, make_user
from tests.worker.inference.metadata.pictures import SIGNATURE, chunk, png, raw_png
from worker.inference.metadata.reading import read_picture

TEXT = "a heron\nSteps: 9, Sampler: Euler, Seed: 3"


def tells(content: bytes) -> bool:
    with Pillow.open(io.BytesIO(content)) as picture:
        picture.load()
        assert picture.size == (64, 64)
        return read_picture(picture) is not None


def test_only_what_tells_is_taken_out() -> None:
    chunks = [
        chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"x")),
        chunk(b"eXIf", b"II*\0"),
        chunk(b"tIME", b"1234567"),
    ]
    assert without_texts(raw_png(*chunks)) == png()
    assert without_texts(png(parameters=TEXT, workflow="{}")) == png()
    assert without_texts(png() + b"after the end") == png()


def test_other_files_and_damaged_ones_pass() -> None:
    assert without_texts(b"RIFF") == b"RIFF"
    for damaged in (SIGNATURE, SIGNATURE + b"\xff" * 30, png()[:-20]):
        assert without_texts(damaged) == damaged


def test_the_owner_decides_what_others_get(client: TestClient, db: Session, browser: Browser) -> None:
    user = make_user(db)
    blob = make_blob(db, png(parameters=TEXT), "image/png")
    image = make_image(
        db, user, visibility="public", blob_sha256=blob.sha256, thumb_sha256=blob.sha256, infotext=TEXT
    )
    owner, other = browser(user), browser(make_user(db))
    places = [f"/images/{image.id}/file", f"/images/{image.id}/file.png", f"/images/{image.id}/thumb",
              f"/images/{image.id}/file?width=200", f"/api/v1/images/{image.id}/file"]  # fmt: skip
    assert all(tells(who.get(place).content) for who in (client, other, owner) for place in places)
    assert owner.post("/settings/pictures").headers["location"] == "/settings?done=pictures"
    assert db.get_one(User, user.id).preferences["embed_data"] is False
    for place in places:
        assert tells(owner.get(place).content), place
        assert not tells(other.get(place).content), place
        assert not tells(client.get(place).content), place
    assert "checked" not in owner.get("/settings").text.split('name="embed_data"')[1].split(">")[0]
    owner.post("/settings/pictures", data={"embed_data": "on"})
    assert tells(other.get(places[0]).content)


def test_a_plain_download(db: Session, browser: Browser) -> None:
    user = make_user(db)
    blob = make_blob(db, png(parameters=TEXT), "image/png")
    image = make_image(db, user, blob_sha256=blob.sha256, infotext=TEXT)
    owner = browser(user)
    assert "data=false" in owner.get(f"/images/{image.id}").text
    path = f"/images/{image.id}/file?download=true&data=false"
    answer = owner.get(path)
    assert not tells(answer.content)
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["cache-control"] == "private, no-cache"
    head = owner.head(path)
    assert (head.content, head.headers["content-length"]) == (b"", str(len(answer.content)))
    assert owner.get(path, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    assert answer.headers["etag"] != owner.get(f"/images/{image.id}/file").headers["etag"]
