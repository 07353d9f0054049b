"""Files without what they tell about their making: the pixels stay, texts, EXIF and time go."""

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TELLING = (b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"tIME")
MOVIE_TELLING = (b"udta", b"meta", b"uuid")
MOVIE_PARTS = (b"moov", b"trak")
FREE = b"free"


def without_texts(data: bytes) -> bytes:
    """Of a PNG or an MP4; what is neither comes back as it is."""
    if data.startswith(SIGNATURE):
        return _png(data)
    return _movie(data) if data[4:8] == b"ftyp" else data


def _png(png: bytes) -> bytes:
    """What stands after its end is dropped too."""
    kept, at = [SIGNATURE], len(SIGNATURE)
    while at + 8 <= len(png):
        end = at + 12 + int.from_bytes(png[at : at + 4])
        kind = png[at + 4 : at + 8]
        if kind not in TELLING:
            kept.append(png[at:end])
        at = len(png) if kind == b"IEND" else end
    return b"".join(kept)


def _movie(movie: bytes) -> bytes:
    """Its boxes of texts become free space of the same size: its tables name places in the file."""
    plain = bytearray(movie)
    _empty(plain, 0, len(plain))
    return bytes(plain)


def _empty(movie: bytearray, at: int, end: int) -> None:
    while at + 8 <= end:
        length, kind, head = int.from_bytes(movie[at : at + 4]), bytes(movie[at + 4 : at + 8]), 8
        if length == 1:
            length, head = int.from_bytes(movie[at + 8 : at + 16]), 16
        stop = min(at + length, end) if length else end
        if stop < at + head:
            return
        if kind in MOVIE_TELLING:
            movie[at + 4 : at + 8] = FREE
            movie[at + head : stop] = bytes(stop - at - head)
        elif kind in MOVIE_PARTS:
            _empty(movie, at + head, stop)
        at = stop
