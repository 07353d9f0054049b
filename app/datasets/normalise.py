"""One picture as it came → one picture as it is trained on. Runs only inside the decoder's child process.

Recognised by content, refused before decoding when too large, turned upright, scaled to the
limit, brought to sRGB, flattened on white, saved anew: no metadata of the source survives.
"""

import io
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageCms, ImageFilter, ImageStat

from app.core.errors import is_disk_full

THUMB_SIDE = 384
KEEP_LOSSLESS_PIXELS = 1_000_000
"""Up to this size every picture is kept as PNG; above it only what came as PNG."""
SMALL_SIDE = 512
BLUR_SIDE = 512
BLUR_VARIANCE = 18.0
ODD_ASPECT = 2.0
ORIENTATION = 0x0112

Transpose = Image.Transpose
TURNS: dict[int, Transpose] = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


class Refused(Exception):
    """This file does not become a picture. `words` follow the file's name in a sentence."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(words)
        self.code = code
        self.words = words


@dataclass(frozen=True)
class Limits:
    """Pixels of the whole picture, and of its sides."""

    pixels: int = 50_000_000
    min_side: int = 64
    max_side: int = 2048


@dataclass
class Normalised:
    """What was written to the output folder: `picture.<format>` (or `clip.mp4`) and `thumb.webp`."""

    width: int
    height: int
    format: str
    dhash: int
    warnings: list[str] = field(default_factory=list)
    clip: dict[str, float] | None = None
    """`{fps, frames, duration}` of a clip; `strip.webp` lies beside it."""


UNREADABLE = "cannot be read; it is damaged or was cut off. Export it as JPEG or PNG and add it again."
NO_ROOM = "could not be kept: the server's disk is full. Delete something, then add it again."
NOT_SUPPORTED = "is {kind}, which is not taken here. Export it as JPEG or PNG."
_MOVES = (
    "is {kind}, and this set holds pictures. Add single frames of it as JPEG or PNG, "
    "or make a data set of clips for it."
)
_OTHER_KINDS: list[tuple[Callable[[bytes], bool], str]] = [
    (lambda h: h.startswith(b"BM"), "a BMP"),
    (lambda h: h.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")), "a TIFF or camera raw file"),
    (lambda h: h.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")), "JPEG XL"),
    (lambda h: h.startswith((b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")), "JPEG 2000"),
    (lambda h: h.startswith(b"8BPS"), "a Photoshop file"),
    (lambda h: h.startswith(b"%PDF"), "a PDF"),
    (lambda h: h.startswith((b"PK\x03\x04", b"Rar!", b"7z\xbc\xaf", b"\x1f\x8b")), "an archive"),
    (lambda h: b"<svg" in h.lower(), "an SVG drawing"),
]
_WEB_PAGE = (b"<!doctype", b"<html", b"<head")


def recognise(head: bytes) -> str:
    """Pillow's name of the format, from the first bytes. Raises Refused, in words, for everything else."""
    if not head:
        raise Refused("empty-file", "is empty (0 bytes). Copy it again from where it came.")
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        brands = head[8 : max(16, int.from_bytes(head[:4], "big"))]
        if b"avif" in brands or b"avis" in brands:
            return "AVIF"
        if any(brand in brands for brand in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")):
            return "HEIF"
    if head.startswith((b"GIF87a", b"GIF89a")):
        raise Refused("unsupported-format", _MOVES.format(kind="a GIF"))
    if head[4:8] == b"ftyp" or head.startswith(b"\x1a\x45\xdf\xa3"):
        raise Refused("unsupported-format", _MOVES.format(kind="a video"))
    for matches, kind in _OTHER_KINDS:
        if matches(head):
            raise Refused("unsupported-format", NOT_SUPPORTED.format(kind=kind))
    if is_web_page(head):
        raise Refused("unsupported-format", "is a web page, not a picture. Save the picture itself.")
    raise Refused(
        "not-a-picture", "is not a picture that can be read. JPEG, PNG, WebP, HEIC and AVIF are taken."
    )


def is_web_page(head: bytes) -> bool:
    return head.lstrip(b"\xef\xbb\xbf \r\n\t").lower().startswith(_WEB_PAGE)


def normalise(source: Path, out: Path, limits: Limits) -> Normalised:
    """Decode `source` and write its normal form and thumbnail into `out`. Raises Refused."""
    with source.open("rb") as file:
        kind = recognise(file.read(512))
    if kind == "HEIF":
        from pillow_heif import register_heif_opener

        register_heif_opener(thumbnails=False)
    try:
        with Image.open(source, formats=[kind]) as image:
            check_size(image.size, limits)
            return save_picture(_upright_rgb(image, kind, limits), kind, out, limits)
    except Refused:
        raise
    except MemoryError as error:
        raise Refused(
            "image-too-large", "needs more memory than one picture may take. Make it smaller."
        ) from error
    except Exception as error:  # decoders raise anything on damaged input
        if isinstance(error, OSError) and is_disk_full(error):
            raise Refused("disk-full", NO_ROOM) from error
        raise Refused("image-unreadable", UNREADABLE) from error


def check_size(size: tuple[int, int], limits: Limits) -> None:
    """Raise Refused by the header alone, before a pixel is decoded."""
    width, height = size
    if width * height > limits.pixels:
        raise Refused(
            "image-too-large",
            f"has {width * height / 1e6:,.0f} million pixels; at most {limits.pixels / 1e6:.0f} million "
            "are taken. Make it smaller.",
        )
    if min(width, height) < limits.min_side:
        raise Refused(
            "image-too-small",
            f"is {width} × {height} pixels; each side needs at least {limits.min_side}. Use a larger copy.",
        )
    after_scaling = min(width, height) * limits.max_side / max(width, height)
    if max(width, height) > limits.max_side and after_scaling < limits.min_side:
        raise Refused(
            "image-too-small", f"is {width} × {height} pixels, too long and narrow to train on. Crop it."
        )


@dataclass
class Step:
    """A picture under way, and what was noticed so far."""

    image: Image.Image
    original: tuple[int, int]
    warnings: list[str]


def _upright_rgb(image: Image.Image, kind: str, limits: Limits) -> Step:
    """Load, scale, turn, bring to sRGB, flatten: in that order, so that only loading needs the full size."""
    warnings = ["animated"] if getattr(image, "n_frames", 1) > 1 and kind != "JPEG" else []
    orientation = _orientation(image)
    profile = image.info.get("icc_profile")
    original = image.size
    if kind == "JPEG":
        image.draft(None, (limits.max_side, limits.max_side))
    image.load()
    if image.mode in ("P", "PA", "1") or "transparency" in image.info:
        image = image.convert("RGBA" if "transparency" in image.info or image.mode == "PA" else "RGB")
    if max(original) > limits.max_side:
        warnings.append("scaled-down")
        image.thumbnail((limits.max_side, limits.max_side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    if orientation in TURNS:
        image = image.transpose(TURNS[orientation])
    if orientation >= 5:
        original = (original[1], original[0])
    image, flattened = _flatten(_to_srgb(image, profile))
    return Step(image, original, warnings + (["alpha-flattened"] if flattened else []))


def _orientation(image: Image.Image) -> int:
    with suppress(Exception):  # broken EXIF is no reason to refuse a picture
        return int(image.getexif().get(ORIENTATION, 1))
    return 1


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB or RGBA, 8 bits, by the embedded colour profile where there is a usable one."""
    if image.mode.startswith("I"):
        return _from_deep(image).convert("RGB")
    alpha = image.convert("RGBA").getchannel("A") if image.mode in ("LA", "La", "RGBa", "RGBA") else None
    colour = image.convert({"LA": "L", "La": "L", "RGBA": "RGB", "RGBa": "RGB"}.get(image.mode, image.mode))
    rgb = _by_profile(colour, profile) or colour.convert("RGB")
    if alpha is not None:
        rgb.putalpha(alpha)
    return rgb


def _from_deep(image: Image.Image) -> Image.Image:
    """16 bits of grey → 8."""
    return image.convert("F").point(lambda value: value * (255.0 / 65535.0) + 0.0).convert("L")


def _by_profile(image: Image.Image, profile: bytes | None) -> Image.Image | None:
    if not profile or image.mode not in ("RGB", "CMYK", "L"):
        return None
    with suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    return None


def _flatten(image: Image.Image) -> tuple[Image.Image, bool]:
    """(picture on white, was anything see-through?)"""
    if image.mode != "RGBA":
        return image.convert("RGB"), False
    clear = image.getchannel("A").histogram()[:255]
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB"), any(clear)


def save_picture(step: Step, kind: str, out: Path, limits: Limits) -> Normalised:
    """Write the picture and its thumbnail. Raises Refused by the size that is left."""
    # A fresh image: nothing of the source's info dictionary can be saved along.
    image = Image.new("RGB", step.image.size)
    image.paste(step.image)
    check_size(image.size, limits)
    width, height = image.size
    lossless = kind == "PNG" or width * height <= KEEP_LOSSLESS_PIXELS
    form = "png" if lossless else "jpeg"
    if lossless:
        image.save(out / "picture.png", "PNG", compress_level=4)
    else:
        image.save(out / "picture.jpeg", "JPEG", quality=95, subsampling=0)
    save_thumb(image, out)
    return Normalised(width, height, form, dhash(image), step.warnings + hints(image, step.original))


def save_thumb(image: Image.Image, out: Path) -> None:
    thumb = image.copy()
    thumb.thumbnail((THUMB_SIDE, THUMB_SIDE), Image.Resampling.LANCZOS)
    thumb.save(out / "thumb.webp", "WEBP", quality=80, method=4)


def hints(image: Image.Image, original: tuple[int, int]) -> list[str]:
    """Codes of what a person may want to know before training on this picture."""
    width, height = original
    found = []
    if min(width, height) < SMALL_SIDE:
        found.append("small")
    if width * height < SMALL_SIDE * SMALL_SIDE / 2:
        found.append("enlarged")
    if max(width, height) > ODD_ASPECT * min(width, height):
        found.append("odd-aspect")
    if max(image.size) >= BLUR_SIDE and sharpness(image) < BLUR_VARIANCE:
        found.append("blurry")
    return found


def sharpness(image: Image.Image) -> float:
    """Variance of the Laplacian at a fixed scale: low for what is out of focus, and for what is flat."""
    grey = image.convert("L")
    grey.thumbnail((BLUR_SIDE, BLUR_SIDE), Image.Resampling.BILINEAR)
    laplacian = grey.filter(ImageFilter.Kernel((3, 3), (0, 1, 0, 1, -4, 1, 0, 1, 0), scale=1, offset=128))
    inner = laplacian.crop((1, 1, laplacian.width - 1, laplacian.height - 1))
    return float(ImageStat.Stat(inner).var[0])


def dhash(image: Image.Image) -> int:
    """64-bit difference hash as a signed integer, as Postgres' bigint holds it."""
    pixels = image.convert("L").resize((9, 8), Image.Resampling.BILINEAR).tobytes()
    bits = 0
    for row in range(8):
        for column in range(8):
            at = row * 9 + column
            bits = bits << 1 | (pixels[at] < pixels[at + 1])
    return bits - (1 << 64) if bits >= 1 << 63 else bits
