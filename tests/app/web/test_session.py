"""A request's unit of work: committed before the answer, undone on any error, ended whatever else is busy."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from anyio import to_thread
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from app.accounts.models import User
from app.core.db import after_commit, get_engine, unit_of_work
from app.main import create_app
from app.web.deps import Db, open_session
from tests.factories import make_user


def _request(sessions: sessionmaker[Session] | None = None) -> Any:
    return SimpleNamespace(app=SimpleNamespace(state=SimpleNamespace(sessions=sessions)))


@asynccontextmanager
async def _opened() -> AsyncIterator[Session]:
    async with asynccontextmanager(open_session)(_request()) as db:
        yield db


def _names() -> set[str]:
    with unit_of_work() as db:
        return {user.username for user in db.query(User)}


def test_what_was_done_is_committed(real_db: str) -> None:
    async def ask() -> None:
        async with _opened() as db:
            await to_thread.run_sync(make_user, db, "anna")

    anyio.run(ask)
    assert _names() == {"anna"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_undoes_it(real_db: str, error: type[BaseException]) -> None:
    async def ask() -> None:
        async with _opened() as db:
            await to_thread.run_sync(make_user, db, "anna")
            raise error

    with pytest.raises(error):
        anyio.run(ask)
    assert _names() == set()


def test_a_request_that_is_cancelled_keeps_no_connection(real_db: str) -> None:
    async def ask() -> None:
        with anyio.move_on_after(60) as scope:
            async with _opened() as db:
                await to_thread.run_sync(make_user, db, "anna")
                scope.cancel()
                await anyio.sleep_forever()

    anyio.run(ask)
    assert get_engine().pool.checkedout() == 0  # type: ignore[attr-defined]
    assert _names() == set()


def test_the_end_waits_for_none_of_the_usual_threads(real_db: str) -> None:
    """They may all be waiting for the connection that is given back."""

    async def ask() -> None:
        limiter = to_thread.current_default_thread_limiter()
        async with _opened() as db:
            await to_thread.run_sync(make_user, db, "anna")
            for number in range(int(limiter.total_tokens)):
                limiter.acquire_on_behalf_of_nowait(number)

    anyio.run(ask)
    assert _names() == {"anna"}


def test_what_asks_nothing_needs_no_thread(real_db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("a thread")

    async def ask() -> None:
        async with _opened():
            pass

    monkeypatch.setattr("anyio.to_thread.run_sync", refused)
    anyio.run(ask)


def test_what_waits_for_the_commit_is_run_in_a_thread(real_db: str) -> None:
    seen: list[bool] = []

    def note() -> None:
        with pytest.raises(RuntimeError):
            anyio.get_current_task()
        seen.append(True)

    async def ask() -> None:
        async with _opened() as db:
            after_commit(db, note)

    anyio.run(ask)
    assert seen == [True]


def test_a_commit_that_fails_is_answered_instead(real_db: str) -> None:
    application: FastAPI = create_app()

    @application.post("/api/try/commit")
    def try_commit(db: Db) -> str:
        db.execute(text("create temp table one (id int primary key deferrable initially deferred)"))
        db.execute(text("insert into one values (1), (1)"))
        return "kept"

    client = TestClient(application, raise_server_exceptions=False)
    answer = client.post("/api/try/commit")
    assert answer.status_code == 409
    assert "kept" not in answer.text
