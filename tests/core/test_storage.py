"""The same behaviour of every store: a local folder, memory, and S3 where TEST_S3_ENDPOINT names a server.

For S3 the bucket `bottega-test` must exist and AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY open it.
"""

import errno
import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from uuid import uuid4

import pytest
from obstore.exceptions import GenericError

from app.core import storage
from app.core.config import Settings
from app.core.errors import DiskFull
from app.core.storage import CHUNK, ObjectStorage, open_storage, told_of_full_disk

ENDPOINT = os.environ.get("TEST_S3_ENDPOINT")


@pytest.fixture(params=["local", "memory", *(["s3"] if ENDPOINT else [])])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStorage:
    settings = Settings()
    urls = {
        "local": f"file://{tmp_path / 'objects'}",
        "memory": "memory:///",
        "s3": f"s3://bottega-test/{uuid4().hex}",
    }
    settings.storage.url = urls[request.param]
    settings.storage.s3_endpoint = ENDPOINT if request.param == "s3" else None
    return open_storage(settings)


def test_what_is_put_is_got(store: ObjectStorage, tmp_path: Path) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(bytes(range(256)) * 9000)
    store.put("jobs/1/big.bin", source)
    assert store.size("jobs/1/big.bin") == 256 * 9000
    assert b"".join(store.stream("jobs/1/big.bin")) == source.read_bytes()
    assert b"".join(store.stream("jobs/1/big.bin", 5, 9)) == bytes([5, 6, 7, 8])
    assert max(len(part) for part in store.stream("jobs/1/big.bin")) == CHUNK
    store.fetch("jobs/1/big.bin", tmp_path / "deep" / "copy.bin")
    assert (tmp_path / "deep" / "copy.bin").read_bytes() == source.read_bytes()


def test_a_written_file_is_taken(store: ObjectStorage) -> None:
    with store.scratch("uploads/a/1") as path:
        path.write_bytes(b"one")
        store.take("uploads/a/1", path)
        assert not path.exists()
    with store.scratch("uploads/a/1") as path:
        path.write_bytes(b"half")
    assert not path.exists()
    assert [(key, store.get(key)) for key, _ in store.list("uploads")] == [("uploads/a/1", b"one")]


def test_a_file_of_another_disk_is_taken(
    tmp_path: Path, store: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def another_disk(self: Path, target: Path) -> Path:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    source = tmp_path / "source"
    source.write_bytes(b"one")
    monkeypatch.setattr(Path, "replace", another_disk)
    store.take("a/one", source)
    assert (store.get("a/one"), source.exists()) == (b"one", False)


def test_a_missing_key(store: ObjectStorage) -> None:
    assert store.size("nothing") is None
    with pytest.raises(FileNotFoundError):
        store.get("nothing")
    with pytest.raises(FileNotFoundError):
        next(store.stream("nothing"))
    store.delete(["nothing"])


def test_copy_list_delete(store: ObjectStorage) -> None:
    store.put("a/one", b"1")
    store.copy("a/one", "a/b/two")
    store.put("c/three", b"333")
    assert sorted(store.list("a")) == [("a/b/two", 1), ("a/one", 1)]
    store.delete(["a/one", "a/b/two"])
    assert list(store.list("a")) == []
    assert store.get("c/three") == b"333"


def test_a_copy_of_what_is_too_large_for_one_call(
    store: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "COPY_BYTES", 10)
    store.put("uploads/1/whole", bytes(range(256)) * 5000)
    store.copy("uploads/1/whole", "blobs/x")
    assert store.get("blobs/x") == bytes(range(256)) * 5000
    with pytest.raises(FileNotFoundError):
        store.copy("uploads/2/whole", "blobs/y")


def test_a_folder_is_for_its_owner_and_keeps_no_empty_ones(tmp_path: Path) -> None:
    settings = Settings()
    settings.storage.url = f"file://{tmp_path / 'deep' / 'o'}"
    local = open_storage(settings)
    assert (tmp_path / "deep" / "o").stat().st_mode & 0o777 == 0o700
    local.put("uploads/one/1", b"x")
    local.put("uploads/two/1", b"x")
    local.delete(["uploads/one/1"])
    assert [p.name for p in (tmp_path / "deep" / "o" / "uploads").iterdir()] == ["two"]
    local.delete(["uploads/two/1"])
    local.put("uploads/three/1", b"x")
    assert local.get("uploads/three/1") == b"x"


def test_only_a_folder_has_paths_and_free_space(tmp_path: Path) -> None:
    settings = Settings()
    settings.storage.url = f"file://{tmp_path / 'o'}"
    local = open_storage(settings)
    local.put("x", b"x")
    assert local.local_path("x") == tmp_path / "o" / "x"
    assert (local.free_bytes() or 0) > 0
    settings.storage.url = "memory:///"
    assert open_storage(settings).local_path("x") is None
    settings.storage.url = "ftp://host/x"
    with pytest.raises(ValueError, match="STORAGE_URL"):
        open_storage(settings)


class EmptyBucket(BaseHTTPRequestHandler):
    """Answers as a bucket without objects does."""

    asked: list[str] = []

    def do_HEAD(self) -> None:
        self.asked.append(self.path)
        self.send_response(404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the screen."""


def test_a_bucket_in_the_same_network_is_reached_over_plain_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with HTTPServer(("127.0.0.1", 0), EmptyBucket) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        settings = Settings()
        settings.storage.url = "s3://bucket/prefix"
        settings.storage.s3_endpoint = f"http://127.0.0.1:{server.server_port}"
        assert open_storage(settings).size("some/key") is None
        server.shutdown()
    assert EmptyBucket.asked == ["/bucket/prefix/some/key"]


def test_a_full_disk_has_words(store: ObjectStorage) -> None:
    def broken() -> Iterator[bytes]:
        yield b"first"
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DiskFull):
        store.put("half", broken())
    with pytest.raises(DiskFull), told_of_full_disk():
        raise GenericError("Unable to copy data to file: No space left on device (os error 28)")
    with pytest.raises(GenericError), told_of_full_disk():
        raise GenericError("Generic S3 error: the line is down")
    assert store.size("half") is None
