"""Writing models by REST: keys, tags of state, names of fields."""

from sqlalchemy.orm import Session

from tests.app.conftest import Script
from tests.app.gallery.things import published
from tests.factories import make_image, make_user

MODELS = "/api/v1/models"


def test_the_same_key_makes_one_model_and_one_version(db: Session, script: Script) -> None:
    client, headers = script(make_user(db)), {"Idempotency-Key": "once"}
    body = {"name": "Tuscany", "type": "LORA"}
    first, again = (client.post(MODELS, json=body, headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["id"] == again.json()["id"]
    assert again.headers["idempotency-replayed"] == "true"
    assert first.headers["location"] == f"{MODELS}/{first.json()['id']}"
    path = f"{first.headers['location']}/versions"
    version = {"name": "v1", "base_model": "Starter 1"}
    made = {client.post(path, json=version, headers=headers).json()["id"] for _ in range(2)}
    assert len(made) == 1
    assert client.post(MODELS, json=body | {"name": "Else"}, headers=headers).status_code == 422


def test_a_change_that_did_not_see_another_one_is_refused(db: Session, script: Script) -> None:
    owner = make_user(db)
    client, path = script(owner), f"{MODELS}/{published(db, owner).id}"
    seen = client.get(path).headers["etag"]
    changed = client.patch(path, json={"name": "One"}, headers={"If-Match": seen})
    assert changed.status_code == 200
    assert changed.headers["etag"] == client.get(path).headers["etag"] != seen
    late = client.patch(path, json={"name": "Two"}, headers={"If-Match": seen})
    assert (late.status_code, late.json()["code"]) == (412, "changed-meanwhile")
    assert client.get(path).json()["name"] == "One"
    assert client.patch(path, json={"name": "Three"}, headers={"If-Match": "*"}).status_code == 200


def test_permissions_under_any_of_their_names(db: Session, script: Script) -> None:
    client = script(make_user(db))
    flat = client.post(MODELS, json={"name": "a", "type": "LORA", "allow_derivatives": False})
    inner = client.post(
        MODELS, json={"name": "b", "type": "LORA", "permissions": {"allowDerivatives": False}}
    )
    assert flat.json()["allowDerivatives"] is inner.json()["allowDerivatives"] is False
    wrong = client.post(MODELS, json={"name": "c", "type": "LORA", "permissions": {"allow_theft": True}})
    assert [e["pointer"] for e in wrong.json()["errors"]] == ["#/allow_theft"]


def test_a_report_may_have_words_of_its_own(db: Session, script: Script) -> None:
    image = make_image(db, make_user(db), visibility="public")
    client = script(make_user(db))
    body = {"kind": "image", "id": image.id, "reason": "copyright", "detail": "My photograph."}
    answer = client.post("/api/v1/reports", json=body)
    assert answer.status_code == 201
    assert (answer.json()["reason"], answer.json()["detail"]) == ("other", "copyright: My photograph.")
