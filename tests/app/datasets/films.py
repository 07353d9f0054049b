"""Clips as people have them, made here: a bar that moves one step each frame, in any format."""

import io
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
from av.video.frame import VideoFrame
from PIL import Image, ImageDraw

STEP = 4
"""Pixels by which the bar moves each frame."""


def scene(number: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """White bar at x = STEP · number on blue, and a red corner at the top left."""
    image = Image.new("RGB", size, (30, 60, 160))
    pen = ImageDraw.Draw(image)
    pen.rectangle((number * STEP, 0, number * STEP + STEP - 1, size[1]), fill="white")
    pen.rectangle((0, 0, size[0] // 6, size[1] // 4), fill="red")
    return image


def bar_at(image: Image.Image) -> int:
    """The number of the frame that a picture of `scene` shows, by the place of its bar."""
    row = image.convert("L").crop((0, image.height - 4, image.width, image.height - 3)).tobytes()
    return row.index(max(row)) // STEP


def film(
    frames: int = 12, rate: int | Fraction = 12, size: tuple[int, int] = (96, 64), *, form: str = "mp4",
    codec: str = "libx264", times: Sequence[int] | None = None, change: Callable[[Any], None] | None = None,
    pixels: str = "yuv420p", sound: bool = False, options: dict[str, str] | None = None, first: int = 0,
    draw: Callable[[int], Image.Image] | None = None,
) -> bytes:  # fmt: skip
    """A film in memory. `times` in thousandths of a second instead of `rate`; `change` gets the stream.

    `draw` makes the picture of each frame instead of the scene.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "film"
        with av.open(path, "w", format=form, options=options or {}) as movie:
            _write(movie, frames, rate, size, codec=codec, times=times, change=change, pixels=pixels,
                   sound=sound, first=first, draw=draw)  # fmt: skip
        return path.read_bytes()


def _write(
    movie: Any, frames: int, rate: int | Fraction, size: tuple[int, int], *, codec: str,
    times: Sequence[int] | None, change: Callable[[Any], None] | None, pixels: str, sound: bool, first: int,
    draw: Callable[[int], Image.Image] | None,
) -> None:  # fmt: skip
    movie.metadata["title"] = "SecretTitle"
    quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    stream = movie.add_stream(codec, rate=rate, options=quiet)
    stream.width, stream.height, stream.pix_fmt = *size, pixels
    if change:
        change(stream)
    if sound:
        silence(movie)
    for number in range(frames):
        frame = VideoFrame.from_image(draw(number) if draw else scene(first + number, size))
        frame.pts, frame.time_base = number, 1 / Fraction(rate)
        if times:
            frame.pts, frame.time_base = times[number], Fraction(1, 1000)
        movie.mux(stream.encode(frame))
    movie.mux(stream.encode(None))


def silence(movie: Any) -> None:
    """Give a film a track of a moment's sound."""
    track = movie.add_stream("aac", rate=44100)
    sound = av.AudioFrame(format="fltp", layout="mono", samples=1024)
    for plane in sound.planes:
        plane.update(bytes(plane.buffer_size))
    sound.sample_rate, sound.pts = 44100, 0
    movie.mux(track.encode(sound))
    movie.mux(track.encode(None))


def gif(frames: int = 6, milliseconds: int = 100, size: tuple[int, int] = (96, 64)) -> bytes:
    out = io.BytesIO()
    pictures = [scene(number, size) for number in range(frames)]
    pictures[0].save(
        out, "GIF", save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0, optimize=False
    )
    return out.getvalue()


def with_duration(data: bytes, seconds: float) -> bytes:
    """An MP4 whose headers say another length: mvhd, tkhd and mdhd, as written with version 0."""
    changed = bytearray(data)
    for atom, scale_at, length_at in ((b"mvhd", 16, 20), (b"mdhd", 16, 20)):
        at = changed.find(atom)
        scale = int.from_bytes(changed[at + scale_at : at + scale_at + 4], "big")
        changed[at + length_at : at + length_at + 4] = round(seconds * scale).to_bytes(4, "big")
    return bytes(changed)


def shown(data: bytes) -> list[Image.Image]:
    """Every frame of a film as it is shown."""
    with av.open(io.BytesIO(data), "r") as movie:
        return [frame.to_image() for frame in movie.decode(video=0)]
