"""From a complete upload to its page: what the form offers, what becomes of it, what is refused in words."""

import io
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.db import utcnow
from app.core.hashing import hash_stream
from app.core.ids import new_id
from app.gallery import making
from app.gallery.models import Model, ModelVersion
from app.images.models import Image
from app.recognition import Recognised, recognise_file
from app.recognition.telling import suggested_name
from app.uploads.models import Upload
from tests.app.conftest import Browser, Script
from tests.app.gallery.test_recognised import FLUX, PICKLE, SD1, SDXL, UNKNOWN
from tests.app.gallery.things import published
from tests.app.recognition.listings import SD_LDM, VAE_LDM, ldm, under, whole
from tests.factories import make_blob, make_image, make_user

INPAINT = whole(
    under("model.diffusion_model.", ldm(dict.fromkeys(SD_LDM, 1), 768, channels=9))
    | {"cond_stage_model.transformer.text_model.x": [1]}
)


@pytest.fixture
def owner(db: Session) -> User:
    return make_user(db, "lorenzo")


@pytest.fixture
def page(owner: User, browser: Browser) -> TestClient:
    return browser(owner)


def an_upload(db: Session, user: User, content: bytes, name: str = "tuscan_gold.safetensors") -> str:
    blob = make_blob(db, content)
    upload = Upload(
        id=new_id("up"), state="complete", blob_sha256=blob.sha256, user_id=user.id, name=name,
        size=blob.size, part_size=blob.size, expires_at=utcnow(), hashes=dict(hash_stream([content])),
    )  # fmt: skip
    db.add(upload)
    db.flush()
    return upload.id


def seen(content: bytes) -> Recognised:
    return recognise_file(io.BytesIO(content), len(content))


def fields(upload: str, **more: Any) -> dict[str, Any]:
    return {
        "upload": upload, "name": "Tuscan gold", "type": "LORA", "base_model": "SD 1.5", "rating": "2",
        "version_name": "v1", "trained_words": "tuscany, gold", "strength": "0.7", "tags": "light",
        "derivatives": "true", "commercial": ["Image"], "description": "*Gold*", "publish": "private",
    } | more  # fmt: skip


def test_only_what_can_be_true_is_offered() -> None:
    assert making.type_choices(seen(SD1)) == ["LORA", "LoCon", "DoRA", "Other"]
    assert making.base_choices(seen(SD1)) == ["SD 1.5", "SD 1.4", "SD 1.5 LCM", "SD 1.5 Hyper"]
    assert "Pony" in making.base_choices(seen(SDXL))
    assert making.type_choices(seen(UNKNOWN))[0] == "Checkpoint"
    assert making.base_choices(seen(UNKNOWN))[-1] == "Other"
    assert making.base_choices(None).count("SD 3.5") == 1


@pytest.mark.parametrize(
    ("file", "name"),
    [("my_lora__v2.safetensors", "My lora v2"), ("folder.ZIP", "Folder"), ("ümlaut 1.0.sft", "Ümlaut 1.0")],
)
def test_a_name_is_made_of_the_file_name(file: str, name: str) -> None:
    assert suggested_name(file, None) == name
    titled = seen(whole({"w": [2]}, {"modelspec.title": "Evening light"}))
    assert suggested_name(file, titled) == "Evening light"


def test_the_form_is_filled_in_from_the_file(page: TestClient, db: Session, owner: User) -> None:
    html = page.get(f"/models/new?upload={an_upload(db, owner, SD1)}").text
    for words in ("This is a LoRA for SD 1.5", "Generates here", 'value="Tuscan gold"',
                  'value="tuscany, gold"',
                  "CreativeML OpenRAIL-M", "All that was recognised", "<dt>Rank</dt><dd>8</dd>"):  # fmt: skip
        assert words in html, words
    assert "SDXL" not in html


def test_a_page_is_made_and_stays_private(
    page: TestClient, db: Session, owner: User, client: TestClient
) -> None:
    upload = an_upload(db, owner, SD1)
    answer = page.post("/models/new", data=fields(upload))
    assert answer.status_code == 303, answer.text
    version = db.scalars(select(ModelVersion)).one()
    model = version.model
    assert answer.headers["location"] == f"/models/{model.id}/tuscan-gold?version={version.id}"
    assert (model.visibility, version.status, model.rating, version.strength) == ("private", "Draft", 2, 0.7)
    assert (model.allow_no_credit, model.allow_derivatives, model.allow_commercial_use) == (
        False,
        True,
        ["Image"],
    )
    assert (version.trained_words, version.family) == (["tuscany", "gold"], "sd1")
    assert db.get(Upload, upload) is None
    html = page.get(answer.headers["location"]).text
    assert "LoRA · rank 8 · fp16" in html
    assert client.get(answer.headers["location"]).status_code == 404


def test_a_page_can_be_published_at_once(
    page: TestClient, db: Session, owner: User, client: TestClient
) -> None:
    answer = page.post("/models/new", data=fields(an_upload(db, owner, SD1), publish="public"))
    assert client.get(answer.headers["location"]).status_code == 200


def test_mistakes_come_back_with_what_was_typed(page: TestClient, db: Session, owner: User) -> None:
    upload = an_upload(db, owner, SDXL)
    image = make_image(db, owner, origin="uploaded")
    sent = fields(upload, name="", base_model="SD 1.5", description="Long story", images=[str(image.id)])
    answer = page.post("/models/new", data=sent)
    assert answer.status_code == 422
    assert "is too short" in answer.text
    again = page.post("/models/new", data=sent | {"name": "x"})
    assert again.status_code == 422
    for words in ("it cannot be one for SD 1.5", "Long story", f'name="images" value="{image.id}"'):
        assert words in again.text, words
    assert db.scalars(select(Model)).all() == []
    assert page.post("/models/new", data=fields(upload, base_model="Pony")).status_code == 303


def test_what_cannot_be_used_says_so(page: TestClient, db: Session, owner: User) -> None:
    html = page.get(f"/models/new?upload={an_upload(db, owner, PICKLE)}").text
    assert "This file cannot be used" in html
    assert "never opened here" in html
    assert "Make the page" not in html
    assert page.post("/models/new", data=fields(an_upload(db, owner, PICKLE))).status_code == 422


def test_an_open_upload_goes_back_to_the_list(page: TestClient, db: Session, owner: User) -> None:
    upload = an_upload(db, owner, SD1)
    db.get_one(Upload, upload).state = "open"
    db.flush()
    assert page.get(f"/models/new?upload={upload}").headers["location"] == "/models/new"
    html = page.get("/models/new").text
    assert "tuscan_gold.safetensors" in html
    answer = page.post(f"/models/new/uploads/{upload}/delete")
    assert answer.headers["location"] == "/models/new"
    assert "tuscan_gold" not in page.get("/models/new").text


def test_the_same_file_twice_is_mentioned(page: TestClient, db: Session, owner: User) -> None:
    page.post("/models/new", data=fields(an_upload(db, owner, SD1)))
    html = page.get(f"/models/new?upload={an_upload(db, owner, SD1)}").text
    assert "is on a page already" in html
    assert "Tuscan gold" in html


def test_a_further_version_of_ones_own_page(
    page: TestClient, db: Session, owner: User, browser: Browser
) -> None:
    model = published(db, owner)
    url = f"/models/{model.id}/versions/new"
    assert f"/models/{model.id}/versions/new" in page.get(f"/models/{model.id}/tuscany").text
    upload = an_upload(db, owner, SD1)
    html = page.get(f"{url}?upload={upload}").text
    assert 'value="v2"' in html
    assert 'name="description"' not in html
    sent = {
        "upload": upload,
        "version_name": "v2",
        "base_model": "SD 1.5",
        "about": "Softer",
        "publish": "public",
    }
    assert page.post(url, data=sent).status_code == 303
    assert [v.name for v in model.versions] == ["v2", "v1"]
    assert model.versions[0].status == "Published"
    other = browser(make_user(db))
    assert other.get(url).status_code == 404 or model.visibility == "public"
    assert other.post(url, data=sent).status_code in (403, 404)


@pytest.mark.parametrize(
    ("content", "type", "title", "why"),
    [
        (FLUX, "LORA", "Cannot generate here yet", "Flux.1"),
        (INPAINT, "Checkpoint", "Cannot train or generate here yet", "made for inpainting"),
        (UNKNOWN, "LORA", "Not known here", "does not know this model"),
        (
            whole(under("first_stage_model.", VAE_LDM)),
            "VAE",
            "Usable here",
            "as the VAE of checkpoints for SD 1.5",
        ),
    ],
)
def test_the_page_says_what_cannot_be_done(
    page: TestClient, db: Session, owner: User, content: bytes, type: str, title: str, why: str
) -> None:
    base = seen(content).base_model or "SD 1.5"
    sent = fields(an_upload(db, owner, content), type=type, base_model=base, publish="public")
    html = page.get(page.post("/models/new", data=sent).headers["location"]).text
    assert title in html
    assert why in html


def a_png(text: str = "") -> bytes:
    info, out = PngInfo(), io.BytesIO()
    info.add_text("parameters", text)
    Pillow.new("RGB", (80, 96), (180, 120, 60)).save(out, "PNG", pnginfo=info)
    return out.getvalue()


def test_covers_follow_the_page_and_link_their_models(
    page: TestClient, db: Session, owner: User, script: Script, client: TestClient
) -> None:
    autov2 = hash_stream([SD1])["AutoV2"].lower()
    text = f'tower <lora:gold:0.8>\nSteps: 20, Sampler: Euler a, Seed: 7, Lora hashes: "gold: {autov2}"'
    api = script(owner)
    made = api.post("/api/v1/images", files={"file": ("a.png", a_png(text))}).json()
    answer = page.post("/models/new", data=fields(an_upload(db, owner, SD1), images=[str(made["id"])]))
    version = db.scalars(select(ModelVersion)).one()
    image = db.get_one(Image, made["id"])
    assert (image.origin, image.visibility, image.rating, image.prompt[:5]) == ("page", "private", 2, "tower")
    assert [r.model_version_id for r in image.resources] == [version.id]
    assert client.get(f"/images/{image.id}/file").status_code == 404
    page.post(f"/models/{version.model_id}/visibility", data={"visibility": "public"})
    assert client.get(f"/images/{image.id}/file").status_code == 200
    assert f"/images/{image.id}/file" in client.get(answer.headers["location"]).text


def test_covers_can_be_added_later(page: TestClient, db: Session, owner: User, script: Script) -> None:
    page.post("/models/new", data=fields(an_upload(db, owner, SD1)))
    version = db.scalars(select(ModelVersion)).one()
    url = f"/models/{version.model_id}/versions/{version.id}/pictures"
    sent = [
        ("files", ("a.png", a_png())),
        ("files", ("b.png", a_png("hill\nSteps: 4, Sampler: Euler a, Seed: 1"))),
    ]
    assert page.post(url, files=sent).status_code == 303
    assert page.post(url, files=[("files", ("c.png", b"no picture"))]).status_code == 422
    image = make_image(db, owner)
    api = script(owner)
    added = api.post(f"/api/v1/model-versions/{version.id}/pictures", json={"images": [image.id, image.id]})
    assert added.status_code == 201
    assert [p.position for p in version.pictures] == [0, 1, 2]
    assert (version.pictures[1].image.prompt, version.pictures[2].image_id) == ("hill", image.id)
    foreign = make_image(db, make_user(db), visibility="public")
    refused = api.post(f"/api/v1/model-versions/{version.id}/pictures", json={"images": [foreign.id]})
    assert refused.status_code == 403
    many = [make_image(db, owner).id for _ in range(18)]
    refused = api.post(f"/api/v1/model-versions/{version.id}/pictures", json={"images": many})
    assert (refused.status_code, refused.json()["code"]) == (422, "too-many-pictures")


def test_a_file_from_a_browser_without_scripts(page: TestClient, db: Session, owner: User) -> None:
    answer = page.post("/models/new/file", files={"file": ("tuscan_gold.safetensors", SD1)})
    assert "?upload=up_" in answer.headers["location"]
    assert "This is a LoRA for SD 1.5" in page.get(answer.headers["location"]).text
    for name, content, words in (("model.ckpt", b"x", "pickle"), ("a.safetensors", b"", "empty")):
        refused = page.post("/models/new/file", files={"file": (name, content)})
        assert refused.status_code == 422
        assert words in refused.text
    owner.quota_bytes = 10
    db.flush()
    refused = page.post("/models/new/file", files={"file": ("b.safetensors", SDXL)})
    assert "too little room" in refused.text
