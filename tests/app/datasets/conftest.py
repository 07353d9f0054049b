import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.accounts.models import User
from tests.app.conftest import Script
from tests.factories import make_user


@pytest.fixture
def owner(db: Session) -> User:
    return make_user(db)


@pytest.fixture
def api(owner: User, script: Script) -> TestClient:
    """A script of `owner`'s that may read and train."""
    return script(owner, "read", "train")
