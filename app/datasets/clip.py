"""One clip as it came → one clip as it is trained on. Runs only inside the decoder's child process.

Recognised by content and opened with that format alone, measured by its packets instead of what its
header says, turned upright, brought to one rate, saved anew as H.264: no sound, no metadata. What has
one frame becomes a picture.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path
from statistics import median

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from app.core.errors import is_disk_full
from app.datasets.frames import Shape, Upright
from app.datasets.normalise import (
    NO_ROOM,
    Limits,
    Normalised,
    Refused,
    Step,
    dhash,
    hints,
    save_picture,
    save_thumb,
)
from app.datasets.strip import Strip

THREADS = 2
KNOWN_RATES = [Fraction(n * 1000, 1001) for n in (24, 30, 60)] + [Fraction(n) for n in (24, 25, 30, 50, 60)]
MOST_FRAMES_A_SECOND = 480
"""Of a source: what has more is no film."""
SHORT_SECONDS = 1.0
SLOW_RATE = 10
DAMAGED = "cannot be read; it is damaged or was cut off. Export it as MP4 (H.264) and add it again."
CUT_OFF = "was cut off: {there:.1f} of its {said:.1f} seconds are there. Copy it again from where it came."
TOO_LONG = "is longer than {seconds:g} seconds. Cut it into shorter clips; 2 to 10 seconds are best."
NO_CODEC = "is coded in a way that cannot be read here ({codec}). Export it as MP4 (H.264)."


@dataclass(frozen=True)
class ClipLimits:
    """Seconds of a clip, frames per second as kept; of one frame its pixels as it came, its sides as kept."""

    seconds: float = 60
    rate: int = 60
    pixels: int = 4096 * 2304
    min_side: int = 64
    max_side: int = 1280

    @property
    def frame(self) -> Limits:
        return Limits(self.pixels, self.min_side, self.max_side)


@dataclass(frozen=True)
class Survey:
    """What the packets of a stream say. Times are seconds."""

    start: float
    duration: float
    rate: Fraction
    frames: int
    """At `rate`."""


def normalise_clip(source: Path, form: str, out: Path, limits: ClipLimits) -> Normalised:
    """Write `picture.mp4`, thumb, strip and poster into `out`; for one frame a picture. Raises Refused.

    `form` is libav's name of the format, so that no other reader of its hundred is ever asked.
    """
    try:
        options = {"protocol_whitelist": "file"}
        with av.open(source, format=form, options=options) as container:
            seen = survey(container, _stream(container, limits), limits)
        with av.open(source, format=form, options=options) as container:
            return _write(container, _stream(container, limits), seen, out, limits.frame)
    except Refused:
        raise
    except MemoryError as error:
        raise Refused(
            "clip-too-large", "needs more memory than one clip may take. Make it smaller."
        ) from error
    except Exception as error:  # libav raises many kinds on damaged input
        if isinstance(error, OSError) and is_disk_full(error):
            raise Refused("disk-full", NO_ROOM) from error
        raise Refused("clip-unreadable", DAMAGED) from error


def _stream(container: InputContainer, limits: ClipLimits) -> VideoStream:
    """The first stream of moving pictures, with a decoder, of a size that may be decoded."""
    films = [one for one in container.streams.video if not one.disposition & Disposition.attached_pic]
    if not films:
        raise Refused("no-frames", "has no moving pictures in it, only sound or text.")
    stream = films[0]
    context = stream.codec_context
    if context is None:
        raise Refused("codec-unreadable", NO_CODEC.format(codec="unknown to this server"))
    if context.width * context.height > limits.pixels:
        words = (
            f"is {context.width} × {context.height} pixels, more than can be read here. Export it at 1080p."
        )
        raise Refused("clip-too-large", words)
    context.thread_count = THREADS
    return stream


def survey(container: InputContainer, stream: VideoStream, limits: ClipLimits) -> Survey:
    """Read all packets, decode none: whatever a header says, this is how long the clip is."""
    times, last = [], 0.0
    base = stream.time_base or Fraction(1, 1000)
    for packet in container.demux(stream):
        at = packet.pts if packet.pts is not None else packet.dts
        if at is None or packet.is_discard:
            continue
        times.append(float(at * base))
        last = float((packet.duration or 0) * base)
        if max(times[-1] - times[0], len(times) / MOST_FRAMES_A_SECOND) > limits.seconds + 0.5:
            raise Refused("clip-too-long", TOO_LONG.format(seconds=limits.seconds))
    if not times:
        raise Refused("no-frames", "has no frame in it. Export it again.")
    times.sort()
    steps = [b - a for a, b in pairwise(times) if b - a > 1e-4]
    usual = median(steps) if steps else 0.0
    duration = times[-1] - times[0] + (min(last, 2 * usual) if usual and last else usual)
    _check_whole(container, stream, duration)
    rate = constant_rate(steps, stream.average_rate, limits.rate)
    return Survey(times[0], duration, rate, max(1, round(duration * rate)) if steps else 1)


def _check_whole(container: InputContainer, stream: VideoStream, duration: float) -> None:
    """Refuse what ends before its header says. A trimmed clip says it once whole, once trimmed."""
    said = [float(container.duration) / av.time_base] if container.duration else []
    if stream.duration and stream.time_base:
        said.append(float(stream.duration * stream.time_base))
    if said and duration < min(said) - max(0.5, min(said) / 10):
        raise Refused("clip-truncated", CUT_OFF.format(there=duration, said=min(said)))


def constant_rate(steps: list[float], average: Fraction | None, limit: int) -> Fraction:
    """Frames per second to keep, from the times between frames: a known rate where it is near one.

    A rate above `limit` is divided by a whole number, so that its frames stay evenly apart.
    """
    if not steps:
        return Fraction(1)
    usual = median(steps)
    steady = sum(abs(step - usual) <= max(0.0021, usual / 50) for step in steps) >= 0.95 * len(steps)
    nominal = len(steps) / sum(steps) if steady else 1 / usual
    if steady and average and abs(float(average) / nominal - 1) < 0.01:
        rate = Fraction(average).limit_denominator(1001)
    else:
        near = min(KNOWN_RATES, key=lambda known: abs(float(known) - nominal))
        close = abs(float(near) / nominal - 1) < 0.005
        rate = near if close else Fraction(nominal).limit_denominator(100)
    rate = max(rate, Fraction(1))
    return rate / -(-rate // limit)


def _decoded(
    container: InputContainer, stream: VideoStream, seen: Survey
) -> Iterator[tuple[float, VideoFrame]]:
    """(seconds from the start, frame) in the order of showing. Raises Refused where frames are missing."""
    at = 0.0
    for number, frame in enumerate(container.decode(stream)):
        at = frame.time - seen.start if frame.time is not None else float(number / seen.rate)
        yield at, frame
    if at < seen.duration * 0.9 - 0.5:
        raise Refused("clip-truncated", CUT_OFF.format(there=at, said=seen.duration))


def evenly(frames: Iterator[tuple[float, VideoFrame]], seen: Survey) -> Iterator[VideoFrame]:
    """`seen.frames` frames at the constant rate: each is the one on screen in the middle of its time."""
    shown: VideoFrame | None = None
    done = 0
    for at, frame in frames:
        while shown is not None and done < seen.frames and (done + 0.5) / seen.rate < at:
            yield shown
            done += 1
        shown = frame
    if shown is None:
        raise Refused("no-frames", "has no frame that can be read. Export it again as MP4 (H.264).")
    for _ in range(done, seen.frames):
        yield shown


def _write(
    container: InputContainer, stream: VideoStream, seen: Survey, out: Path, limits: Limits
) -> Normalised:
    frames = evenly(_decoded(container, stream, seen), seen)
    first = next(frames)
    shape = Shape.of(first, stream.sample_aspect_ratio, limits)
    if seen.frames == 1:
        still: Image.Image = Upright(shape, "rgb24")(first).to_image()
        return save_picture(Step(still, shape.original, []), "PNG", out, limits)
    strip = _encode(chain([first], frames), seen, shape, out / "picture.mp4")
    save_thumb(strip.first, out)
    strip.save(out / "strip.webp")
    strip.middle.save(out / "poster.jpeg", "JPEG", quality=90)
    return Normalised(
        shape.width, shape.height, "mp4", dhash(strip.middle), _warnings(strip.middle, shape, seen),
        clip={"fps": float(seen.rate), "frames": seen.frames, "duration": float(seen.frames / seen.rate)},
    )  # fmt: skip


def _encode(frames: Iterable[VideoFrame], seen: Survey, shape: Shape, target: Path) -> Strip:
    """H.264, 4:2:0, a key frame each second, the beginning of the file first."""
    upright, strip = Upright(shape), Strip(seen.frames)
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(target, "w", format="mp4", options=options) as movie:
        film = movie.add_stream("libx264", rate=seen.rate, options={"preset": "veryfast", "crf": "17"})
        film.width, film.height, film.pix_fmt = shape.width, shape.height, "yuv420p"
        context = film.codec_context
        context.gop_size, context.thread_count = max(1, round(seen.rate)), THREADS
        # Limited range, BT.709: what browsers take for granted.
        context.color_range = context.colorspace = context.color_trc = context.color_primaries = 1
        for number, frame in enumerate(frames):
            made = upright(frame)
            strip.add(number, made)
            made.pts, made.time_base = number, 1 / seen.rate
            movie.mux(film.encode(made))
        movie.mux(film.encode(None))
    return strip


def _warnings(frame: Image.Image, shape: Shape, seen: Survey) -> list[str]:
    found = ["scaled-down"] if max(shape.original) > max(shape.width, shape.height) else []
    found += hints(frame, shape.original)
    if seen.duration < SHORT_SECONDS:
        found.append("short-clip")
    if seen.rate < SLOW_RATE:
        found.append("low-rate")
    return found
