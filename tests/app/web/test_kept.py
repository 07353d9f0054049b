"""Answers for everybody: kept while nothing is written, never for who is known, never a moment too long."""

from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest
from fastapi import Request
from fastapi.testclient import TestClient
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from app.accounts import tokens
from app.accounts.models import User
from app.core.db import get_engine, get_reader, unit_of_work
from app.core.errors import TookTooLong
from app.core.prepared import Prepared
from app.gallery.models import Model
from app.main import create_app
from app.web import kept
from app.web.deps import Db
from app.web.kept import Answer, Shelf, for_everybody
from tests.app.gallery.things import published
from tests.factories import make_user

PATHS = (
    "/",
    "/models/{id}/stone-towns",
    "/images",
    "/api/v1/models",
    "/api/v1/models/{id}",
    "/api/v1/images",
)


@pytest.fixture
def model_id(real_db: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(kept, "shelf", Shelf())
    with unit_of_work() as db:
        return published(db, make_user(db, "bianca"), name="Stone towns").id


@pytest.fixture
def client(model_id: int) -> TestClient:
    # Without its lifespan: the reaper of a running server writes now and then.
    return TestClient(create_app())


@pytest.fixture
def seen(client: TestClient) -> Iterator[list[str]]:
    """What is asked of the database."""
    statements: list[str] = []

    def note(conn: Any, cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    for engine in (get_engine(), get_reader()):
        event.listen(engine, "before_cursor_execute", note)
    yield statements
    for engine in (get_engine(), get_reader()):
        event.remove(engine, "before_cursor_execute", note)


@pytest.mark.parametrize("path", PATHS)
def test_the_second_answer_asks_only_whether_it_is_still_true(
    client: TestClient, model_id: int, seen: list[str], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Other tests write to the same server all the time, and each write is another snapshot.
    monkeypatch.setattr(kept, "_SNAPSHOT", Prepared(text("select '1:1:' as snapshot")))
    first = client.get(path.format(id=model_id))
    assert first.status_code == 200
    assert len(seen) > 1
    seen.clear()
    second = client.get(path.format(id=model_id))
    assert len(seen) == 1
    assert "snapshot" in seen[0]
    assert (second.content, second.headers["content-type"]) == (first.content, first.headers["content-type"])


def test_what_is_hidden_is_gone_with_the_commit(client: TestClient, model_id: int) -> None:
    for path in ("/", "/api/v1/models"):
        assert "Stone towns" in client.get(path).text
    with unit_of_work() as db:
        model = db.get_one(Model, model_id)
        model.visibility = "private"
        db.flush()
        assert "Stone towns" in client.get("/").text, "not committed yet"
    for path in ("/", "/api/v1/models"):
        assert "Stone towns" not in client.get(path).text
    assert client.get(f"/api/v1/models/{model_id}").status_code == 404


def test_who_is_known_is_answered_anew(client: TestClient, model_id: int) -> None:
    """An owner sees the own draft, and nobody gets the owner's answer."""
    with unit_of_work() as db:
        owner = db.get_one(User, db.get_one(Model, model_id).user_id)
        secret = tokens.create_token(db, owner, name="script", scopes=["read"])[1]
        db.get_one(Model, model_id).visibility = "private"
    known = {"authorization": f"Bearer {secret}"}
    for _ in range(2):
        assert client.get(f"/api/v1/models/{model_id}", headers=known).status_code == 200
        assert client.get(f"/api/v1/models/{model_id}").status_code == 404


def test_an_answer_depends_on_address_theme_and_fragment(client: TestClient, model_id: int) -> None:
    plain = client.get("/models").text
    assert client.get("/models?sort=oldest").text != plain
    assert client.get("/models", headers={"cookie": "theme=dark"}).text != plain
    other = client.get("/api/v1/models", headers={"host": "elsewhere.example"}).text
    assert "elsewhere.example" in other
    assert "elsewhere.example" not in client.get("/api/v1/models").text


def test_a_request_that_has_written_keeps_nothing(client: TestClient, model_id: int) -> None:
    with unit_of_work() as db:
        assert kept._snapshot(db) is not None
        db.get_one(Model, model_id).description = "new"
        db.flush()
        assert kept._snapshot(db) is None


def test_nobody_needs_a_transaction(client: TestClient, model_id: int) -> None:
    taken: list[object] = []
    event.listen(get_engine(), "checkout", lambda *_: taken.append(1))
    for path in PATHS:
        assert client.get(path.format(id=model_id)).status_code == 200
    assert not taken
    assert client.get("/readyz").status_code in (200, 503)
    assert taken


def test_what_is_written_while_an_answer_is_made_is_not_kept(
    client: TestClient, model_id: int, seen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = kept._snapshot

    def then_write(db: Session) -> str | None:
        found = ask(db)
        with unit_of_work() as other:
            other.get_one(Model, model_id).name = "Clay towns"
        return found

    monkeypatch.setattr(kept, "_snapshot", then_write)
    assert "Clay towns" in client.get(f"/api/v1/models/{model_id}").text
    monkeypatch.setattr(kept, "_snapshot", ask)
    assert len(kept.shelf.answers) == 1
    seen.clear()
    assert "Clay towns" in client.get(f"/api/v1/models/{model_id}").text
    assert len(seen) > 1, "made anew"


def test_what_takes_too_long_is_said(model_id: int) -> None:
    application = create_app()

    @application.get("/api/try/slow")
    @for_everybody
    def slow(request: Request, db: Db) -> list[str]:
        db.execute(text("set statement_timeout = 20"))
        return list(db.scalars(text("select pg_sleep(2)::text")))

    answer = TestClient(application).get("/api/try/slow")
    assert (answer.status_code, answer.json()["code"]) == (TookTooLong.status, TookTooLong.code)


def test_nobody_writes(model_id: int) -> None:
    application = create_app()

    @application.get("/api/try/writing")
    @for_everybody
    def writing(request: Request, db: Db) -> None:
        db.execute(text("update model set name = 'x'"))

    assert TestClient(application, raise_server_exceptions=False).get("/api/try/writing").status_code == 500
    with unit_of_work() as db:
        assert db.get_one(Model, model_id).name == "Stone towns"


def test_the_shelf_is_bounded_and_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(most=10_000)
    for number in range(9):
        shelf.keep((str(number),), Answer(b"x" * 1000, "text/html", "1:1:", monotonic()))
    assert list(shelf.answers) == [(str(n),) for n in range(5, 9)]
    assert shelf.held <= 10_000
    assert shelf.find(("8",), "1:1:") is not None
    assert shelf.find(("8",), "1:2:") is None
    shelf.keep(("big",), Answer(b"x" * (kept.LARGEST + 1), "text/html", "1:1:", monotonic()))
    assert ("big",) not in shelf.answers
    now = monotonic()
    monkeypatch.setattr("app.web.kept.time.monotonic", lambda: now + kept.SECONDS + 1)
    assert shelf.find(("8",), "1:1:") is None
