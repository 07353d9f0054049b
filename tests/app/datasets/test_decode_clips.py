"""The bounded decoder with clips: every format that is taken, every file that is not."""

import io
import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from app.datasets.adding import is_near
from app.datasets.clip import constant_rate
from app.datasets.decode import Decoded, Decoder, FilmLimits, PictureLimits, Undecodable
from app.datasets.strip import HEIGHT, WIDEST, middles
from tests.app.datasets.films import bar_at, film, gif, scene, shown, silence, with_duration
from tests.app.datasets.pictures import draw, encoded, png, zipped

Decode = Callable[..., Decoded]
PICTURES = PictureLimits(pixels=50_000_000, min_side=64, max_side=2048)
CLIPS = FilmLimits(seconds=4, rate=60, pixels=4096 * 2304, min_side=64, max_side=320)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    made = Decoder(PICTURES, clips=CLIPS)
    yield made
    made.close()


@pytest.fixture
def decode(decoder: Decoder, tmp_path: Path) -> Decode:
    def run(data: bytes) -> Decoded:
        source = tmp_path / "source"
        source.write_bytes(data)
        return decoder.decode(source, tmp_path)

    return run


def refusal(decode: Decode, data: bytes) -> tuple[str, str]:
    with pytest.raises(Undecodable) as caught:
        decode(data)
    return caught.value.code, caught.value.words


def bars(done: Decoded) -> list[int]:
    return [bar_at(image) for image in shown(done.picture.read_bytes())]


@pytest.mark.parametrize(
    ("form", "codec"),
    [("mp4", "libx264"), ("mov", "mpeg4"), ("webm", "libvpx"), ("webm", "libvpx-vp9"), ("mp4", "libx265")],
)
def test_formats_that_people_have(decode: Decode, form: str, codec: str) -> None:
    done = decode(film(12, 12, form=form, codec=codec))
    assert (done.width, done.height, done.media_type) == (96, 64, "video/mp4")
    assert done.clip == {"fps": 12.0, "frames": 12, "duration": 1.0}
    assert bars(done) == list(range(12))
    with av.open(done.picture) as stored:
        stream = stored.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 12)
    with Image.open(done.thumb) as thumb:
        assert (thumb.format, thumb.size) == ("WEBP", (96, 64))


def test_a_gif_is_a_clip(decode: Decode) -> None:
    done = decode(gif(6, 100))
    assert done.clip == {"fps": 10.0, "frames": 6, "duration": 0.6}
    assert bars(done) == list(range(6))
    assert "short-clip" in done.warnings


def test_see_through_parts_of_a_gif_become_white(decode: Decode) -> None:
    frames = [draw(n, (80, 80), "RGBA") for n in range(3)]
    for frame in frames:
        frame.paste((0, 0, 0, 0), (0, 0, 40, 80))
    moving = {"save_all": True, "append_images": frames[1:], "duration": 100, "disposal": 2}
    done = decode(encoded(frames[0], "GIF", **moving))
    assert all(min(image.getpixel((10, 40))) > 240 for image in shown(done.picture.read_bytes()))


def test_sound_and_metadata_are_dropped(decode: Decode) -> None:
    done = decode(film(sound=True))
    data = done.picture.read_bytes()
    assert b"Secret" not in data
    with av.open(io.BytesIO(data)) as stored:
        assert [stream.type for stream in stored.streams] == ["video"]


@pytest.mark.parametrize(
    ("degrees", "flips", "undo"),
    [
        (90, {}, Image.Transpose.ROTATE_90),
        (180, {}, Image.Transpose.ROTATE_180),
        (-90, {}, Image.Transpose.ROTATE_270),
        (0, {"hflip": True}, Image.Transpose.FLIP_LEFT_RIGHT),
        (0, {"vflip": True}, Image.Transpose.FLIP_TOP_BOTTOM),
        (90, {"hflip": True}, Image.Transpose.TRANSVERSE),
        (-90, {"hflip": True}, Image.Transpose.TRANSPOSE),
    ],
)
def test_clips_of_phones_are_turned_upright(
    decode: Decode, degrees: int, flips: dict[str, bool], undo: Image.Transpose
) -> None:
    done = decode(film(3, size=(160, 96), change=lambda s: s.set_display_rotation(degrees, **flips)))
    wanted = scene(0, (160, 96)).transpose(undo)
    assert (done.width, done.height) == wanted.size
    found = shown(done.picture.read_bytes())[0]
    for x in (6, wanted.width // 2, wanted.width - 7):
        for y in (6, wanted.height // 2, wanted.height - 7):
            pairs = zip(found.getpixel((x, y)), wanted.getpixel((x, y)), strict=True)
            assert all(abs(a - b) < 60 for a, b in pairs), (x, y)
    with av.open(done.picture) as stored:
        assert next(stored.decode(video=0)).rotation == 0


def test_a_changing_rate_becomes_a_constant_one(decode: Decode) -> None:
    times = [0, 100, 200, 300, 700, 800, 900, 1000, 1100, 1200]
    done = decode(film(10, 10, times=times, form="webm", codec="libvpx"))
    assert done.clip["fps"] == 10
    assert bars(done)[:9] == [0, 1, 2, 3, 3, 3, 3, 4, 5]
    with av.open(done.picture) as stored:
        at = [frame.pts for frame in stored.decode(video=0)]
    assert len({b - a for a, b in pairwise(at)}) == 1


def test_fast_and_large_clips_are_brought_down(decode: Decode) -> None:
    done = decode(film(24, 120, (640, 256)))
    assert (done.width, done.height) == (320, 128)
    assert done.clip == {"fps": 60.0, "frames": 12, "duration": 0.2}
    assert "scaled-down" in done.warnings


def test_high_dynamic_range_becomes_plain(decode: Decode) -> None:
    """HLG as phones film it: its white at three quarters of the signal is white here."""

    def hlg(stream: Any) -> None:
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace, context.color_range = 18, 9, 9, 1

    grey = Image.new("RGB", (96, 64), (191, 191, 191))
    for change, wanted in ((hlg, 253), (None, 191)):
        done = decode(film(3, change=change, pixels="yuv420p10le", codec="libx265", draw=lambda _: grey))
        found = shown(done.picture.read_bytes())[1].convert("L").getpixel((48, 32))
        assert abs(found - wanted) <= 4


def test_odd_sides_and_long_pixels(decode: Decode) -> None:
    done = decode(film(3, size=(97, 65), pixels="yuv444p"))
    assert (done.width, done.height) == (96, 64)
    wide = film(3, change=lambda s: setattr(s.codec_context, "sample_aspect_ratio", Fraction(2, 1)))
    assert (decode(wide).width, decode(wide).height) == (192, 64)


@pytest.mark.parametrize("data", [png, gif, film])
def test_one_frame_is_a_picture(decode: Decode, data: Callable[[int], bytes]) -> None:
    done = decode(data(1))
    assert (done.media_type, done.clip, done.strip) == ("image/png", None, None)
    with Image.open(done.picture) as image:
        assert image.size == (done.width, done.height)


def test_the_strip_shows_frames_evenly_spaced(decode: Decode) -> None:
    done = decode(film(20, 20, (100, 160)))
    assert done.strip is not None
    with Image.open(done.strip) as strip:
        assert strip.size == (10 * WIDEST, HEIGHT)
        parts = [(n * WIDEST, 0, n * WIDEST + WIDEST, HEIGHT) for n in range(10)]
        cells = [strip.crop(part).resize((96, 160)) for part in parts]
    found = [bar_at(cell) for cell in cells]
    assert all(abs(a - b) <= 1 for a, b in zip(found, middles(20), strict=True))
    assert middles(3) == [0, 1, 2]
    assert middles(100)[:2] == [5, 15]


def test_a_clip_is_judged_by_its_middle_and_shown_by_its_beginning(decode: Decode) -> None:
    """Many begin with black: that makes them neither alike nor blurry."""
    black = Image.new("RGB", (96, 64))

    def fade(scene: int) -> bytes:
        return film(12, draw=lambda number: black if number < 3 else draw(scene, (96, 64)))

    found = [decode(fade(1)), decode(fade(2))]
    assert not is_near(found[0].dhash, found[1].dhash)
    with Image.open(found[0].thumb) as poster:
        assert max(poster.convert("L").getextrema()) < 8


def test_what_is_too_long_is_refused_whatever_its_header_says(decode: Decode) -> None:
    long = film(30, 4)
    assert refusal(decode, long)[0] == "clip-too-long"
    assert refusal(decode, with_duration(long, 1.0))[0] == "clip-too-long"
    assert decode(with_duration(film(), 36_000)).clip["duration"] == 1


def test_what_is_cut_off_is_refused(decode: Decode) -> None:
    whole = film(48, 16, (192, 128))
    assert refusal(decode, whole[: len(whole) * 2 // 3])[0] == "clip-unreadable"  # its contents stand last
    front = film(48, 16, (192, 128), options={"movflags": "faststart"})
    assert refusal(decode, front[: len(front) * 2 // 3])[0] in ("clip-unreadable", "clip-truncated")
    webm = film(48, 16, (192, 128), form="webm", codec="libvpx")
    assert refusal(decode, webm[: len(webm) // 2])[0] in ("clip-unreadable", "clip-truncated")


def unknown_codec() -> bytes:
    return film().replace(b"avc1", b"zzz9")


def no_samples() -> bytes:
    """Its tables say that there is no frame."""
    data = bytearray(film(options={"movflags": "faststart"}))
    for atom, at in ((b"stsz", 12), (b"stts", 8), (b"stsc", 8), (b"stco", 8), (b"ctts", 8), (b"stss", 8)):
        found = data.find(atom)
        if found >= 0:
            data[found + at : found + at + 4] = bytes(4)
    return bytes(data)


def hostile_atoms() -> bytes:
    """Tables of two thousand million entries in a file of some hundred bytes."""
    data = bytearray(film())
    for atom, at in ((b"stsz", 12), (b"stts", 8), (b"stco", 8)):
        found = data.find(atom)
        data[found + at : found + at + 4] = struct.pack(">I", 0x7FFFFFFF)
    return bytes(data)


def sound_only() -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as movie:
        silence(movie)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (b"", "empty-file", "is empty"),
        (b"<!DOCTYPE html><html>", "unsupported-format", "is a web page, not a clip"),
        (b"RIFF\x10\0\0\0AVI LIST", "unsupported-format", "is an AVI video"),
        (b"hello, this is no film at all", "not-a-clip", "MP4, WebM, MOV, GIF and pictures are taken"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "not-a-clip", "is not a clip"),
        (zipped([("a.txt", b"x")]), "not-a-clip", "is not a clip"),
        (b"\0\0\0\x18ftypisom" + bytes(3000), "clip-unreadable", "damaged or was cut off"),
        (b"\x1a\x45\xdf\xa3" + b"\xff" * 3000, "clip-unreadable", "damaged or was cut off"),
        (b"GIF89a" + b"\xff" * 300, "clip-unreadable", "damaged or was cut off"),
        (unknown_codec, "codec-unreadable", "coded in a way that cannot be read here"),
        (no_samples, "no-frames", "has no frame in it"),
        (sound_only, "no-frames", "only sound or text"),
        (lambda: film(3, size=(64, 32)), "image-too-small", "each side needs at least 64"),
        (lambda: film(2, size=(4096, 64)), "image-too-small", "too long and narrow"),
    ],
)  # fmt: skip
def test_what_is_no_clip_is_said_in_words(
    decode: Decode, data: bytes | Callable[[], bytes], code: str, words: str
) -> None:
    found = refusal(decode, data if isinstance(data, bytes) else data())
    assert found[0] == code
    assert words in found[1]


def test_hostile_tables_end_in_words(decode: Decode) -> None:
    assert refusal(decode, hostile_atoms())[0] == "clip-too-large"
    assert decode(film()).clip is not None


def test_frames_of_too_many_pixels_are_refused_before_one_is_decoded(tmp_path: Path) -> None:
    decoder = Decoder(PICTURES, clips=FilmLimits(seconds=4, rate=60, pixels=5000, min_side=64, max_side=320))
    (tmp_path / "source").write_bytes(film())
    with pytest.raises(Undecodable, match="more than can be read here"):
        decoder.decode(tmp_path / "source", tmp_path)
    decoder.close()


@pytest.mark.parametrize(
    ("steps", "average", "rate"),
    [
        ([1 / 30] * 20, Fraction(30), Fraction(30)),
        ([0.033, 0.034, 0.033] * 9, Fraction(30000, 1001), Fraction(30000, 1001)),
        ([0.033, 0.034, 0.033] * 9, None, Fraction(30)),
        ([0.04] * 5 + [0.4] + [0.04] * 5 + [0.2], Fraction(15), Fraction(25)),
        ([1 / 240] * 9, Fraction(240), Fraction(60)),
        ([1001 / 120000] * 9, Fraction(120000, 1001), Fraction(60000, 1001)),
        ([3.0, 3.0], None, Fraction(1)),
        ([], None, Fraction(1)),
    ],
)
def test_the_rate_that_is_kept(steps: list[float], average: Fraction | None, rate: Fraction) -> None:
    assert constant_rate(steps, average, 60) == rate
