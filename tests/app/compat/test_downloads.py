"""Downloads as Civitai's clients make them, and pictures in the width that they write into an address."""

import io
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi.testclient import TestClient
from PIL import Image as Pillow
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.config import get_settings
from app.gallery import service
from app.gallery.models import ModelFile, ModelVersion
from app.gallery.shapes import model_path
from app.images.service import create_sample
from tests.app.conftest import Browser, Script
from tests.app.gallery.things import published
from tests.factories import make_blob, make_image, make_user


@pytest.fixture
def version(db: Session) -> ModelVersion:
    """One with a full and a pruned file of the same type, a VAE, and one that says nothing of itself."""
    found = published(db, make_user(db, "lorenzo")).versions[0]
    first = found.files[0]
    first.precision, first.fp = "full", "fp32"
    rows = (
        ("half.safetensors", "Model", "SafeTensor", "pruned", "fp16"),
        ("half.ckpt", "Model", "PickleTensor", "pruned", "fp16"),
        ("vae ü.safetensors", "VAE", "SafeTensor", None, None),
    )
    for name, kind, form, size, fp in rows:
        blob = make_blob(db, name.encode())
        found.files.append(
            ModelFile(
                blob_sha256=blob.sha256,
                size=blob.size,
                name=name,
                type=kind,
                format=form,
                precision=size,
                fp=fp,
                is_primary=False,
            )
        )
    db.flush()
    return found


CHOICES = {
    "": "tuscany.safetensors", "type=Model": "tuscany.safetensors",
    "format=SafeTensor": "tuscany.safetensors",
    "size=pruned": "half.safetensors", "type=Model&format=SafeTensor&size=pruned&fp=fp16": "half.safetensors",
    "format=PickleTensor": "half.ckpt", "type=VAE": "vae ü.safetensors",
    "type=VAE&fp=fp16": "vae ü.safetensors",
    "fp=fp32": "tuscany.safetensors", "whatever=1": "tuscany.safetensors",
    "type=VAE&format=PickleTensor": None, "type=Config": None, "fp=nf4&type=Model": None,
    "size=full&format=PickleTensor": None,
}  # fmt: skip


def test_which_file_a_query_means(client: TestClient, version: ModelVersion) -> None:
    for query, wanted in CHOICES.items():
        answer = client.get(f"/api/download/models/{version.id}?{query}")
        if wanted is None:
            assert (answer.status_code, answer.json()) == (404, {"error": "File not found"}), query
            continue
        assert answer.status_code == 307, query
        place = urlsplit(answer.headers["location"])
        named = parse_qs(place.query)["response-content-disposition"]
        assert named == [f'attachment; filename="{wanted}"'], query
        whole = client.get(answer.headers["location"])
        assert whole.status_code == 200
        assert int(whole.headers["content-length"]) == len(whole.content)
        told = whole.headers["content-disposition"].split("filename=")[-1].strip('"')  # so does civitdl
        assert told == wanted.replace("ü", "_")
    vae = version.files[3]
    by_number = client.get(f"/api/download/models/{version.id}?fileId={vae.id}&type=Model&size=full")
    assert f"/files/{vae.id}/" in by_number.headers["location"]
    assert client.get(f"/api/download/models/{version.id}?fileId=999999").status_code == 404


def test_every_address_that_is_given_out_leads_to_its_file(client: TestClient, version: ModelVersion) -> None:
    shown = client.get(f"/api/v1/model-versions/{version.id}").json()
    for file in shown["files"]:
        place = client.get(file["downloadUrl"]).headers["location"]
        assert f"/files/{file['id']}/" in place, file["name"]
    head = client.head(shown["downloadUrl"])
    assert (head.status_code, head.content) == (307, b"")
    assert head.headers["cache-control"] == "no-store, max-age=0"
    assert client.head(head.headers["location"]).headers["content-length"] == str(version.files[0].size)


def test_archived(
    client: TestClient, db: Session, script: Script, browser: Browser, version: ModelVersion
) -> None:
    model = version.model
    owner = script(db.get_one(User, model.user_id))
    path = f"/api/v1/models/{model.id}"
    assert owner.patch(path, json={"archived": True}).status_code == 200
    refused = client.get(f"/api/download/models/{version.id}")
    words = "Model archived, not available for download"
    assert (refused.status_code, refused.json()) == (410, {"error": words})
    assert client.get(f"/files/{version.files[0].id}/x").status_code == 410
    shown = client.get(path).json()
    assert shown["mode"] == "Archived"
    assert not {"files", "downloadUrl"} & set(shown["modelVersions"][0])
    alone = client.get(f"/api/v1/model-versions/{version.id}").json()
    assert (alone["files"], alone["model"]["mode"]) == ([], "Archived")
    assert client.get(f"/api/v1/model-versions/mini/{version.id}").json() == {"error": "Missing model file"}
    assert owner.get(f"/api/download/models/{version.id}").status_code == 307
    assert "Its files are no longer given out" in client.get(model_path(model)).text
    assert "/api/download/" not in client.get(model_path(model)).text
    assert "/api/download/" in browser(db.get_one(User, model.user_id)).get(model_path(model)).text
    assert owner.patch(path, json={"archived": False}).status_code == 200
    assert client.get(f"/api/download/models/{version.id}").status_code == 307
    assert "mode" not in client.get(path).json()


def test_only_for_people_who_are_logged_in(
    client: TestClient, db: Session, script: Script, version: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_settings().auth, "anonymous_downloads", False)
    path = f"/api/download/models/{version.id}"
    refused = client.get(path)
    assert (refused.status_code, refused.json()["error"]) == (401, "Unauthorized")
    assert "Log in" in refused.json()["message"]
    assert client.get(f"/files/{version.files[0].id}/x").status_code in (303, 401)
    person = client.get(path, headers={"Accept": "text/html,application/xhtml+xml"})
    assert person.status_code == 303
    asked = parse_qs(urlsplit(person.headers["location"]).query)
    assert (asked["reason"], asked["next"]) == (["download-auth"], [f"{path}?"])
    secret = script(make_user(db), "read").headers["Authorization"].split()[1]
    place = client.get(f"{path}?token={secret}").headers["location"]
    assert client.get(place).status_code == 200
    assert client.get(f"/api/v1/model-versions/mini/{version.id}").json()["requireAuth"] is True


def test_a_browser_is_told_in_words(client: TestClient) -> None:
    answer = client.get("/api/download/models/999", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.text) == (404, "File not found")


def test_a_token_that_may_not_read_is_refused(db: Session, script: Script, version: ModelVersion) -> None:
    answer = script(make_user(db), "generate").get(f"/api/download/models/{version.id}")
    assert (answer.status_code, answer.json()["error"]) == (403, "insufficient_scope")
    assert "read" in answer.json()["error_description"]


def _picture(width: int = 640, height: int = 400) -> bytes:
    out = io.BytesIO()
    Pillow.new("RGB", (width, height), "olive").save(out, "PNG")
    return out.getvalue()


WIDTHS = {
    "original=true": 640, "width=450": 450, "width=320": 320, "width=64,anim=false,optimized=true": 64,
    "width=5000": 640, "width=0": 640, "width=x": 640, "height=100": 160, "width=450,original=true": 450,
    "anim=false": 640,
}  # fmt: skip


def test_a_picture_in_the_width_that_its_address_says(
    client: TestClient, db: Session, version: ModelVersion
) -> None:
    owner = db.get_one(User, version.model.user_id)
    blob = make_blob(db, _picture(), "image/png")
    sample = create_sample(db, owner, blob=blob, prompt="p", width=640, height=400)
    service.add_picture(db, version, sample, 0)
    shown = client.get(f"/api/v1/model-versions/{version.id}").json()["images"][0]["url"]
    assert "/original=true/" in shown
    for words, width in WIDTHS.items():
        answer = client.get(shown.replace("original=true", words))
        assert answer.status_code == 200, words
        with Pillow.open(io.BytesIO(answer.content)) as picture:
            assert picture.width == width, words
        head = client.head(shown.replace("original=true", words))
        assert (head.headers["content-length"], head.content) == (str(len(answer.content)), b"")
        tag = {"If-None-Match": answer.headers["etag"]}
        assert client.get(shown.replace("original=true", words), headers=tag).status_code == 304
    assert client.get(shown).content == _picture()


def test_a_link_shows_an_unlisted_picture_in_any_width(
    client: TestClient, db: Session, script: Script
) -> None:
    user = make_user(db)
    blob = make_blob(db, _picture(), "image/png")
    facts = {"blob_sha256": blob.sha256, "width": 640, "height": 400}
    image = make_image(db, user, visibility="unlisted", share_key="a-key", **facts)
    address = script(user, "read").get(f"/api/v1/images/{image.id}").json()["url"]
    assert client.get(address.replace("original=true", "width=100")).status_code == 200
    assert client.get(address.split("?")[0]).status_code == 404
