"""The same behaviour of every store: a local folder and memory."""

from pathlib import Path

import pytest

from app.core.config import Settings
from app.core.storage import CHUNK, ObjectStorage, open_storage


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStorage:
    settings = Settings()
    settings.storage.url = "memory:///" if request.param == "memory" else f"file://{tmp_path / 'objects'}"
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
