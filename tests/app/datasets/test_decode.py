"""The bounded decoder: every format that is taken, every file that is not, and that the process lives."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from app.datasets.decode import Decoded, Decoder, PictureLimits, Undecodable
from tests.app.datasets.pictures import draw, encoded, huge_png, jpeg_with_place, png, zipped

Decode = Callable[..., Decoded]
LIMITS = PictureLimits(pixels=50_000_000, min_side=64, max_side=2048)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    made = Decoder(LIMITS)
    yield made
    made.close()


@pytest.fixture
def decode(decoder: Decoder, tmp_path: Path) -> Decode:
    def run(data: bytes, by: Decoder = decoder) -> Decoded:
        source = tmp_path / "source"
        source.write_bytes(data)
        return by.decode(source, tmp_path)

    return run


def refusal(decode: Decode, data: bytes) -> Undecodable:
    with pytest.raises(Undecodable) as caught:
        decode(data)
    return caught.value


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF", "HEIF"])
def test_formats_that_people_have(decode: Decode, form: str) -> None:
    done = decode(encoded(draw(1), form))
    assert (done.width, done.height, done.media_type) == (96, 80, "image/png")
    with Image.open(done.picture) as image, Image.open(done.thumb) as thumb:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (96, 80))
        assert thumb.format == "WEBP"


def test_a_phone_picture_is_turned_and_forgets_where_it_was(decode: Decode) -> None:
    done = decode(jpeg_with_place(2, orientation=6))
    assert (done.width, done.height) == (80, 120)
    for path in (done.picture, done.thumb):
        data = path.read_bytes()
        assert b"Secret" not in data
        assert b"Exif" not in data
        assert b"EXIF" not in data
        with Image.open(path) as image:
            assert not dict(image.getexif())
    turned = draw(2, (120, 80)).transpose(Image.Transpose.ROTATE_270)
    with Image.open(done.picture) as image:
        for at in ((10, 10), (70, 10), (10, 110), (70, 110), (40, 60)):
            assert all(abs(a - b) < 60 for a, b in zip(image.getpixel(at), turned.getpixel(at), strict=True))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_give_the_same_picture(decode: Decode, orientation: int) -> None:
    upright = draw(3, (120, 80))
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    stored = upright if undo is None else upright.transpose(Image.Transpose(undo))
    exif = Image.Exif()
    exif[0x0112] = orientation
    done = decode(encoded(stored, "PNG", exif=exif))
    with Image.open(done.picture) as image:
        assert image.tobytes() == upright.tobytes()


def test_see_through_becomes_white_and_says_so(decode: Decode) -> None:
    image = draw(4, mode="RGBA")
    image.putalpha(0)
    done = decode(encoded(image))
    assert "alpha-flattened" in done.warnings
    with Image.open(done.picture) as white:
        assert white.getpixel((5, 5)) == (255, 255, 255)
    image.putalpha(255)
    assert "alpha-flattened" not in decode(encoded(image)).warnings


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "I;16", "CMYK"])
def test_other_kinds_of_pixels(decode: Decode, mode: str) -> None:
    image = draw(5)
    if mode == "I;16":
        image = image.convert("L").convert("I").point(lambda v: v * 257).convert("I;16")
        done = decode(encoded(image))
        with Image.open(done.picture) as grey:
            expected = draw(5).convert("L").getpixel((40, 40))
            assert abs(grey.getpixel((40, 40))[0] - expected) <= 1
    else:
        done = decode(encoded(image.convert(mode), "JPEG" if mode == "CMYK" else "PNG"))
    assert (done.width, done.height) == (96, 80)


def test_a_moving_picture_gives_its_first_frame(decode: Decode) -> None:
    frames = [draw(6), draw(7)]
    done = decode(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True))
    assert "animated" in done.warnings
    with Image.open(done.picture) as image:
        assert image.tobytes() == frames[0].tobytes()


def test_large_ones_are_scaled_and_kept_as_jpeg(decode: Decode) -> None:
    done = decode(encoded(draw(8, (2600, 1300)), "JPEG"))
    assert (done.width, done.height, done.media_type) == (2048, 1024, "image/jpeg")
    assert "scaled-down" in done.warnings
    assert "small" not in done.warnings
    with Image.open(done.thumb) as thumb:
        assert max(thumb.size) == 384


def test_hints(decode: Decode) -> None:
    assert {"small", "enlarged"} <= set(decode(png(9)).warnings)
    assert "odd-aspect" in decode(png(9, (640, 200))).warnings
    soft = Image.linear_gradient("L").resize((800, 800)).convert("RGB")
    assert "blurry" in decode(encoded(soft)).warnings
    assert decode(png(10, (800, 700))).warnings == []


def test_similar_pictures_have_similar_hashes(decode: Decode) -> None:
    def bits(a: int, b: int) -> int:
        return ((a ^ b) & (1 << 64) - 1).bit_count()

    one, other = draw(11, (200, 160)), draw(12, (200, 160))
    first = decode(encoded(one)).dhash
    assert bits(first, decode(encoded(one, "JPEG", quality=60)).dhash) <= 6
    assert bits(first, decode(encoded(other)).dhash) > 6


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (b"", "empty-file", "0 bytes"),
        (png()[:200], "image-unreadable", "cut off"),
        (encoded(draw(1), "JPEG")[:900], "image-unreadable", "cut off"),
        (b"<!DOCTYPE html><html>not found</html>", "unsupported-format", "web page"),
        (b"GIF89a" + bytes(50), "unsupported-format", "GIF"),
        (b"%PDF-1.7" + bytes(50), "unsupported-format", "PDF"),
        (zipped([("a.png", png())]), "unsupported-format", "archive"),
        (b"hello, I am a text", "not-a-picture", "not a picture"),
        (huge_png(), "image-too-large", "2,500 million"),
        (png(0, (300, 63)), "image-too-small", "300 × 63"),
        (png(0, (6000, 70)), "image-too-small", "narrow"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_what_is_refused_says_why(decode: Decode, data: bytes, code: str, words: str) -> None:
    error = refusal(decode, data)
    assert error.code == code
    assert words in error.words


def test_one_child_serves_many_and_survives_bad_ones(decode: Decode, decoder: Decoder) -> None:
    decode(png(1))
    child = decoder.pid
    for bad in (b"", huge_png(), png()[:100]):
        refusal(decode, bad)
    decode(png(2))
    assert decoder.pid == child


def test_a_child_that_was_killed_is_replaced(decode: Decode, decoder: Decoder) -> None:
    decode(png(1))
    child = decoder.pid
    assert child is not None
    os.kill(child, signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert decode(png(2)).width == 96
    assert decoder.pid not in (None, child)


def test_a_child_that_hangs_costs_one_picture(decode: Decode, decoder: Decoder, tmp_path: Path) -> None:
    decode(png(1))
    child = decoder.pid
    assert child is not None
    os.kill(child, signal.SIGSTOP)
    decoder.wall_seconds = 0.2
    try:
        assert refusal(decode, png(2)).code == "decode-timeout"
    finally:
        decoder.wall_seconds = 120.0
    assert not Path(f"/proc/{child}").exists()
    assert decode(png(2)).width == 96


def test_the_child_has_limits_and_no_secrets(
    decode: Decode, decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://secret")
    decoder.close()
    decode(png(1))
    assert b"secret" not in Path(f"/proc/{decoder.pid}/environ").read_bytes()
    limits = Path(f"/proc/{decoder.pid}/limits").read_text()
    for name in ("Max cpu time", "Max address space", "Max file size"):
        line = next(line for line in limits.splitlines() if line.startswith(name))
        assert line.removeprefix(name).split()[0] != "unlimited", line


def test_memory_is_bounded(tmp_path: Path) -> None:
    """A picture within the pixels that are allowed here needs more memory than the child has."""
    generous = Decoder(PictureLimits(pixels=10**9, min_side=64, max_side=2048))
    source = tmp_path / "source"
    source.write_bytes(huge_png(31_000, 31_000))
    with pytest.raises(Undecodable) as caught:
        generous.decode(source, tmp_path)
    generous.close()
    assert caught.value.code in ("image-too-large", "image-unreadable")
