"""What is too large, too late or has no room is told in words, and never costs the server its memory."""

import errno
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.main import BODY_BYTES
from tests.app.conftest import Visitor


def _in_pieces() -> Iterator[bytes]:
    for _ in range(BODY_BYTES // (1 << 20) + 1):
        yield b"x" * (1 << 20)


@pytest.mark.parametrize("path", ["/login", "/report", "/api/v1/reports"])
@pytest.mark.parametrize(
    "kind", ["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
def test_nobody_fills_the_memory_with_one_request(client: TestClient, path: str, kind: str) -> None:
    whole = client.post(path, content=b"x" * (BODY_BYTES + 1), headers={"content-type": kind})
    assert whole.status_code == 413
    pieces = client.post(path, content=_in_pieces(), headers={"content-type": kind})
    assert pieces.status_code in (400, 401, 413, 422), pieces.text


def test_no_room_and_collisions_have_words(own_application: FastAPI, db: Session) -> None:
    client = Visitor(own_application, db)

    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def missing() -> None:
        raise OSError(errno.ENOENT, "secret path")

    def collision() -> None:
        raise IntegrityError("insert into x", {}, ValueError("secret detail"))

    expected = {
        full: (507, "disk-full"),
        missing: (500, "internal-server-error"),
        collision: (409, "conflict"),
    }
    for route, (status, code) in expected.items():
        own_application.get(f"/api/{route.__name__}")(route)
        answer = client.get(f"/api/{route.__name__}")
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert "secret" not in answer.text
