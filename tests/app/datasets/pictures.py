"""Files as people send them, made here: pictures of every kind, zips good and bad."""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterable
from random import Random
from typing import Any

from PIL import Image, ImageDraw

GPS = {0: b"\x02\x03\x00\x00", 1: "N", 2: (43.0, 28.0, 2.0), 3: "E", 4: (11.0, 53.0, 6.0)}


def draw(number: int = 0, size: tuple[int, int] = (96, 80), mode: str = "RGB") -> Image.Image:
    """A different scene for each number, with enough in it to tell them apart."""
    random = Random(number)
    image = Image.new("RGB", size, (random.randrange(256), random.randrange(256), random.randrange(256)))
    pen = ImageDraw.Draw(image)
    for _ in range(12):
        x, y = random.randrange(size[0]), random.randrange(size[1])
        colour = (random.randrange(256), random.randrange(256), random.randrange(256))
        pen.rectangle((x, y, x + size[0] // 3, y + size[1] // 4), fill=colour)
    return image.convert(mode)


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    if form in ("HEIF", "HEIC"):
        from pillow_heif import register_heif_opener

        register_heif_opener()
        form = "HEIF"
    image.save(out, form, **options)
    return out.getvalue()


def png(number: int = 0, size: tuple[int, int] = (96, 80)) -> bytes:
    return encoded(draw(number, size))


def jpeg_with_place(number: int = 0, orientation: int = 6) -> bytes:
    """A JPEG as a phone writes it: on its side, with the place where it was taken."""
    image = draw(number, (120, 80))
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "SecretCamera"
    exif.get_ifd(0x8825).update(GPS)
    return encoded(image, "JPEG", exif=exif, comment=b"SecretComment")


def huge_png(width: int = 50_000, height: int = 50_000) -> bytes:
    """A PNG of a few hundred bytes that says it has 2.5 thousand million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def zipped(files: Iterable[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return out.getvalue()


def zip_with_link(name: str, target: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.create_system = 3
        info.external_attr = 0o120777 << 16
        archive.writestr(info, target)
    return out.getvalue()


def encrypted(data: bytes) -> bytes:
    """The same zip with the flag that says: locked with a password."""
    changed = bytearray(data)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = changed.find(signature)
        while at >= 0:
            changed[at + offset] |= 1
            at = changed.find(signature, at + 4)
    return bytes(changed)
