"""Which files are films, told by their first bytes; free of libav, so that every process may ask."""

from contextlib import suppress

from app.datasets.normalise import Refused, recognise

_ATOMS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
"""First atoms of MP4 and of QuickTime before there was `ftyp`."""


def film_format(head: bytes) -> str | None:
    """libav's name of the format, from the first bytes; None for what is no film that is taken."""
    with suppress(Refused):
        recognise(head)
        return None
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    return "mov" if head[4:8] in _ATOMS else None
