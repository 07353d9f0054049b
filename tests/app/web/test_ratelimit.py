"""Request budgets: counted per token, person or address, told in headers; writes pass when nothing counts."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.core import throttle
from app.core.config import get_settings
from app.main import create_app
from tests.app.conftest import Browser, Script
from tests.factories import make_user


@pytest.fixture(autouse=True)
def small_budgets(db: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(get_settings().limits, "reads_per_minute", 3)
    monkeypatch.setattr(get_settings().limits, "writes_per_minute", 2)
    monkeypatch.setitem(throttle._broken_until, "at", 0.0)
    monkeypatch.setattr(throttle, "reads", throttle.Minutes())


def test_a_token_has_its_own_budget(db: Session, script: Script) -> None:
    user = make_user(db)
    first, second = script(user), script(user)
    for left in (2, 1, 0):
        answer = first.get("/api/v1/me")
        assert answer.status_code == 200
        assert (answer.headers["ratelimit-limit"], answer.headers["ratelimit-remaining"]) == ("3", str(left))
    refused = first.get("/api/v1/me")
    assert refused.status_code == 429
    assert refused.json()["code"] == "rate-limited"
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert "ratelimit-reset" in refused.headers
    assert second.get("/api/v1/me").status_code == 200


def test_invented_tokens_share_the_budget_of_the_address(client: TestClient) -> None:
    said = [
        client.get("/api/v1/me", headers={"Authorization": f"Bearer bottega_{n}"}).status_code
        for n in range(4)
    ]
    assert said == [401, 401, 401, 429]


def test_an_invented_forwarded_address_does_not_help(client: TestClient) -> None:
    said = [client.get("/api/v1/me", headers={"X-Forwarded-For": f"9.9.9.{n}"}).status_code for n in range(4)]
    assert said == [401, 401, 401, 429]


def test_behind_a_trusted_proxy_the_visitor_counts(db: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(get_settings().server, "trusted_proxies", "10.0.0.0/8")
    client = TestClient(create_app(), client=("10.1.2.3", 1))
    for n in range(5):
        headers = {"X-Forwarded-For": f"6.6.6.6, 9.9.9.{n}"}
        assert client.get("/api/v1/me", headers=headers).status_code == 401
    spoofed = [
        client.get("/api/v1/me", headers={"X-Forwarded-For": f"7.7.7.{n}, 5.5.5.5"}).status_code
        for n in range(4)
    ]
    assert spoofed == [401, 401, 401, 429]


def test_pages_and_browsers_have_a_larger_budget(db: Session, browser: Browser, client: TestClient) -> None:
    assert client.get("/login").headers["ratelimit-limit"] == "30"
    assert browser(make_user(db)).get("/api/v1/me").headers["ratelimit-limit"] == "30"


def test_writes_have_a_budget_of_their_own(client: TestClient) -> None:
    said = [client.post("/logout").status_code for _ in range(3)]
    assert said == [303, 303, 429]
    assert client.get("/api/v1/me").status_code == 401


def test_health_is_not_counted(client: TestClient) -> None:
    assert "ratelimit-limit" not in client.get("/healthz").headers


def test_pages_do_not_use_up_the_budget_of_programs(client: TestClient) -> None:
    for _ in range(4):
        assert client.get("/login").status_code == 200
    assert client.get("/api/v1/me").headers["ratelimit-remaining"] == "2"


def test_without_the_counter_reads_are_counted_and_writes_pass(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_settings().queue, "redis_url", "redis://127.0.0.1:1/0")
    assert [client.get("/api/v1/me").status_code for _ in range(4)] == [401, 401, 401, 429]
    for _ in range(3):
        answer = client.post("/logout")
        assert answer.status_code == 303
        assert "ratelimit-limit" not in answer.headers
    assert client.post("/login", data={"username": "x", "password": "y"}).status_code == 503


def test_without_redis_counting_is_done_in_this_process(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_settings().queue, "redis_url", None)
    assert [client.post("/logout").status_code for _ in range(3)] == [303, 303, 429]


def test_a_read_asks_no_other_process(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("Valkey is asked")

    monkeypatch.setattr(throttle, "_store", refused)
    assert client.get("/api/v1/me").headers["ratelimit-remaining"] == "2"
    assert "ratelimit-limit" not in client.post("/logout").headers, "a counter that breaks lets writes pass"
