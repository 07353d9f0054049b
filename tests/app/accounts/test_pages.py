"""Getting in and out, and the Settings page, as a browser does it."""

import re

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts import links, service, sessions, tokens
from app.accounts.models import LoginSession, OneTimeLink
from app.accounts.pages import local_path
from app.accounts.settings_pages import browser_words
from app.core.config import get_settings
from tests.app.conftest import Browser, Script
from tests.factories import PASSWORD, make_admin, make_image, make_user

NEW = "olive trees at noon"


def cookie_of(client: TestClient) -> str:
    return f"bottega_{get_settings().installation}_0"


def test_the_first_account(db: Session, client: TestClient) -> None:
    assert "./dev bottega user create" in client.get("/login").text
    path = links.create_setup_link(db) or ""
    assert "Make the admin account" in client.get(path).text
    refused = client.post(path, data={"username": "a b", "password": NEW})
    assert refused.status_code == 422
    assert "2 to 40 letters" in refused.text
    assert 'value="a b"' in refused.text
    assert NEW not in refused.text
    made = client.post(path, data={"username": "maria", "password": NEW})
    assert (made.status_code, made.headers["location"]) == (303, "/")
    assert client.get("/api/v1/me").json()["role"] == "admin"
    assert client.get(path).status_code == 404
    assert "There is no account yet" not in TestClient(client.app).get("/login").text


@pytest.mark.parametrize(
    "host", ["http://192.168.1.20:8000", "http://127.0.0.1:8000", "http://localhost:8001"]
)
def test_logging_in_works_on_plain_http(db: Session, application: FastAPI, host: str) -> None:
    make_user(db, "anna")
    client = TestClient(application, base_url=host, follow_redirects=False)
    headers = {"Origin": host, "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"}
    answer = client.post(
        "/login", data={"username": "anna", "password": PASSWORD, "next": "/settings"}, headers=headers
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/settings")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/" in cookie
    assert "Secure" not in cookie
    assert "__Host-" not in cookie
    page = client.get("/settings")
    assert page.status_code == 200
    assert "Firefox on Linux" in page.text
    assert page.headers["cache-control"] == "no-store"


def test_on_https_the_cookie_is_bound_to_the_host(db: Session, application: FastAPI) -> None:
    make_user(db, "anna")
    client = TestClient(application, base_url="https://bottega.example", follow_redirects=False)
    answer = client.post("/login", data={"username": "anna", "password": PASSWORD})
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-bottega_")
    assert "Secure" in cookie
    assert "Domain" not in cookie
    assert client.get("/settings").status_code == 200


def test_a_wrong_password_keeps_the_name_and_the_target(db: Session, client: TestClient) -> None:
    make_user(db, "anna")
    answer = client.post("/login", data={"username": "anna", "password": "wrong", "next": "/train?x=1"})
    assert answer.status_code == 401
    assert service.WRONG in answer.text
    assert 'value="anna"' in answer.text
    assert 'value="/train?x=1"' in answer.text
    assert "set-cookie" not in answer.headers
    assert "www-authenticate" not in answer.headers


def test_too_many_attempts_are_words_too(
    db: Session, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_settings().auth, "login_attempts", "1 per 5 minute")
    for status in (401, 429):
        assert client.post("/login", data={"username": "anna", "password": "x"}).status_code == status


def test_the_way_back_after_logging_in(db: Session, client: TestClient) -> None:
    answer = client.get("/settings?done=password")
    assert answer.headers["location"] == "/login?next=%2Fsettings%3Fdone%3Dpassword"
    fragment = client.get(
        "/settings", headers={"HX-Request": "true", "HX-Current-URL": "http://testserver/train?a=b"}
    )
    assert fragment.headers["hx-redirect"] == "/login?next=%2Ftrain"


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/train", "/train"),
        ("/a?b=c#d", "/a?b=c#d"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/a\r\nSet-Cookie: x=y", "/"),
        ("", "/"),
    ],
)
def test_next_stays_on_this_site(target: str, path: str) -> None:
    assert local_path(target) == path


def test_logging_in_again_changes_the_secret(db: Session, client: TestClient) -> None:
    """A session that somebody planted before the login is worth nothing after it."""
    user = make_user(db, "anna")
    planted = sessions.create_session(db, make_user(db, "mallory"))
    client.cookies.set(cookie_of(client), planted)
    ours = {"Sec-Fetch-Site": "same-origin"}
    client.post("/login", data={"username": "anna", "password": PASSWORD}, headers=ours)
    fresh = client.cookies.get(cookie_of(client), domain="testserver.local")
    assert fresh != planted
    assert sessions.find_session(db, planted) is None
    assert [s.user_id for s in db.scalars(select(LoginSession))] == [user.id]


def test_logging_out_ends_the_session_on_the_server(db: Session, browser: Browser) -> None:
    anna = browser(make_user(db))
    secret = anna.cookies.get(cookie_of(anna))
    anna.post("/logout")
    anna.cookies.set(cookie_of(anna), secret or "")
    assert anna.get("/settings").status_code == 303
    assert list(db.scalars(select(LoginSession))) == []


def test_registration_by_invitation(db: Session, client: TestClient) -> None:
    admin = make_admin(db)
    assert client.get("/register").status_code == 403
    service.set_registration(db, admin, "invite")
    path = service.create_invite(db, admin)
    taken = client.post(path, data={"username": admin.username, "password": NEW})
    assert taken.status_code == 409
    assert "This name is taken" in taken.text
    assert client.post(path, data={"username": "newcomer", "password": NEW}).status_code == 303
    assert client.get("/api/v1/me").json()["username"] == "newcomer"
    assert client.get(path).status_code == 404


def test_a_mistake_does_not_use_up_the_link(db: Session, client: TestClient) -> None:
    path = links.create_link(db, "reset", make_user(db, "anna"))
    assert client.post(path, data={"password": "short"}).status_code == 422
    assert db.scalars(select(OneTimeLink)).one().used_at is None
    assert client.post(path, data={"password": NEW}).status_code == 303
    assert db.scalars(select(OneTimeLink)).one().used_at is not None


def test_a_token_is_shown_once(db: Session, browser: Browser, client: TestClient) -> None:
    anna = browser(make_user(db, "anna"))
    page = anna.post("/settings/tokens", data={"name": "laptop", "scopes": ["read", "train"], "days": "30"})
    secret = re.findall(r"bottega_[\w-]{43}", page.text)[0]
    assert page.headers["cache-control"] == "no-store"
    assert f'data-copy="{secret}"' in page.text
    assert secret not in anna.get("/settings").text
    me = client.get("/api/v1/me", headers={"Authorization": f"Bearer {secret}"}).json()
    assert (me["username"], me["scopes"]) == ("anna", ["read", "train"])


def test_token_mistakes_are_said_on_the_page(db: Session, browser: Browser) -> None:
    anna = browser(make_user(db))
    assert anna.post("/settings/tokens", data={"name": "x"}).status_code == 422
    assert anna.post("/settings/tokens", data={"name": "x", "scopes": ["admin"]}).status_code == 403


def test_settings_are_not_changed_with_a_token(db: Session, script: Script) -> None:
    admin = make_admin(db)
    client = script(admin, *tokens.SCOPES)
    assert client.get("/settings").status_code == 403
    assert client.post("/settings/tokens", data={"name": "more", "scopes": ["admin"]}).status_code == 403
    assert len(tokens.list_tokens(db, admin)) == 1


def test_changing_the_password(db: Session, browser: Browser) -> None:
    user = make_user(db, "anna")
    here, there = browser(user), browser(user)
    wrong = here.post("/settings/password", data={"current": "nope", "password": NEW})
    assert wrong.status_code == 422
    assert "This is not your password." in wrong.text
    assert here.post("/settings/password", data={"current": PASSWORD, "password": NEW}).status_code == 303
    assert here.get("/settings").status_code == 200
    assert there.get("/settings").status_code == 303


def test_the_theme_is_kept(db: Session, browser: Browser) -> None:
    user = make_user(db, "anna")
    anna = browser(user)
    anna.post("/settings/theme", data={"theme": "dark"})
    assert 'data-theme="dark"' in anna.get("/settings").text
    assert user.preferences["theme"] == "dark"
    anna.post("/settings/theme", data={"theme": '"><script>'})
    assert "data-theme=" not in anna.get("/settings").text


def test_leaving(db: Session, browser: Browser, client: TestClient) -> None:
    user = make_user(db, "anna")
    anna = browser(user)
    make_image(db, user)
    assert "Type anna to confirm." in anna.post("/settings/delete", data={"confirm": "no"}).text
    assert anna.post("/settings/delete", data={"confirm": "anna"}).headers["location"] == "/"
    assert service.find_user(db, "anna") is None
    assert anna.get("/settings").status_code == 303


def test_names_of_tokens_and_browsers_are_escaped(db: Session, browser: Browser) -> None:
    user = make_user(db, "anna")
    evil = "<script>alert(1)</script>"
    tokens.create_token(db, user, name=evil, scopes=["read"])
    sessions.create_session(db, user, agent=evil)
    page = browser(user).get("/settings").text
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(1)") >= 2


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537 Chrome/140 Safari/537 Edg/140", "Edge on Windows"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 19 like Mac OS X) Safari/604", "Safari on iPhone"),
        ("curl/8.14", "curl"),
        ("", "A browser"),
    ],
)
def test_browsers_have_names(agent: str, words: str) -> None:
    assert browser_words(agent) == words


def test_me_has_what_civitai_clients_read(db: Session, script: Script) -> None:
    user = make_user(db, "anna")
    body = script(user, "train").get("/api/v1/me").json()
    limits = body.pop("limits")
    assert body == {
        "id": user.id, "username": "anna", "tier": "free", "status": "active", "isMember": False,
        "subscriptions": [], "role": "member", "scopes": ["train"],
    }  # fmt: skip
    assert limits == script(user, "read").get("/api/v1/me/limits").json()
    assert {"storage_bytes", "jobs_unfinished", "reads_per_minute"} <= set(limits)


def test_me_without_a_token_is_civitais_error_and_ours(client: TestClient) -> None:
    body = client.get("/api/v1/me").json()
    assert body["error"] == "Unauthorized"
    assert body["code"] == "unauthorized"


def test_fields_help_password_managers(client: TestClient) -> None:
    page = client.get("/login").text
    assert re.search(r'<input[^>]* required autocomplete="username"', page)
    assert re.search(r'<input[^>]* type="password"[^>]* required autocomplete="current-password"', page)
