"""The texts that a picture carries, by their keyword: PNG chunks, EXIF, comments, XMP. Nothing is parsed.

A PNG is walked by its own chunks, because text may stand after the pixels and those need not be
decoded. Sizes are bounded: 2 MiB a text (the graphs of ComfyUI are that large), 8 MiB together.
"""

import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from worker.inference.metadata.infotext import MAX_TEXT

MAX_BYTES = 2 << 20
MAX_TOTAL = 8 << 20
MAX_CHUNKS = 20_000
PNG = b"\x89PNG\r\n\x1a\n"
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF")
DAMAGED = (
    OSError, EOFError, SyntaxError, ValueError, KeyError, TypeError, IndexError, struct.error,
    Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow raises for files that are none, cut off or made to hurt."""
_EXIF_IFD, _USER_COMMENT, _SOFTWARE = 0x8769, 0x9286, 0x0131
_DESCRIPTIONS = (0x010E, 0x010F, 0x0110)
"""ImageDescription, Make, Model: ComfyUI's WebP puts `prompt:{…}` and `workflow:{…}` there."""
USER_COMMENT, COMMENT, SOFTWARE, XMP, DESCRIPTION = "UserComment", "comment", "Software", "xmp", "description"


def is_picture(path: Path) -> bool:
    """Told by the first bytes, for the formats that can carry texts."""
    with path.open("rb") as file:
        head = file.read(16)
    starts = (PNG, b"\xff\xd8\xff", b"GIF87a", b"GIF89a")
    return head.startswith(starts) or head[8:12] == b"WEBP" or head[4:12] in (b"ftypavif", b"ftypavis")


class Texts(dict[str, str]):
    """Keyword → text, the first of each; and the size of the picture in pixels where it is known."""

    size: tuple[int, int] | None = None
    _total = 0

    def keep(self, keyword: str, text: str | None) -> None:
        if text and keyword not in self and self._total + len(text) <= MAX_TOTAL:
            self._total += len(text)
            self[keyword] = text


def file_texts(path: Path) -> Texts:
    """Texts of a file; none for what is no picture of FORMATS."""
    try:
        with path.open("rb") as file:
            if file.read(8) == PNG:
                return _png_texts(file)
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as picture:
            return picture_texts(picture)
    except DAMAGED:
        return Texts()


def picture_texts(picture: Image.Image) -> Texts:
    """Texts of an opened picture, which need not be decoded."""
    texts = Texts()
    texts.size = picture.size
    for key, value in list(picture.info.items()):
        if isinstance(key, str) and isinstance(value, str):
            texts.keep(key, _repaired(value[:MAX_BYTES]))
        elif key in (COMMENT, XMP) and isinstance(value, bytes):
            texts.keep(key, value[:MAX_BYTES].decode("utf-8", "replace"))
    for keyword, text in _exif_texts(picture):
        texts.keep(keyword, text)
    return texts


# PNG


def _png_texts(file: BinaryIO) -> Texts:
    texts = Texts()
    for kind, length in _chunks(file):
        if kind == b"IHDR" and length == 13:
            texts.size = struct.unpack(">II", file.read(13)[:8])
        elif kind in (b"tEXt", b"zTXt", b"iTXt") and length <= MAX_BYTES:
            texts.keep(*_chunk_text(kind, file.read(length)))
        elif kind == b"eXIf" and length <= MAX_BYTES:
            exif = Image.Exif()
            with warnings.catch_warnings(action="ignore"):
                _load(exif, file.read(length))
            for keyword, text in _tags(exif):
                texts.keep(keyword, text)
    return texts


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Kind and length of each chunk, the file standing at its data."""
    at = len(PNG)
    for _ in range(MAX_CHUNKS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            return
        length = int.from_bytes(head[:4])
        yield head[4:], length
        at += 12 + length


def _chunk_text(kind: bytes, data: bytes) -> tuple[str, str]:
    """Keyword and text; the text is empty where the chunk is damaged or unpacks to too much."""
    keyword, _, rest = data.partition(b"\0")
    name = keyword[:79].decode("latin-1")
    if kind == b"tEXt":
        return name, _latin(rest)
    if kind == b"zTXt":
        return name, _latin(_unpacked(rest[1:]))
    packed, rest = rest[:1] == b"\1", rest[2:]
    body = rest.partition(b"\0")[2].partition(b"\0")[2]  # after language and translated keyword
    return name, (_unpacked(body) if packed else body).decode("utf-8", "replace")


def _unpacked(data: bytes) -> bytes:
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(data, MAX_BYTES)
    except zlib.error:
        return b""
    return b"" if unpacker.unconsumed_tail else text


def _latin(data: bytes) -> str:
    """A chunk of Latin-1, into which many programs put UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _repaired(text: str) -> str:
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


# EXIF


def _load(exif: Image.Exif, data: bytes) -> None:
    try:
        exif.load(data)
    except DAMAGED:
        exif.clear()


def _exif_texts(picture: Image.Image) -> list[tuple[str, str]]:
    with warnings.catch_warnings(action="ignore"):  # damaged EXIF says nothing
        try:
            return list(_tags(picture.getexif()))
        except DAMAGED:
            return []


def _tags(exif: Image.Exif) -> Iterator[tuple[str, str]]:
    """UserComment stands in the IFD of EXIF; Fooocus puts it into the first one."""
    for comment in (_ifd(exif).get(_USER_COMMENT), exif.get(_USER_COMMENT)):
        if comment:
            yield USER_COMMENT, user_comment(comment)
    yield SOFTWARE, _plain(exif.get(_SOFTWARE))
    for tag in _DESCRIPTIONS:
        text = _plain(exif.get(tag))
        keyword, colon, body = text.partition(":")
        named = colon and keyword.strip().lower() in ("prompt", "workflow")
        if named and body.lstrip().startswith("{"):
            yield keyword.strip().lower(), body
        elif tag == _DESCRIPTIONS[0]:
            yield DESCRIPTION, text


def _ifd(exif: Image.Exif) -> dict[int, Any]:
    try:
        return exif.get_ifd(_EXIF_IFD)
    except DAMAGED:
        return {}


def _plain(value: object) -> str:
    if isinstance(value, bytes):
        value = value[:MAX_BYTES].decode("utf-8", "replace")
    return _repaired(value[:MAX_BYTES]).strip("\0 ") if isinstance(value, str) else ""


def user_comment(value: object) -> str:
    """EXIF UserComment: `UNICODE` is UTF-16 of either byte order, everything else is tried as UTF-8."""
    if not isinstance(value, bytes):
        return _plain(value)
    raw = value[:MAX_BYTES]
    body = raw[8:]
    if raw.startswith(b"UNICODE"):
        little = body.startswith(b"\xff\xfe") or body[1::2].count(0) > body[0::2].count(0)
        text = body.decode("utf-16-le" if little else "utf-16-be", errors="replace")
    elif raw.startswith((b"ASCII\0", b"JIS\0", b"\0\0\0\0\0\0\0\0")):
        text = body.decode("utf-8", errors="replace")
    else:
        text = raw.decode("utf-8", errors="replace")
    return text.strip("\0\ufeff \n")


def xmp_comment(xmp: str) -> str:
    """The EXIF UserComment inside of XMP, where Draw Things puts its JSON."""
    start = xmp.find("<exif:UserComment")
    end = xmp.find("</exif:UserComment>", start)
    if start < 0 or end < 0:
        return ""
    body = xmp[start:end]
    opened, closed = body.find("{"), body.rfind("}")
    return unescape(re.sub(r"</?rdf:[^<>]{0,200}>", "", body[opened : closed + 1])) if opened >= 0 else ""


def find_text(picture: Image.Image) -> str | None:
    """The `parameters` text of an opened picture as written: PNG chunk or EXIF comment; at most 64 KiB."""
    texts = picture_texts(picture)
    text = texts.get("parameters") or texts.get(USER_COMMENT)
    return text[:MAX_TEXT] if text else None
