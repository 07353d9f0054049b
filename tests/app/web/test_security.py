"""What every answer carries, and what nobody gets to run."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from tests.app.conftest import Browser, Visitor
from tests.factories import make_admin, make_user

EVIL = "<img src=x onerror=alert(1)>"


@pytest.mark.parametrize(
    "path", ["/login", "/docs", "/docs/errors", "/nothing", "/api/v1/nothing", "/healthz"]
)
def test_headers_of_every_answer(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    csp = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
    assert csp["script-src"] == "'self'"
    assert csp["style-src"] == "'self'"
    assert csp["default-src"] == "'self'"
    assert csp["object-src"] == csp["base-uri"] == csp["frame-ancestors"] == "'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize(
    "path", ["/login", "/settings", "/admin", "/admin/people", "/admin/reports", "/docs", "/nothing"]
)
def test_pages_have_no_inline_script_or_style(db: Session, browser: Browser, path: str) -> None:
    page = browser(make_admin(db)).get(path).text
    assert " style=" not in page
    assert "<style" not in page
    assert " onclick=" not in page
    assert page.count("<script") == page.count('<script type="module" src=')


def test_an_address_that_does_not_exist_is_a_page_for_people_and_json_for_programs(
    client: TestClient,
) -> None:
    page, json = client.get(f"/{EVIL}"), client.get("/api/v1/nothing")
    assert page.status_code == json.status_code == 404
    assert page.headers["content-type"].startswith("text/html")
    assert EVIL not in page.text
    assert json.headers["content-type"] == "application/problem+json"
    assert json.json()["code"] == "not-found"


def test_names_cannot_be_markup(db: Session, browser: Browser) -> None:
    """Rows that come from elsewhere (a restore, an older version) are escaped all the same."""
    evil = make_user(db, EVIL)
    for path in ("/settings", "/nothing"):
        page = browser(evil).get(path).text
        assert EVIL not in page
        assert "&lt;img src=x" in page
    page = browser(make_admin(db)).get("/admin/people").text
    assert EVIL not in page
    assert "&lt;img src=x" in page


def test_a_login_page_echoes_nothing_unescaped(client: TestClient) -> None:
    answer = client.post("/login", data={"username": f'"{EVIL}', "password": "x", "next": f'/"{EVIL}'})
    assert EVIL not in answer.text
    assert "&#34;&lt;img" in answer.text


def test_a_crash_tells_a_number_and_nothing_else(own_application: FastAPI, db: Session) -> None:
    client = Visitor(own_application, db)

    def crash() -> None:
        raise RuntimeError("secret detail")

    own_application.get("/crash")(crash)
    own_application.get("/api/crash")(crash)
    for path, kind in (("/crash", "text/html"), ("/api/crash", "application/problem+json")):
        answer = client.get(path)
        assert answer.status_code == 500
        assert answer.headers["content-type"].startswith(kind)
        assert answer.headers["content-security-policy"].startswith("default-src 'self'")
        assert "Tell the admin this number: err_" in answer.text
        assert "secret detail" not in answer.text
        assert "Traceback" not in answer.text
