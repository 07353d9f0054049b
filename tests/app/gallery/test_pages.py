"""The pages that people see: gallery, model page, owner's forms, reports, pictures."""

from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.gallery import service
from app.gallery.models import Report
from app.gallery.shapes import model_path, slug
from app.images.models import ImageResource
from app.images.service import create_sample
from tests.app.conftest import Browser
from tests.app.gallery.things import published, trained
from tests.factories import make_blob, make_image, make_user


def test_empty_galleries_say_what_to_do(client: TestClient, db: Session, browser: Browser) -> None:
    assert "Train the first one" in client.get("/").text
    assert "Clear the filters" in client.get("/models?query=nothing").text
    assert "Generate a picture" in client.get("/images").text
    user = make_user(db)
    assert "You have no models yet" in browser(user).get(f"/models?username={user.username}").text
    assert "You have no pictures yet" in browser(user).get("/images?mine=true").text


def test_the_gallery_shows_what_is_public(client: TestClient, db: Session, browser: Browser) -> None:
    owner = make_user(db)
    shown = published(db, owner, name="Tuscany", tensors=b"1")
    hidden = trained(db, owner, name="Secret draft", tensors=b"2").model
    page = client.get("/").text
    assert model_path(shown) in page
    assert "Secret draft" not in page
    assert "Secret draft" not in browser(owner).get("/").text
    own = browser(owner).get(f"/models?username={owner.username}").text
    assert model_path(hidden) in own
    assert "Tuscany" not in client.get("/models?category=character").text
    assert "Tuscany" in client.get("/models?category=style&base=Starter+1&tag=italy&trained=true").text


def test_more_models_come_by_cursor(client: TestClient, db: Session) -> None:
    user = make_user(db)
    for n in range(31):
        published(db, user, tensors=f"{n}".encode(), name=f"Model {n}")
    page = client.get("/").text
    more = page.split('hx-get="')[1].split('"')[0].replace("&amp;", "&")
    rest = client.get(more, headers={"HX-Request": "true"}).text
    assert "<html" not in rest
    assert rest.count("<article") == 1


def test_more_pictures_come_by_cursor(client: TestClient, db: Session) -> None:
    user = make_user(db)
    for n in range(31):
        make_image(db, user, visibility="public", prompt=f"picture {n}")
    for n in range(12):
        make_image(db, user, visibility="public", prompt=f"late {n}")
    page = client.get("/images").text
    more = page.split('hx-get="')[1].split('"')[0].replace("&amp;", "&")
    answer = client.get(more, headers={"HX-Request": "true"})
    assert answer.status_code == 200, answer.text
    rest = answer.text
    assert "<html" not in rest
    assert rest.count("<figure") == 3
    assert "Load more" not in rest


def test_the_model_page(client: TestClient, db: Session) -> None:
    model = published(db, make_user(db, "lorenzo"), description="<script>alert(1)</script> *Stone*")
    version = model.versions[0]
    used = ImageResource(position=0, kind="lora", name="Tuscany", model_version_id=version.id, weight=0.8)
    made = make_image(db, make_user(db), visibility="public", resources=[used])
    page = client.get(model_path(model)).text
    autov3 = next(h.value for h in version.files[0].hashes if h.kind == "AutoV3")
    for words in ("Create with it", "Download · ", f'data-copy="{autov3}"', 'data-copy="tuscany"',
                  "<em>Stone</em>", "15 pictures · 600 steps · epoch 8 of 10",
                  f"/api/download/models/{version.id}",
                  f"/images/{made.id}", f"/report?kind=model&id={model.id}", "credit"):  # fmt: skip
        assert words in page, words
    assert "<script>alert" not in page
    assert "Unpublish" not in page


def test_addresses_lead_to_the_page(client: TestClient, db: Session) -> None:
    model = published(db, make_user(db), name="Тоскана & più")
    right = model_path(model)
    assert client.get(right).status_code == 200
    for path in (f"/models/{model.id}", f"/models/{model.id}/old-name"):
        assert client.get(path).headers["location"] == right
    version = model.versions[0].id
    assert client.get(f"/model-versions/{version}").headers["location"] == f"{right}?version={version}"
    assert slug("edit") != "edit"
    assert slug("!!!") == "model"


def test_an_unlisted_page_opens_with_its_key(client: TestClient, db: Session) -> None:
    owner = make_user(db)
    version = trained(db, owner)
    sample = create_sample(db, owner, blob=make_blob(db, b"png", "image/png"), prompt="p", width=8, height=8)
    service.add_picture(db, version, sample, 0)
    model = service.publish_version(db, owner, version, "unlisted")
    assert client.get(model_path(model)).status_code == 404
    page = client.get(model_path(model, with_key=True))
    assert page.status_code == 200
    assert f"/images/{sample.id}/file?key={sample.share_key}" in page.text
    assert client.get(f"/images/{sample.id}/file?key={sample.share_key}").status_code == 200


def test_the_owner_publishes_edits_and_deletes(db: Session, browser: Browser, client: TestClient) -> None:
    owner = make_user(db)
    model = trained(db, owner).model
    version = model.versions[0]
    own = browser(owner)
    page = own.get(model_path(model)).text
    assert "Only you see this page" in page
    assert own.post(f"/models/{model.id}/visibility", data={"visibility": "public"}).status_code == 303
    assert client.get(model_path(model)).status_code == 200
    form = {
        "name": "Toscana",
        "tags": "A, b,a",
        "rating": "2",
        "commercial": ["Image", "Sell"],
        "licence": "CC0",
    }
    answer = own.post(f"/models/{model.id}/edit", data=form)
    assert answer.headers["location"] == f"/models/{model.id}/toscana"
    db.refresh(model)
    assert (model.name, [t.tag for t in model.tags], model.rating) == ("Toscana", ["a", "b"], 2)
    assert (model.allow_commercial_use, model.allow_no_credit) == (["Image", "Sell"], False)
    assert own.post(f"/models/{model.id}/edit", data={**form, "rating": "3"}).status_code == 422
    own.post(
        f"/models/{model.id}/versions/{version.id}/edit",
        data={"name": "v2", "trained_words": "one, two", "strength": "0.6"},
    )
    db.refresh(version)
    assert (version.name, version.trained_words, version.strength) == ("v2", ["one", "two"], 0.6)
    assert "Delete the model" in own.get(f"/models/{model.id}/edit").text
    assert own.post(f"/models/{model.id}/delete").status_code == 303
    assert client.get(answer.headers["location"]).status_code == 404


def test_anybody_can_report_what_they_see(client: TestClient, db: Session) -> None:
    image = make_image(db, make_user(db), visibility="public")
    assert "You need no account" in client.get(f"/report?kind=image&id={image.id}").text
    form = {"kind": "image", "id": image.id, "reason": "rights", "detail": "It is mine."}
    assert "Thank you" in client.post("/report", data=form).text
    report = db.scalars(select(Report)).one()
    assert (report.kind, report.target_id, report.reason, report.status) == (
        "image",
        image.id,
        "rights",
        "open",
    )
    assert client.post("/report", data={**form, "reason": ""}).status_code == 422
    assert client.post("/report", data={**form, "reason": "a copy"}).status_code == 200
    own = db.scalars(select(Report).order_by(Report.id.desc())).first()
    assert own is not None
    assert (own.reason, own.detail) == ("other", "a copy: It is mine.")
    assert client.get("/report?kind=cat&id=1").status_code == 404


def test_the_picture_page(db: Session, browser: Browser, client: TestClient) -> None:
    owner = make_user(db)
    used = ImageResource(position=0, kind="lora", name="Tuscany", model_version_id=7, weight=0.8)
    image = make_image(
        db, owner, prompt="red house", infotext="red house\nSteps: 20", meta={"seed": 42}, resources=[used]
    )
    own = browser(owner)
    page = own.get(f"/images/{image.id}").text
    for words in (
        "Only you.",
        "Copy all",
        "/model-versions/7",
        f"/generate?image={image.id}",
        "42",
        "128 × 128",
    ):
        assert words in page, words
    own.post(f"/images/{image.id}/visibility", data={"visibility": "unlisted"})
    shared = own.get(f"/images/{image.id}").text.split('data-copy="http://testserver')[1].split('"')[0]
    stranger = client.get(shared)
    assert stranger.status_code == 200
    assert "Who can see it" not in stranger.text
    own.post(f"/images/{image.id}/visibility", data={"visibility": "private"})
    assert client.get(shared).status_code == 404
    own.post(f"/images/{image.id}/edit", data={"title": "House", "tags": "a,b", "rating": "1"})
    assert "House" in own.get(f"/images/{image.id}").text
    assert own.post(f"/images/{image.id}/delete").headers["location"] == "/images?mine=true"
