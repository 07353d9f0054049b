"""Who asks, and what they may: cookie, token, scopes, compatible habits."""

import base64
from typing import Annotated

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.accounts import service, tokens
from app.accounts.deps import (
    AdminUser,
    CompatAnyUser,
    CompatScoped,
    CompatUser,
    CurrentUser,
    OptionalUser,
    Scoped,
    cookie_name,
)
from app.accounts.models import User
from app.core.db import utcnow
from app.core.security import digest
from tests.app.conftest import Browser, Script
from tests.factories import make_admin, make_user


@pytest.fixture
def application(own_application: FastAPI) -> FastAPI:
    """One route per kind of dependency; the answer is the name of the user."""
    application = own_application

    @application.api_route("/api/try/current", methods=["GET", "POST"])
    def current(user: CurrentUser) -> str:
        return user.username

    @application.api_route("/api/try/optional", methods=["GET", "POST"])
    def optional(user: OptionalUser) -> str | None:
        return user.username if user else None

    @application.post("/api/try/train")
    def train(user: Annotated[User, Scoped("train")]) -> str:
        return user.username

    @application.get("/api/try/any")
    def any_token(user: CompatAnyUser) -> str:
        return user.username

    @application.get("/api/try/admin")
    def admin(user: AdminUser) -> str:
        return user.username

    @application.get("/api/try/compat")
    def compat(user: CompatUser) -> str | None:
        return user.username if user else None

    @application.post("/api/try/compat")
    def compat_write(user: Annotated[User, CompatScoped("generate")]) -> str:
        return user.username

    return application


def test_a_cookie_has_all_scopes_of_its_role(db: Session, browser: Browser) -> None:
    member = browser(make_user(db, "anna"))
    assert member.get("/api/try/current").json() == "anna"
    assert member.post("/api/try/train").json() == "anna"
    assert member.get("/api/try/admin").status_code == 403
    assert browser(make_admin(db, "boss")).get("/api/try/admin").json() == "boss"


@pytest.mark.parametrize(
    ("scopes", "path", "method", "status"),
    [
        (["read"], "current", "GET", 200),
        (["train"], "current", "GET", 403),
        (["read"], "current", "POST", 403),
        (["generate"], "current", "POST", 200),
        (["train"], "train", "POST", 200),
        (["read", "generate", "publish"], "train", "POST", 403),
        (["train"], "any", "GET", 200),
        (["train"], "optional", "GET", 403),
        (["read"], "optional", "GET", 200),
        (["read", "train", "generate", "publish"], "admin", "GET", 403),
        (["admin"], "admin", "GET", 200),
        (["generate"], "compat", "POST", 200),
        (["read"], "compat", "POST", 403),
    ],
)
def test_a_token_does_what_its_scopes_say(
    db: Session, script: Script, scopes: list[str], path: str, method: str, status: int
) -> None:
    answer = script(make_admin(db), *scopes).request(method, f"/api/try/{path}")
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["code"] == "insufficient-scope"


@pytest.mark.parametrize("path", ["/api/try/current", "/api/try/optional", "/api/try/any", "/api/try/admin"])
def test_a_bad_token_is_401_with_a_challenge(client: TestClient, path: str) -> None:
    answer = client.get(path, headers={"Authorization": "Bearer bottega_nonsense"})
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.json()["code"] == "bad-token"


def test_nobody_is_401_or_none(client: TestClient) -> None:
    assert client.get("/api/try/current").status_code == 401
    assert client.get("/api/try/optional").json() is None
    assert client.post("/api/try/train").status_code == 401


def test_a_token_that_is_sent_hides_the_cookie(db: Session, browser: Browser) -> None:
    anna = browser(make_user(db, "anna"))
    assert anna.get("/api/try/current", headers={"Authorization": "Bearer wrong"}).status_code == 401


def test_expired_deleted_and_disabled_tokens_are_refused(db: Session, script: Script) -> None:
    user = make_user(db)
    client = script(user)
    token = tokens.list_tokens(db, user)[0]
    assert client.get("/api/try/current").status_code == 200
    token.expires_at = utcnow()
    db.flush()
    assert client.get("/api/try/current").status_code == 401
    token.expires_at = None
    service.set_disabled(db, make_admin(db), user, True)
    assert client.get("/api/try/current").status_code == 401
    service.set_disabled(db, make_admin(db), user, False)
    assert client.get("/api/try/current").status_code == 200
    tokens.delete_token(db, user, token.id)
    assert client.get("/api/try/current").status_code == 401


def test_a_disabled_user_is_logged_out(db: Session, browser: Browser) -> None:
    user = make_user(db)
    client = browser(user)
    service.set_disabled(db, make_admin(db), user, True)
    assert client.get("/api/try/current").status_code == 401


def test_compatible_routes_take_tokens_as_other_programs_send_them(db: Session, client: TestClient) -> None:
    user = make_user(db, "anna")
    _, secret = tokens.create_token(db, user, name="a1111", scopes=["read", "generate"])
    basic = base64.b64encode(f"whoever:{secret}".encode()).decode()
    assert client.get(f"/api/try/compat?token={secret}").json() == "anna"
    assert client.get("/api/try/compat", headers={"Authorization": f"Basic {basic}"}).json() == "anna"
    assert client.get("/api/try/compat", headers={"Authorization": f"Token {secret}"}).json() == "anna"
    assert client.post("/api/try/compat", headers={"Authorization": f"Basic {basic}"}).json() == "anna"
    assert client.get("/api/try/compat?token=bottega_no").json() is None
    assert client.get("/api/try/compat", headers={"Authorization": "Bearer no"}).json() is None
    assert client.get("/api/try/compat", headers={"Authorization": "Basic !!"}).json() is None


def test_native_routes_do_not_take_tokens_from_addresses_or_basic(db: Session, client: TestClient) -> None:
    _, secret = tokens.create_token(db, make_user(db), name="t", scopes=["read"])
    basic = base64.b64encode(f"x:{secret}".encode()).decode()
    assert client.get(f"/api/try/current?token={secret}").status_code == 401
    assert client.get("/api/try/current", headers={"Authorization": f"Basic {basic}"}).status_code == 401


def test_the_cookie_survives_the_basic_auth_of_a_proxy(db: Session, browser: Browser) -> None:
    anna = browser(make_user(db, "anna"))
    assert anna.get("/api/try/current", headers={"Authorization": "Basic dTpw"}).json() == "anna"


def test_tokens_are_stored_as_hashes_only(db: Session) -> None:
    token, secret = tokens.create_token(db, make_user(db), name="t", scopes=["read"])
    assert secret.startswith("bottega_")
    assert len(secret) > 40
    assert token.secret_hash == digest(secret)
    assert secret not in (token.prefix, token.name, token.secret_hash)


def test_the_cookie_name_differs_by_installation_port_and_scheme(application: FastAPI) -> None:
    from starlette.requests import Request

    def name(scheme: str, host: str) -> str:
        scope = {
            "type": "http",
            "scheme": scheme,
            "path": "/",
            "query_string": b"",
            "headers": [(b"host", host.encode())],
        }
        return cookie_name(Request(scope))

    plain = name("http", "192.168.1.7:8000")
    assert plain.startswith("bottega_")
    assert plain != name("http", "192.168.1.7:8001")
    assert name("https", "bottega.example").startswith("__Host-bottega_")


def test_error_pages_know_the_viewer(db: Session, browser: Browser, client: TestClient) -> None:
    anna = browser(make_user(db, "anna"))
    for path in ("/nothing/here", "/docs/nothing"):
        assert "Your account, anna" in anna.get(path).text
        assert "Your account" not in client.get(path).text
