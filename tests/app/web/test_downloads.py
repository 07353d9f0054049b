"""Parts of a file, as browsers, download managers and strangers ask for them; from a folder and a bucket."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import Response
from fastapi.testclient import TestClient
from obstore.store import LocalStore, MemoryStore

from app.core.blobs import blob_key
from app.core.storage import ObjectStorage
from app.web.downloads import send_blob

CONTENT = bytes(range(256))
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PARTS = {
    "bytes=0-0": b"\0", "bytes=250-": CONTENT[250:], "bytes=-3": CONTENT[-3:], "bytes=255-9999": b"\xff",
    f"bytes=254-{10**60}": CONTENT[254:],
}  # fmt: skip
NO_RANGES = ["bytes=5-2", "bytes=abc", "bytes=", "bytes=-", "items=0-1", "0-1", f"bytes=0-{10**200}"]


@pytest.fixture(params=["folder", "bucket"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestClient]:
    folder = request.param == "folder"
    store = ObjectStorage(LocalStore(str(tmp_path)), tmp_path) if folder else ObjectStorage(MemoryStore())
    store.put(blob_key(SHA256), CONTENT)
    app = FastAPI()

    @app.api_route("/file", methods=["GET", "HEAD"])
    def file(request: Request) -> Response:
        return send_blob(request, store, SHA256, name="a.bin")

    with TestClient(app) as opened:
        yield opened


@pytest.mark.parametrize("asked", PARTS)
def test_a_part(client: TestClient, asked: str) -> None:
    answer = client.get("/file", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, PARTS[asked])


@pytest.mark.parametrize("asked", NO_RANGES)
def test_what_makes_no_sense_is_as_good_as_none(client: TestClient, asked: str) -> None:
    answer = client.get("/file", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, CONTENT)


@pytest.mark.parametrize("asked", ["bytes=256-", "bytes=9000-9001", "bytes=-0"])
def test_beyond_the_end(client: TestClient, asked: str) -> None:
    answer = client.get("/file", headers={"Range": asked})
    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */256")


def test_a_known_file_is_not_sent_again(client: TestClient) -> None:
    for known in (f'"{SHA256}"', f'W/"{SHA256}"', f'"x", "{SHA256}"', "*"):
        assert client.get("/file", headers={"If-None-Match": known}).status_code == 304
    assert client.get("/file", headers={"If-None-Match": '"x"'}).status_code == 200
    head = client.head("/file")
    assert (head.headers["content-length"], head.content) == ("256", b"")
    stale = client.get("/file", headers={"Range": "bytes=0-0", "If-Range": '"x"'})
    assert (stale.status_code, stale.content) == (200, CONTENT)
