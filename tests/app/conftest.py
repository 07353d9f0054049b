"""The application as a browser and as a script see it.

`client` is nobody; `browser(user)` has the cookie of that user's login; `script(user, "read", …)`
sends a token with these scopes. All work in the test's own transaction.
"""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.accounts import sessions, tokens
from app.accounts.models import User
from app.core.config import get_settings

Browser = Callable[[User], TestClient]
Script = Callable[..., TestClient]


class Visitor(TestClient):
    """A client beside the test's session: sees what the test has changed, and the test what the request has.

    A crash answers 500, as it would for people; redirects are answers, not followed.
    """

    def __init__(self, application: FastAPI, db: Session) -> None:
        super().__init__(application, raise_server_exceptions=False, follow_redirects=False)
        self.db = db

    def request(self, *args: Any, **options: Any) -> Any:
        self.db.flush()
        answer = super().request(*args, **options)
        self.db.expire_all()
        return answer


@pytest.fixture(scope="session")
def application() -> FastAPI:
    """One for all tests: putting two hundred routes together takes longer than most tests do.

    It keeps nothing of a test: settings, database and storage are looked up by each request.
    """
    from app.main import create_app

    return create_app()


@pytest.fixture
def own_application() -> FastAPI:
    """For tests that add routes."""
    from app.main import create_app

    return create_app()


@pytest.fixture
def client(db: Session, application: FastAPI) -> TestClient:
    """Somebody who is not logged in."""
    return Visitor(application, db)


@pytest.fixture
def browser(db: Session, application: FastAPI) -> Browser:
    def make(user: User) -> TestClient:
        client = Visitor(application, db)
        client.headers["Sec-Fetch-Site"] = "same-origin"
        name = f"bottega_{get_settings().installation}_0"
        client.cookies.set(name, sessions.create_session(db, user, agent="Firefox"))
        return client

    return make


@pytest.fixture
def script(db: Session, application: FastAPI) -> Script:
    def make(user: User, *scopes: str) -> TestClient:
        chosen = scopes or tokens.MEMBER_SCOPES
        _, secret = tokens.create_token(db, user, name="test", scopes=chosen)
        client = Visitor(application, db)
        client.headers["Authorization"] = f"Bearer {secret}"
        return client

    return make
