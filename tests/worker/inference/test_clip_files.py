"""Drawn clips as files: what is written is what is read, frames, rate and generation data."""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from worker.inference.clip_files import Frames, poster, read_infotext, write_clip
from worker.inference.metadata.infotext import MAX_TEXT
from worker.inference.metadata.movie import movie_texts

TEXT = "a boat sails left, città 夕方\nNegative prompt: fog\nSteps: 20, Sampler: Euler, Seed: 4, Frames: 5"


def moving(count: int, height: int = 64, width: int = 64) -> Frames:
    """A bright bar that moves over a smooth ground."""
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    found = [
        np.stack([across * 200 // width, down * 200 // height, ((across + 3 * number) % width < 20) * 200], 2)
        for number in range(count)
    ]
    return np.stack(found).astype(np.uint8)


def read_back(path: Path) -> tuple[Frames, Fraction | None]:
    with av.open(path) as movie:
        film = movie.streams.video[0]
        assert (film.codec_context.name, film.pix_fmt, len(movie.streams)) == ("h264", "yuv420p", 1)
        frames = [frame.to_ndarray(format="rgb24", src_colorspace="ITU709") for frame in movie.decode(film)]
        return np.stack(frames), film.average_rate


@pytest.mark.parametrize("count", [1, 5, 49])
@pytest.mark.parametrize("fps", [8.0, 16.0, 24000 / 1001])
def test_frames_come_back(tmp_path: Path, count: int, fps: float) -> None:
    frames = moving(count)
    write_clip(tmp_path / "clip.mp4", frames, fps, TEXT)
    found, rate = read_back(tmp_path / "clip.mp4")
    assert found.shape == frames.shape
    assert rate == Fraction(fps).limit_denominator(1001)
    assert np.abs(found.astype(int) - frames).mean() < 3
    assert read_infotext(tmp_path / "clip.mp4") == TEXT


def test_it_begins_with_what_a_player_needs(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", moving(5), 8, TEXT)
    content = (tmp_path / "clip.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_odd_sides_repeat_the_last_row_and_column(tmp_path: Path) -> None:
    frames = moving(3, height=63, width=65)
    write_clip(tmp_path / "clip.mp4", frames, 8, "")
    found, _ = read_back(tmp_path / "clip.mp4")
    assert found.shape == (3, 64, 66, 3)
    assert np.abs(found[:, :63, :65].astype(int) - frames).mean() < 4
    assert movie_texts(tmp_path / "clip.mp4").size == (66, 64)


@pytest.mark.parametrize(
    ("frames", "fps", "words"),
    [
        (moving(1)[:0], 8, "one at least"),
        (moving(1)[0], 8, "frames"),
        (moving(1).astype(np.float32), 8, "bytes"),
        (moving(1), 0, "rate"),
        (moving(1), -1, "rate"),
    ],
)
def test_what_is_no_clip_is_refused(tmp_path: Path, frames: Frames, fps: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        write_clip(tmp_path / "clip.mp4", frames, fps, "")


def test_texts_that_no_file_can_hold_are_cleaned(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", moving(1), 8, "a\0b\ud800c")
    assert read_infotext(tmp_path / "clip.mp4") == "ab?c"


def test_a_long_text_is_kept_and_read_up_to_its_bound(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", moving(1), 8, "città " * 200_000)
    assert read_infotext(tmp_path / "clip.mp4") == ("città " * 200_000)[:MAX_TEXT]


def test_without_generation_data_nothing_is_read(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", moving(1), 8, "")
    assert read_infotext(tmp_path / "clip.mp4") == ""
    (tmp_path / "other.mp4").write_bytes(b"no film")
    assert read_infotext(tmp_path / "other.mp4") == ""


def test_a_poster_is_the_middle_frame() -> None:
    frames = moving(5)
    with Image.open(io.BytesIO(poster(frames))) as image:
        assert (image.format, image.size) == ("JPEG", (64, 64))
        assert np.abs(np.asarray(image, dtype=int) - frames[2]).mean() < 8
