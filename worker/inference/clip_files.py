"""Drawn clips as files: MP4 that every browser plays, its poster, and the generation data within it.

H.264 with 4:2:0 at a constant rate, no sound, its beginning first. The same frames need not give the same
bytes: x264 decides now and then otherwise. No torch in here.
"""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray
from PIL import Image

from worker.inference.metadata.infotext import MAX_TEXT, clean
from worker.inference.metadata.movie import movie_texts
from worker.inference.metadata.texts import COMMENT, DESCRIPTION

Frames = NDArray[np.uint8]
"""[frames, height, width, 3], red, green and blue."""
QUALITY = {"preset": "medium", "crf": "16"}
THREADS = 2
POSTER_QUALITY = 90
MAX_DENOMINATOR = 1001
"""Of a rate: film's 24000/1001 is one."""


def write_clip(path: Path, frames: Frames, fps: float, infotext: str) -> None:
    """Write the frames as one clip. Odd sides grow by a row or column that repeats the last one.

    ValueError for no frames, another shape or a rate that is none; OSError where the disk is full.
    """
    frames, rate = _even(frames), Fraction(fps).limit_denominator(MAX_DENOMINATOR)
    if rate <= 0:
        raise ValueError("A clip needs a rate above 0.")
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(path, "w", format="mp4", options=options) as movie:
        if text := clean(infotext):
            movie.metadata.update({COMMENT: text, DESCRIPTION: text})
        film = movie.add_stream("libx264", rate=rate, options=QUALITY)
        film.height, film.width, film.pix_fmt = *frames.shape[1:3], "yuv420p"
        context = film.codec_context
        context.gop_size, context.thread_count = max(1, round(rate)), THREADS
        # Limited range, BT.709: what browsers take for granted.
        context.color_range = context.colorspace = context.color_trc = context.color_primaries = 1
        for number, pixels in enumerate(frames):
            frame = _coded(pixels)
            frame.pts, frame.time_base = number, 1 / rate
            movie.mux(film.encode(frame))
        movie.mux(film.encode(None))


def _even(frames: Frames) -> Frames:
    if frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape or frames.dtype != np.uint8:
        raise ValueError("A clip is made of frames [frames, height, width, 3] of bytes, one at least.")
    odd = [(0, side % 2) for side in frames.shape[1:3]]
    return np.pad(frames, [(0, 0), *odd, (0, 0)], mode="edge") if any(map(any, odd)) else frames


def _coded(pixels: Frames) -> VideoFrame:
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    return frame.reformat(
        format="yuv420p",
        src_colorspace=Colorspace.ITU709,
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
    )


def poster(frames: Frames) -> bytes:
    """The middle frame as a JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(frames[len(frames) // 2]).save(buffer, "JPEG", quality=POSTER_QUALITY)
    return buffer.getvalue()


def read_infotext(path: Path) -> str:
    """The generation data of one of our clips as written, at most 64 KiB of it; empty without."""
    texts = movie_texts(path)
    return (texts.get(COMMENT) or texts.get(DESCRIPTION, ""))[:MAX_TEXT]
