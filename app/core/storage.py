"""Objects behind a small port: a local folder, S3 or memory, all through obstore.

Finished bytes lie under `blobs/<sha256>` and never change; a running job writes below
`jobs/<id>/<fence>/`. The web process serves the bytes itself: signed links of the store would
carry neither our file names nor our headers.
"""

import errno
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, MemoryStore, ObjectStore, from_url

from app.core.config import Settings, get_settings
from app.core.errors import DiskFull, is_disk_full

CHUNK = 1 << 20
COPY_BYTES = 5 << 30
"""The most that S3 copies in one call; a larger object passes through here."""
FULL_DISK = "os error 28"
"""How obstore's messages name ENOSPC; its exceptions carry no number."""


class Storage(Protocol):
    """The verbs that the product needs. Keys are slash paths; a missing key is FileNotFoundError."""

    def put(self, key: str, data: bytes | Path | Iterator[bytes]) -> None: ...
    def scratch(self, key: str) -> AbstractContextManager[Path]: ...
    def take(self, key: str, path: Path) -> None: ...
    def get(self, key: str) -> bytes: ...
    def stream(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]: ...
    def fetch(self, key: str, target: Path) -> None: ...
    def size(self, key: str) -> int | None: ...
    def delete(self, keys: list[str]) -> None: ...
    def copy(self, source: str, target: str) -> None: ...
    def list(self, prefix: str) -> Iterator[tuple[str, int]]: ...
    def local_path(self, key: str) -> Path | None: ...
    def free_bytes(self) -> int | None: ...


class ObjectStorage:
    """`Storage` over any obstore store. `root` is set for the local folder only."""

    def __init__(self, store: ObjectStore, root: Path | None = None) -> None:
        self._store = store
        self._root = root

    def put(self, key: str, data: bytes | Path | Iterator[bytes]) -> None:
        """Write whole or not at all; files and iterators are streamed, so their size does not matter.

        Errors: DiskFull.
        """
        with told_of_full_disk():
            if isinstance(data, bytes | Path):
                obstore.put(self._store, key, data)
                return
            # Not obstore.put: it would call the iterator inside its runtime, where no other call works.
            writer = obstore.open_writer(self._store, key)
            for chunk in data:
                writer.write(chunk)
            writer.close()

    @contextmanager
    def scratch(self, key: str) -> Iterator[Path]:
        """A path to write what will become `key`: beside it where the store is a folder. Gone at the end."""
        beside = self.local_path(f"{key}.{secrets.token_hex(4)}.part")
        if beside is None:
            with tempfile.TemporaryDirectory(prefix="bottega-") as folder:
                yield Path(folder) / "scratch"
            return
        beside.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield beside
        finally:
            beside.unlink(missing_ok=True)

    def take(self, key: str, path: Path) -> None:
        """Keep a file that its writer no longer needs, by renaming it where that is possible.

        Errors: DiskFull.
        """
        target = self.local_path(key)
        if target is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                path.replace(target)
                return
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
        self.put(key, path)
        path.unlink()

    def get(self, key: str) -> bytes:
        return bytes(obstore.get(self._store, key).bytes())

    def stream(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield bytes [start, end) in chunks of about 1 MiB."""
        path = self.local_path(key)
        if path is not None:
            yield from _read(path, start, end)
            return
        stop = self.size(key) if end is None else end
        if stop is None:
            raise FileNotFoundError(key)
        for at in range(start, stop, CHUNK):
            yield bytes(obstore.get_range(self._store, key, start=at, end=min(at + CHUNK, stop)))

    def fetch(self, key: str, target: Path) -> None:
        """Copy an object to a local file; the file appears under its name only when complete."""
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        with part.open("wb") as out:
            for chunk in obstore.get(self._store, key).stream(min_chunk_size=CHUNK):
                out.write(bytes(chunk))
        part.replace(target)

    def size(self, key: str) -> int | None:
        """Bytes of the object, None when there is none."""
        try:
            return int(obstore.head(self._store, key)["size"])
        except FileNotFoundError:
            return None

    def delete(self, keys: list[str]) -> None:
        """Remove objects; one that is already gone is no error."""
        for key in keys:
            try:
                obstore.delete(self._store, key)
            except FileNotFoundError:
                continue

    def copy(self, source: str, target: str) -> None:
        if self._root is None and (self.size(source) or 0) > COPY_BYTES:
            self.put(target, self.stream(source))
            return
        with told_of_full_disk():
            obstore.copy(self._store, source, target)

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield (key, bytes) of every object below `prefix`."""
        for batch in obstore.list(self._store, prefix):
            for meta in batch:
                yield meta["path"], int(meta["size"])

    def local_path(self, key: str) -> Path | None:
        """The file itself when the store is a local folder."""
        return None if self._root is None else self._root / key

    def free_bytes(self) -> int | None:
        """Free disk space; None where the store has no such figure."""
        return None if self._root is None else shutil.disk_usage(self._root).free


def _read(path: Path, start: int, end: int | None) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while chunk := file.read(CHUNK if end is None else max(0, min(CHUNK, end - file.tell()))):
            yield chunk


@contextmanager
def told_of_full_disk() -> Iterator[None]:
    """Turns a write's failure for want of room into DiskFull."""
    try:
        yield
    except (BaseError, OSError) as error:
        if FULL_DISK in str(error) or (isinstance(error, OSError) and is_disk_full(error)):
            words = "The server's disk is full. Delete something or ask the admin for more space."
            raise DiskFull(words) from error
        raise


def open_storage(settings: Settings) -> ObjectStorage:
    """Storage for `STORAGE_URL`. Errors: ValueError for a scheme that is not known."""
    url = settings.storage_url
    if url.startswith("file://"):
        root = Path(url.removeprefix("file://"))
        root.mkdir(parents=True, exist_ok=True, mode=0o700)  # private pictures, on a machine of many
        return ObjectStorage(LocalStore(prefix=str(root), automatic_cleanup=True), root)
    if url.startswith("memory:"):
        return ObjectStorage(MemoryStore())
    if url.startswith("s3://"):
        options: dict[str, Any] = {"region": settings.storage.s3_region}
        if settings.storage.s3_endpoint:
            options["endpoint"] = settings.storage.s3_endpoint
            # A bucket in the same network often speaks plain http; whoever writes that address means it.
            options["client_options"] = {"allow_http": settings.storage.s3_endpoint.startswith("http://")}
        return ObjectStorage(from_url(url, **options))
    raise ValueError(f"STORAGE_URL must begin with file://, s3:// or memory:, not {url.split(':')[0]}:")


@lru_cache
def get_storage() -> ObjectStorage:
    return open_storage(get_settings())
