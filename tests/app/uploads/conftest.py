"""Whose upload it is, with parts of a thousand bytes."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.uploads import service
from tests.app.conftest import Script
from tests.factories import make_user


@pytest.fixture
def owner(db: Session) -> User:
    return make_user(db)


@pytest.fixture
def api(owner: User, script: Script) -> TestClient:
    return script(owner, "read", "train")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "PART_SIZE", 1000)
