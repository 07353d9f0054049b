"""Small pictures that carry texts the way other programs put them there."""

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(**texts: Any) -> bytes:
    """A PNG of 64 × 64 with one tEXt or iTXt chunk a keyword; what is no text is written as JSON."""
    chunks = PngImagePlugin.PngInfo()
    for keyword, text in texts.items():
        chunks.add_text(keyword.replace("__", "-"), text if isinstance(text, str) else json.dumps(text))
    out = io.BytesIO()
    Image.new("RGB", (64, 64), "green").save(out, "PNG", pnginfo=chunks)
    return out.getvalue()


def raw_png(*chunks: bytes) -> bytes:
    """A PNG of 64 × 64 with these chunks after the pixels."""
    whole = png()
    return whole[:-12] + b"".join(chunks) + whole[-12:]


def exif_picture(kind: str, *, comment: bytes = b"", **tags: str) -> bytes:
    """JPEG, WEBP or AVIF with a UserComment and tags of the first directory by their number in hex."""
    exif = Image.Exif()
    if comment:
        exif.get_ifd(0x8769)[0x9286] = comment
    for number, text in tags.items():
        exif[int(number[1:], 16)] = text
    out = io.BytesIO()
    Image.new("RGB", (64, 64), "green").save(out, kind, exif=exif.tobytes())
    return out.getvalue()


def written(folder: Path, content: bytes) -> Path:
    path = folder / "picture"
    path.write_bytes(content)
    return path
