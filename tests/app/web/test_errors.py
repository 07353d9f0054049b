"""What a program is answered when its request is wrong: the status of the kind of mistake, never a 500."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from tests.app.conftest import Browser, Script
from tests.factories import make_user

HUGE = 10**17
JSON = {"Content-Type": "application/json"}


def test_the_body_of_a_problem(db: Session, script: Script) -> None:
    answer = script(make_user(db)).get("/api/v1/jobs/none")
    body = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(body) == {"type", "title", "status", "detail", "instance", "code"}
    assert body["type"] == "http://testserver/docs/errors#not-found"
    assert body["instance"].startswith("urn:uuid:")


def test_what_is_no_json_is_malformed(db: Session, script: Script) -> None:
    answer = script(make_user(db)).post("/api/v1/trainings", content=b'{"name":', headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad-request")
    assert "not JSON" in answer.json()["detail"]


def test_another_kind_of_body_is_not_taken(db: Session, script: Script) -> None:
    headers = {"Content-Type": "text/plain"}
    answer = script(make_user(db)).post("/api/v1/trainings", content=b"hello", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported-media")


def test_pointers_name_the_field(db: Session, script: Script) -> None:
    client = script(make_user(db))
    fields = client.post("/api/v1/datasets", json={"name": "x", "a/b~c": 1}).json()["errors"]
    assert [f["pointer"] for f in fields] == ["#/a~1b~0c"]
    assert client.post("/api/v1/datasets").json()["errors"][0]["pointer"] == "#"


@pytest.mark.parametrize(
    "path",
    ["/api/v1/jobs/%00", "/api/v1/datasets/%00", "/api/v1/uploads/%00", f"/api/v1/images/{HUGE}",
     f"/models/{HUGE}", f"/images/{HUGE}"],
)  # fmt: skip
def test_what_cannot_be_an_id_is_not_found(db: Session, script: Script, path: str) -> None:
    assert script(make_user(db)).get(path).status_code == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/datasets", b'{"name": "a\\u0000b"}'),
        ("/api/v1/datasets", b'{"name": "a\\ud800b"}'),
        ("/api/v1/generations", b'{"prompt": "x", "model_version_id": 100000000000000000}'),
        ("/api/v1/reports", b'{"kind": "image", "reason": "spam", "id": 100000000000000000}'),
    ],
)
def test_what_cannot_be_stored_is_refused(db: Session, script: Script, path: str, body: bytes) -> None:
    answer = script(make_user(db)).post(path, content=body, headers=JSON)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_cursor_beyond_all_numbers_is_refused(db: Session, script: Script) -> None:
    from app.core.paging import encode_cursor

    answer = script(make_user(db)).get("/api/v1/jobs", params={"cursor": encode_cursor([10**40])})
    assert answer.status_code == 422


@pytest.mark.parametrize(
    "path", ["/trainings?dryrun=true", "/generations?dry_ru=1", "/datasets?page=2", "/jobs/x/logs?since=1"]
)
def test_unknown_query_parameters_are_refused(db: Session, script: Script, path: str) -> None:
    client = script(make_user(db))
    method = "GET" if "datasets" in path or "logs" in path else "POST"
    answer = client.request(method, f"/api/v1{path}", json={} if method == "POST" else None)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == f"#/{path.split('?')[1].split('=')[0]}"


def test_known_query_parameters_pass_and_the_civitai_shape_ignores_the_rest(
    db: Session, script: Script
) -> None:
    client = script(make_user(db))
    assert client.get("/api/v1/datasets", params={"limit": 2}).status_code == 200
    assert client.get("/api/v1/jobs", params={"limit": 2, "status": "queued"}).status_code == 200
    assert client.get("/api/v1/models", params={"whatever": 1}).status_code == 200
    assert client.get("/api/v1/me", params={"whatever": 1}).status_code == 200


def test_a_forged_write_is_told_so_in_the_form_of_the_path(db: Session, browser: Browser) -> None:
    client = browser(make_user(db))
    client.headers["Sec-Fetch-Site"] = "cross-site"
    program = client.post("/api/v1/datasets", json={"name": "x"})
    assert (program.status_code, program.headers["content-type"]) == (403, "application/problem+json")
    assert client.post("/train").headers["content-type"].startswith("text/plain")


def test_other_sites_may_ask_for_public_things_only(client: TestClient) -> None:
    asked = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "GET"}
    answer = client.options("/api/v1/models", headers=asked)
    assert (answer.status_code, answer.text) == (200, "")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-origin" not in client.options("/api/v1/jobs", headers=asked).headers


def test_the_civitai_shape_holds_for_broken_text(client: TestClient) -> None:
    answer = client.get("/api/v1/models?query=%00")
    assert (answer.status_code, list(answer.json())) == (400, ["error"])
