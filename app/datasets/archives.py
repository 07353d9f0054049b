"""Zips of strangers, read entry by entry and never extracted by name.

The list of contents is measured before it is read, each entry is bounded by its ratio and by the
bytes that really come out, and what is not a plain file (links, encrypted, nested archives, names
that climb out of the folder) becomes an error of its own beside those that are taken.
"""

import stat
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from app.core.errors import is_disk_full

MAX_DIRECTORY_BYTES = 8 << 20
RATIO = 100
RATIO_FROM = 4 << 20
"""A picture hardly shrinks in a zip; what grows a hundredfold beyond this size is a bomb."""
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2}
CHUNK = 256 << 10
_END, _END64, _LOCATOR = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"


class BadArchive(Exception):
    """A whole zip or one entry that is not taken. `words` follow its name in a sentence."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(words)
        self.code = code
        self.words = words


@dataclass(frozen=True)
class Entry:
    """A plain file of a zip. `name` is its path inside, with forward slashes."""

    name: str
    info: zipfile.ZipInfo


DAMAGED = BadArchive(
    "zip-unreadable", "is not a zip that can be read; it is damaged or was cut off. Pack it again."
)


def is_zip(head: bytes) -> bool:
    return head.startswith((b"PK\x03\x04", _END))


def open_zip(path: Path, max_entries: int) -> zipfile.ZipFile:
    """The archive, after a look at how long its list of contents is. Errors: BadArchive."""
    try:
        with path.open("rb") as file:
            entries, directory = _directory_size(file)
        if entries > max_entries or directory > MAX_DIRECTORY_BYTES:
            raise BadArchive(
                "zip-too-many-files", f"holds more than {max_entries} files. Split it into smaller zips."
            )
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError) as error:
        raise DAMAGED from error


def _directory_size(file: BinaryIO) -> tuple[int, int]:
    """(entries, bytes) of the list of contents, all of which zipfile would take into memory."""
    size = file.seek(0, 2)
    start = max(0, size - 65_557 - 76)
    file.seek(start)
    tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) < at + 22:
        raise zipfile.BadZipFile("no end record")
    entries, directory = (
        int.from_bytes(tail[at + 10 : at + 12], "little"),
        int.from_bytes(tail[at + 12 : at + 16], "little"),
    )
    if at >= 20 and tail[at - 20 : at - 16] == _LOCATOR:
        file.seek(int.from_bytes(tail[at - 12 : at - 4], "little"))
        record = file.read(56)
        if not record.startswith(_END64):
            raise zipfile.BadZipFile("no zip64 record")
        entries, directory = int.from_bytes(record[32:40], "little"), int.from_bytes(record[40:48], "little")
    return entries, directory


def list_entries(archive: zipfile.ZipFile) -> Iterator[Entry | tuple[str, BadArchive]]:
    """Plain files in the order of their names, and (name, error) for what is refused by its entry alone."""
    seen: set[str] = set()
    for info in sorted(archive.infolist(), key=lambda i: i.filename):
        name = _name(info)
        if info.is_dir() or _is_chaff(name):
            continue
        error = _refusal(info, name, seen)
        seen.add(name.casefold())
        yield (name, error) if error else Entry(name, info)


def _name(info: zipfile.ZipInfo) -> str:
    """The name as its author saw it: UTF-8 also where the flag for it is missing, as some programs write."""
    name = info.filename
    if not info.flag_bits & 0x800:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/")


def _is_chaff(name: str) -> bool:
    """What operating systems leave in zips."""
    parts = name.split("/")
    return (
        parts[0] == "__MACOSX"
        or parts[-1].startswith(".")
        or parts[-1].lower() in ("thumbs.db", "desktop.ini")
    )


def _refusal(info: zipfile.ZipInfo, name: str, seen: set[str]) -> BadArchive | None:
    if name.startswith("/") or ".." in name.split("/") or name[1:2] == ":" or "\0" in name:
        return BadArchive("unsafe-name", "has a name that points outside the zip. It was left out.")
    mode = info.external_attr >> 16
    if mode and not stat.S_ISREG(mode) and stat.S_IFMT(mode):
        return BadArchive("zip-link", "is a link, not a file. Put the picture itself into the zip.")
    if info.flag_bits & 0x1:
        return BadArchive("zip-encrypted", "is locked with a password. Pack the zip again without one.")
    if info.compress_type not in METHODS:
        return BadArchive(
            "zip-method", "is packed in a way that is not read here. Pack it again as a plain zip."
        )
    if name.casefold() in seen:
        return BadArchive(
            "duplicate-name", "is in the zip twice under the same name. The first one was taken."
        )
    if info.file_size > RATIO_FROM and info.file_size > RATIO * max(1, info.compress_size):
        return BadArchive("zip-bomb", "unpacks to far more than a picture can. It was left out.")
    return None


class Budget:
    """Bytes that may still come out of one archive, whatever its headers promise."""

    def __init__(self, size: int) -> None:
        self.left = size

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise BadArchive("zip-bomb", "was left out, because the zip unpacks to more than is allowed.")


def extract(archive: zipfile.ZipFile, entry: Entry, target: Path, max_bytes: int, budget: Budget) -> int:
    """Write one entry to `target`, a path of ours; answers its bytes. Errors: BadArchive."""
    size = 0
    try:
        with archive.open(entry.info) as source, target.open("wb") as out:
            while chunk := source.read(CHUNK):
                size += len(chunk)
                budget.take(len(chunk))
                if size > max_bytes:
                    raise BadArchive("too-large", f"is larger than {max_bytes >> 20} MB. Make it smaller.")
                if size > RATIO_FROM and size > RATIO * max(1, entry.info.compress_size):
                    raise BadArchive("zip-bomb", "unpacks to far more than a picture can. It was left out.")
                out.write(chunk)
    except BadArchive:
        raise
    except Exception as error:  # zipfile, zlib and bz2 raise many kinds on damaged input
        if isinstance(error, OSError) and is_disk_full(error):
            raise
        raise BadArchive("zip-unreadable", "is damaged inside the zip. Pack it again.") from error
    return size
