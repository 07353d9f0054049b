"""What may go into a set of clips: films by their content, and pictures, each a clip of one frame."""

from pathlib import Path

from app.datasets.clip import ClipLimits, normalise_clip
from app.datasets.kinds import film_format
from app.datasets.normalise import Limits, Normalised, Refused, is_web_page, normalise, recognise

_OTHER_KINDS = [
    (b"RIFF", "an AVI video"), (b"\x30\x26\xb2\x75", "a WMV video"), (b"FLV\x01", "a Flash video"),
    (b"\0\0\x01\xba", "an MPEG video"), (b"\0\0\x01\xb3", "an MPEG video"), (b"OggS", "an Ogg file"),
    (b"ID3", "a sound file"), (b"fLaC", "a sound file"), (b"BM", "a BMP"), (b"%PDF", "a PDF"),
    (b"Rar!", "an archive"), (b"7z\xbc\xaf", "an archive"), (b"\x1f\x8b", "an archive"),
]  # fmt: skip
NOT_A_CLIP = "is not a clip that can be read. MP4, WebM, MOV, GIF and pictures are taken."


def normalise_either(source: Path, out: Path, picture: Limits, clip: ClipLimits) -> Normalised:
    """One file of a set of clips, by its content and never by its name. Raises Refused."""
    with source.open("rb") as file:
        head = file.read(512)
    form = film_format(head)
    if form is not None:
        return normalise_clip(source, form, out, clip)
    try:
        recognise(head)
    except Refused as refused:
        raise _refusal(head, refused) from None
    return normalise(source, out, picture)


def _refusal(head: bytes, found: Refused) -> Refused:
    """The same refusal in words for clips."""
    if not head:
        return found
    if is_web_page(head):
        return Refused("unsupported-format", "is a web page, not a clip. Save the clip itself.")
    for start, kind in _OTHER_KINDS:
        if head.startswith(start):
            words = f"is {kind}, which is not taken here. Export clips as MP4 (H.264)."
            return Refused("unsupported-format", words)
    return Refused("not-a-clip", NOT_A_CLIP)
