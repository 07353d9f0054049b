"""A stored object as a file that can be read anywhere, for code that looks only at parts of it."""

import io
from typing import BinaryIO, cast

from app.core.storage import Storage

BUFFER = 1 << 16
"""Bytes fetched at least at once: headers and zip directories are small and read in pieces."""


class _Ranges(io.RawIOBase):
    """Reads become ranges of the object; nothing is kept."""

    def __init__(self, storage: Storage, key: str, size: int) -> None:
        super().__init__()
        self._storage, self._key, self._size, self._at = storage, key, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise OSError("before the start of the file")
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        stop = min(self._at + len(buffer), self._size)
        if stop <= self._at:
            return 0
        data = b"".join(self._storage.stream(self._key, self._at, stop))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def open_stored(storage: Storage, key: str, size: int) -> BinaryIO:
    """The object of `size` bytes, open for reading. Errors: FileNotFoundError, at the first read."""
    path = storage.local_path(key)
    if path is not None:
        return path.open("rb")
    return cast(BinaryIO, io.BufferedReader(_Ranges(storage, key, size), BUFFER))
