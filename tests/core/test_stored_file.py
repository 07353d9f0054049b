"""A stored object as a file: the same bytes from a folder and from a store without paths."""

import io
import os
import zipfile
from pathlib import Path

import pytest
from obstore.store import LocalStore, MemoryStore

from app.core.storage import ObjectStorage
from app.core.stored_file import open_stored


@pytest.fixture(params=["folder", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStorage:
    if request.param == "memory":
        return ObjectStorage(MemoryStore())
    return ObjectStorage(LocalStore(prefix=str(tmp_path)), tmp_path)


def test_it_can_be_read_anywhere(storage: ObjectStorage) -> None:
    data = os.urandom(200_000)
    storage.put("blobs/a", data)
    with open_stored(storage, "blobs/a", len(data)) as file:
        assert file.read(10) == data[:10]
        assert file.seek(150_000) == 150_000
        assert file.read(70_000) == data[150_000:]
        assert file.read(1) == b""
        assert file.seek(-5, os.SEEK_END) == len(data) - 5
        assert file.read() == data[-5:]
        file.seek(7)
        assert file.seek(3, os.SEEK_CUR) == file.tell() == 10
        with pytest.raises(OSError, match=r"."):
            file.seek(-1)


def test_a_zip_in_a_store_can_be_listed(storage: ObjectStorage) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("model_index.json", "{}")
        archive.writestr("unet/weights", bytes(100_000))
    storage.put("blobs/z", out.getvalue())
    with open_stored(storage, "blobs/z", len(out.getvalue())) as file, zipfile.ZipFile(file) as archive:
        assert archive.namelist() == ["model_index.json", "unet/weights"]
        assert archive.read("model_index.json") == b"{}"
