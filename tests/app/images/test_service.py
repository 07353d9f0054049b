"""Pictures: made by jobs, shared by key, published, deleted with their bytes, never seen by strangers."""

import io

import pytest
from fastapi.testclient import TestClient
from PIL import Image as Pillow
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.blobs import Blob, blob_key
from app.core.errors import Forbidden, Invalid, NotFound
from app.core.storage import get_storage
from app.images import service
from app.images.models import Image
from app.images.queries import ImageFilters, list_images, neighbours
from app.images.schemas import ImagePatch
from tests.app.conftest import Browser, Script
from tests.factories import make_admin, make_blob, make_image, make_job, make_user

RESOURCES = [
    {"kind": "checkpoint", "name": "Starter 1", "model_version_id": 1, "weight": None, "hash": "0123456789"},
    {"kind": "lora", "name": "Tuscany", "model_version_id": None, "weight": 0.8, "hash": "abc"},
]


def png(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Pillow.new("RGB", (width, height), "olive").save(out, "PNG")
    return out.getvalue()


def generated(db: Session, **fields: object) -> Image:
    job = make_job(db, make_user(db), type="generation", queue="generate")
    values = {"index": 0, "width": 128, "height": 128, "prompt": "a house", "infotext": "a house\nSteps: 20",
              "blob": make_blob(db, png(8, 8), "image/png"), "resources": RESOURCES}  # fmt: skip
    return service.create_generated(db, job, **values | fields)


def test_a_generated_picture_is_private_and_made_once(db: Session) -> None:
    job = make_job(db, make_user(db))
    blob = make_blob(db, png(8, 8), "image/png")
    values = {"width": 8, "height": 8, "prompt": "p", "infotext": "p", "resources": RESOURCES}
    first = service.create_generated(db, job, blob=blob, index=1, **values)
    again = service.create_generated(db, job, blob=blob, index=1, **values)
    assert first is again
    assert first.visibility == "private"
    assert first.origin == "generated"
    assert [(r.kind, r.weight) for r in first.resources] == [("checkpoint", None), ("lora", 0.8)]
    assert first.thumb_sha256 == blob.sha256


def test_a_wide_picture_gets_a_small_one(db: Session) -> None:
    image = generated(db, blob=make_blob(db, png(900, 600), "image/png"), width=900, height=600)
    assert image.thumb_sha256
    assert image.thumb_sha256 != image.blob_sha256
    with Pillow.open(io.BytesIO(get_storage().get(blob_key(image.thumb_sha256)))) as thumb:
        assert (thumb.size, thumb.format) == ((450, 300), "WEBP")


def test_sharing_by_key_and_taking_it_back(db: Session) -> None:
    image = generated(db)
    owner = db.get_one(User, image.user_id)
    with pytest.raises(NotFound):
        service.get_image(db, None, image.id, key="guess")
    key = service.share_image(db, owner, image.id).share_key
    assert service.get_image(db, None, image.id, key=key) is image
    with pytest.raises(NotFound):
        service.get_image(db, None, image.id)
    service.unshare_image(db, owner, image.id)
    with pytest.raises(NotFound):
        service.get_image(db, None, image.id, key=key)
    with pytest.raises(NotFound):
        service.share_image(db, make_user(db), image.id)


def test_only_the_owner_changes_a_public_picture(db: Session) -> None:
    image = make_image(db, make_user(db), visibility="public")
    for user in (make_user(db), make_admin(db)):
        with pytest.raises(Forbidden):
            service.set_image(db, user, image.id, ImagePatch(title="mine"))
        with pytest.raises(Forbidden):
            service.delete_image(db, user, image.id)


def test_deleting_frees_picture_and_thumbnail(db: Session) -> None:
    image = generated(db, blob=make_blob(db, png(900, 600), "image/png"), width=900, height=600)
    shas = [image.blob_sha256, image.thumb_sha256]
    service.delete_image(db, db.get_one(User, image.user_id), image.id)
    assert db.scalar(select(func.count()).select_from(Blob).where(Blob.sha256.in_(shas))) == 0
    db.commit()
    assert [get_storage().size(blob_key(str(sha))) for sha in shas] == [None, None]


def test_a_picture_from_elsewhere_is_read_and_linked(db: Session) -> None:
    user = make_user(db)
    text = (
        "red house <lora:tuscany:0.7>\nNegative prompt: blurry\nSteps: 20, Sampler: DPM++ 2M, "
        "Schedule type: Karras, "
        "CFG scale: 5, Seed: 7, Size: 128x128, "
        'Model hash: 0123456789, Model: Starter, Lora hashes: "tuscany: aabbccddeeff"'
    )
    asked: list[str] = []

    def link(digits: str, name: str) -> tuple[int | None, str]:
        asked.append(digits)
        return (42, "Tuscany") if digits == "aabbccddeeff" else (None, name)

    blob = make_blob(db, png(8, 8), "image/png")
    image = service.create_uploaded(db, user, blob, width=8, height=8, infotext=text, link=link)
    assert asked == ["0123456789", "aabbccddeeff"]
    assert image.origin == "uploaded"
    assert [(r.kind, r.name, r.model_version_id, r.weight) for r in image.resources] == [
        ("checkpoint", "Starter", None, None), ("lora", "Tuscany", 42, 0.7),
    ]  # fmt: skip
    assert image.meta["sampler"] == "DPM++ 2M Karras"
    assert image.meta["seed"] == 7
    assert image.negative_prompt == "blurry"


def test_the_own_history_of_a_week_needs_no_public_picture(db: Session) -> None:
    user = make_user(db)
    mine = [make_image(db, user), make_image(db, user)]
    week = ImageFilters(mine=True, period="Week")
    assert [i.id for i in list_images(db, user, week, oldest_first=True).items] == [i.id for i in mine]
    everybody = ImageFilters(period="Week")
    assert list_images(db, None, everybody, oldest_first=True).items == []
    mine[1].visibility = "public"
    db.flush()
    assert [i.id for i in list_images(db, None, everybody, oldest_first=True).items] == [mine[1].id]


def test_lists_show_public_pictures_and_the_own_history(db: Session) -> None:
    user, other = make_user(db), make_user(db)
    public = make_image(db, user, visibility="public", prompt="red house")
    adult = make_image(db, user, visibility="public", rating=8)
    private = make_image(db, user)
    make_image(db, user, origin="page")
    make_image(db, other)
    assert [i.id for i in list_images(db, None, ImageFilters()).items] == [public.id]
    assert [i.id for i in list_images(db, None, ImageFilters(level=31)).items] == [adult.id, public.id]
    mine = list_images(db, user, ImageFilters(mine=True)).items
    assert [i.id for i in mine] == [private.id, adult.id, public.id]
    assert [i.id for i in list_images(db, user, ImageFilters(query="RED")).items] == [public.id]
    assert neighbours(db, user, adult, ImageFilters(mine=True)) == (private.id, public.id)
    assert neighbours(db, user, private, ImageFilters(mine=True)) == (None, adult.id)
    first = list_images(db, user, ImageFilters(mine=True), limit=2)
    rest = list_images(db, user, ImageFilters(mine=True), limit=2, cursor=first.next_cursor)
    assert [i.id for i in rest.items] == [public.id]
    assert rest.next_cursor is None
    with pytest.raises(Invalid):
        list_images(db, user, ImageFilters(), cursor="nonsense")


def test_rest_of_a_picture(client: TestClient, db: Session, script: Script) -> None:
    user = make_user(db)
    image = make_image(db, user)
    owner = script(user, "publish", "generate", "read")
    path = f"/api/v1/images/{image.id}"
    assert owner.patch(path, json={"rating": 3}).status_code == 422
    assert owner.patch(path, json={"colour": "red"}).json()["errors"][0]["pointer"] == "#/colour"
    shared = owner.post(f"{path}/share").json()["url"]
    assert client.get(shared.removeprefix("http://testserver")).status_code == 200
    key = shared.split("key=")[1]
    assert client.get(f"{path}/file?key={key}").status_code == 200
    assert owner.delete(f"{path}/share").status_code == 204
    assert client.get(f"{path}/file?key={key}").status_code == 404
    changed = owner.patch(path, json={"visibility": "public", "tags": ["A", " a "], "title": "House"}).json()
    assert (changed["visibility"], changed["tags"], changed["title"]) == ("public", ["a"], "House")
    shown = client.get(path).json()
    assert shown["id"] == image.id
    assert "infotext" not in shown
    assert owner.delete(path).status_code == 204
    assert client.get(path).status_code == 404


def test_bytes_of_a_picture(client: TestClient, db: Session, browser: Browser) -> None:
    image = generated(db, blob=make_blob(db, png(900, 600), "image/png"), width=900, height=600)
    owner = browser(db.get_one(User, image.user_id))
    path = f"/images/{image.id}"
    for name in ("file", "file.png", "thumb"):
        assert client.get(f"{path}/{name}").status_code == 404
        answer = owner.get(f"{path}/{name}")
        assert answer.status_code == 200
        assert answer.headers["content-disposition"].startswith("inline")
        assert "private" in answer.headers["cache-control"]
        again = owner.get(f"{path}/{name}", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    assert owner.get(f"{path}/thumb").headers["content-type"] == "image/webp"
    assert owner.get(f"{path}/file?width=320").headers["content-type"] == "image/webp"
    assert owner.get(f"{path}/file?download=true").headers["content-disposition"].startswith("attachment")
