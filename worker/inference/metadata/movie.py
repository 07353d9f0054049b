"""The texts that an MP4 or MOV file carries beside its pictures. Boxes are walked, nothing is decoded.

Three customs: iTunes' list (`©cmt`, `desc`), which most programs write, ours too; the list with names
of its own that ComfyUI writes; and QuickTime's old texts. Numbers of boxes and sizes are bounded.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from worker.inference.metadata.texts import COMMENT, DESCRIPTION, MAX_BYTES, Texts

MAX_BOXES = 5000
"""Looked at in one file."""
MAX_KEYS = 200
_ITUNES = {b"\xa9cmt": COMMENT, b"desc": DESCRIPTION, b"ldes": DESCRIPTION}
_NAMED = (COMMENT, DESCRIPTION, "prompt", "workflow", "parameters")
"""Names that a list may bring of its own, in any letters."""
_LARGE, _TO_THE_END = 1, 0
_UTF8 = 1


class Box(NamedTuple):
    """A box's kind, and where in the file its content begins and ends."""

    kind: bytes
    start: int
    end: int


def is_movie(path: Path) -> bool:
    """Told by the first bytes; AVIF and HEIC begin alike and are pictures."""
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError:
        return False
    brands = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")
    return head[4:8] in (b"ftyp", b"moov", b"wide") and head[8:12] not in brands


def movie_texts(path: Path) -> Texts:
    """Texts by keyword; none for what is no such file, whatever is wrong with it."""
    texts = Texts()
    with suppress(OSError):
        if is_movie(path):
            with path.open("rb") as file:
                _Walk(file, path.stat().st_size, texts).look()
    return texts


class _Walk:
    def __init__(self, file: BinaryIO, size: int, texts: Texts) -> None:
        self.file, self.size, self.texts = file, size, texts
        self.left = MAX_BOXES

    def look(self) -> None:
        """`moov` may stand before the pictures or after them."""
        for movie in self.named(Box(b"", 0, self.size), b"moov"):
            for box in self.inside(movie):
                if box.kind == b"udta":
                    self.user_data(box)
                elif box.kind == b"meta":
                    self.tags(box)
                elif box.kind == b"trak" and self.texts.size is None:
                    self.track(box)

    def inside(self, outer: Box) -> Iterator[Box]:
        """The boxes of a box. One that ends outside of it is the last that is seen, and is cut."""
        at = outer.start
        while at + 8 <= outer.end and self.left > 0:
            self.left -= 1
            head = self.read(at, 16)
            length, start = int.from_bytes(head[:4]), at + 8
            if length == _LARGE:
                length, start = int.from_bytes(head[8:16]), at + 16
            end = outer.end if length == _TO_THE_END else at + length
            if end < start:
                return
            yield Box(head[4:8], start, min(end, outer.end))
            at = end

    def named(self, outer: Box, kind: bytes) -> Iterator[Box]:
        return (box for box in self.inside(outer) if box.kind == kind)

    def read(self, start: int, length: int) -> bytes:
        self.file.seek(start)
        return self.file.read(length)

    def user_data(self, box: Box) -> None:
        for inner in self.inside(box):
            if inner.kind == b"meta":
                self.tags(inner)
            elif inner.kind in _ITUNES:  # QuickTime's own: length and language, 16 bits each
                length = int.from_bytes(self.read(inner.start, 2))
                self.keep(_ITUNES[inner.kind], inner.start + 4, min(inner.start + 4 + length, inner.end))

    def tags(self, meta: Box) -> None:
        """A list of texts. MP4 has four bytes before its boxes, QuickTime has not."""
        plain = self.read(meta.start, 8)[4:] in (b"hdlr", b"keys", b"ilst")
        inside = list(self.inside(meta if plain else meta._replace(start=meta.start + 4)))
        names = [name for box in inside if box.kind == b"keys" for name in self.keys(box)]
        for tags in (box for box in inside if box.kind == b"ilst"):
            for tag in self.inside(tags):
                number = int.from_bytes(tag.kind)
                keyword = names[number - 1] if 0 < number <= len(names) else _ITUNES.get(tag.kind)
                if keyword in (*_NAMED, *_ITUNES.values()):
                    self.value(keyword, tag)

    def keys(self, box: Box) -> list[str]:
        """Names of the tags, which are then numbered from 1."""
        found = []
        for key in self.inside(box._replace(start=box.start + 8)):
            name = self.read(key.start, min(key.end - key.start, 80)).decode("utf-8", "replace")
            found.append(name.lower().removeprefix("com.apple.quicktime."))
            if len(found) == MAX_KEYS:
                break
        return found

    def value(self, keyword: str, tag: Box) -> None:
        for data in self.named(tag, b"data"):
            if int.from_bytes(self.read(data.start, 4)) == _UTF8:
                self.keep(keyword, data.start + 8, data.end)

    def keep(self, keyword: str, start: int, end: int) -> None:
        """What is longer than 2 MiB is not read: cut JSON would say nothing."""
        if 0 < end - start <= MAX_BYTES:
            self.texts.keep(keyword, self.read(start, end - start).decode("utf-8", "replace"))

    def track(self, box: Box) -> None:
        """Width and height stand at the end of a track's header, with 16 bits of fraction; sound has none."""
        for head in self.named(box, b"tkhd"):
            width, height = (int.from_bytes(self.read(head.end - back, 4)) >> 16 for back in (8, 4))
            if width and height:
                self.texts.size = width, height
