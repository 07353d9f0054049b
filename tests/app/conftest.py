"""The application as a browser and as a script see it.

`client` is nobody; `browser(user)` has the cookie of that user's login; `script(user, "read", …)`
sends a token with these scopes. All work in the test's own transaction.
"""

from collections.abc import Callable, Iterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.accounts import sessions, tokens
from app.accounts.models import User
from app.core.config import get_settings

Browser = Callable[[User], TestClient]
Script = Callable[..., TestClient]


@pytest.fixture
def application(db: Session) -> FastAPI:
    from app.main import create_app

    return create_app()


@pytest.fixture
def client(application: FastAPI) -> Iterator[TestClient]:
    """Somebody who is not logged in. A crash answers 500, as it would for people."""
    yield TestClient(application, raise_server_exceptions=False, follow_redirects=False)


@pytest.fixture
def browser(db: Session, application: FastAPI) -> Browser:
    def make(user: User) -> TestClient:
        client = TestClient(application, raise_server_exceptions=False, follow_redirects=False)
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
        client = TestClient(application, raise_server_exceptions=False, follow_redirects=False)
        client.headers["Authorization"] = f"Bearer {secret}"
        return client

    return make
