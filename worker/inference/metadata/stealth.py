"""Generation data in the lowest bits of the alpha channel, as Forge, SwarmUI and NovelAI can hide it.

One bit a pixel, column after column: 15 letters that tell the kind, 32 bits with the length in bits,
then the text or its gzip. Only read, never written; pictures above four million pixels are left alone.
"""

import zlib

from PIL import Image

from worker.inference.metadata.texts import MAX_BYTES

PLAIN, PACKED = b"stealth_pnginfo", b"stealth_pngcomp"
MAX_PIXELS = 4 << 20
_HEAD = 8 * len(PLAIN)
_LOWEST = bytes(b"01"[value & 1] for value in range(256))
_GZIP = 31
"""zlib's number for a stream with gzip's header."""


def stealth_text(picture: Image.Image) -> str | None:
    """The hidden text; None without. Decodes the picture."""
    if "A" not in picture.getbands() or picture.width * picture.height > MAX_PIXELS:
        return None
    alpha = picture.getchannel("A").transpose(Image.Transpose.TRANSPOSE).tobytes().translate(_LOWEST)
    head, length = _packed(alpha[:_HEAD]), int.from_bytes(_packed(alpha[_HEAD : _HEAD + 32])) // 8
    if head not in (PLAIN, PACKED) or not 0 < length <= MAX_BYTES:
        return None
    data = _packed(alpha[_HEAD + 32 : _HEAD + 32 + 8 * length])
    if head == PACKED:
        try:
            unpacker = zlib.decompressobj(_GZIP)
            data = unpacker.decompress(data, MAX_BYTES)
        except zlib.error:
            return None
    return data.decode("utf-8", "replace")


def _packed(bits: bytes) -> bytes:
    """`01000001…` → bytes; what is left over after the last whole one is dropped."""
    whole = len(bits) // 8
    return int(bits[: 8 * whole], 2).to_bytes(whole) if whole else b""
