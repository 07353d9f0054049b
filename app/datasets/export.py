"""A set as a zip, made while it is sent: no temporary file, one piece of a file in memory at a time."""

import zipfile
from collections.abc import Iterator, Sequence
from typing import IO, cast

from app.core.blobs import blob_key
from app.core.storage import Storage

EPOCH = (2000, 1, 1, 0, 0, 0)
"""The same set gives the same bytes."""
SUFFIXES = {"image/png": "png", "video/mp4": "mp4"}


class _Pieces:
    """A file that cannot seek and hands on what was written."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._written.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """zipfile calls it; nothing is held back here."""

    def take(self) -> bytes:
        data, self._written = b"".join(self._written), []
        return data


def zip_items(storage: Storage, items: Sequence[tuple[str, str, str]]) -> Iterator[bytes]:
    """Yield the zip of (sha256, label, media type): `000.png`, `000.txt`, …; empty labels have no text."""
    out = _Pieces()
    digits = max(3, len(str(len(items) - 1)))
    with zipfile.ZipFile(cast("IO[bytes]", out), "w") as archive:
        for number, (sha256, label, media_type) in enumerate(items):
            stem = f"{number:0{digits}d}"
            suffix = SUFFIXES.get(media_type, "jpg")
            info = zipfile.ZipInfo(f"{stem}.{suffix}", EPOCH)
            with archive.open(info, "w") as target:
                for chunk in storage.stream(blob_key(sha256)):
                    target.write(chunk)
                    yield out.take()
            if label:
                archive.writestr(zipfile.ZipInfo(f"{stem}.txt", EPOCH), label + "\n")
            yield out.take()
    yield out.take()
