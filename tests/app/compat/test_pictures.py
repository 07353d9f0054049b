"""A picture from elsewhere: its data is read and linked, its place and camera are forgotten."""

import io

from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo
from sqlalchemy.orm import Session

from app.core.blobs import blob_key
from app.core.storage import get_storage
from app.images.models import Image
from tests.app.conftest import Script
from tests.app.gallery.things import published
from tests.factories import make_user


def _png(text: str = "") -> bytes:
    out, chunks = io.BytesIO(), PngInfo()
    if text:
        chunks.add_text("parameters", text)
        chunks.add_text("gps", "43.7")
    Pillow.new("RGB", (96, 64), "olive").save(out, "PNG", pnginfo=chunks)
    return out.getvalue()


def test_data_is_read_and_resources_are_linked(db: Session, script: Script) -> None:
    version = published(db, make_user(db)).versions[0]
    autov3 = next(h.value for h in version.files[0].hashes if h.kind == "AutoV3").lower()
    text = (
        "tuscany, red house <lora:old:0.6>\nSteps: 20, Sampler: Euler a, CFG scale: 5, Seed: 9, Size: 96x64, "
        f'Lora hashes: "old: {autov3}"'
    )
    user = make_user(db)
    answer = script(user).post(
        "/api/v1/images", files={"file": ("a.png", _png(text), "image/png")}, data={"title": "Mine"}
    )
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert (body["width"], body["height"], body["visibility"], body["title"]) == (96, 64, "private", "Mine")
    assert body["modelVersionIds"] == [version.id]
    assert body["meta"]["sampler"] == "Euler a"
    image = db.get_one(Image, body["id"])
    assert [(r.name, r.weight) for r in image.resources] == [("Tuscany", 0.6)]
    with Pillow.open(io.BytesIO(get_storage().get(blob_key(image.blob_sha256)))) as kept:
        assert "gps" not in kept.info


def test_odd_bytes_in_the_data_cost_nothing(db: Session, script: Script) -> None:
    out, chunks = io.BytesIO(), PngInfo()
    chunks.add_itxt("parameters", "a cat\0, zebra\nSteps: 20, Sampler: Euler a, CFG scale: 5, Seed: 1")
    Pillow.new("RGB", (96, 64), "olive").save(out, "PNG", pnginfo=chunks)
    answer = script(make_user(db)).post("/api/v1/images", files={"file": ("a.png", out.getvalue())})
    assert answer.status_code == 201, answer.text
    assert answer.json()["meta"]["prompt"] == "a cat, zebra"


def test_what_is_no_picture_is_refused_in_words(db: Session, script: Script) -> None:
    user = script(make_user(db))
    answer = user.post("/api/v1/images", files={"file": ("a.png", b"<html>hello</html>", "image/png")})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("a.png is a web page")
    assert user.post("/api/v1/images", data={"title": "x"}).status_code == 422


def test_the_field_may_be_called_image_and_must_be_there(db: Session, script: Script) -> None:
    client = script(make_user(db))
    assert client.post("/api/v1/images", files={"image": ("a.png", _png())}).status_code == 201
    missing = client.post("/api/v1/images", data={"title": "x"})
    assert (missing.status_code, missing.json()["errors"][0]["pointer"]) == (422, "#/file")
