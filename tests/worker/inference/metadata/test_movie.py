"""Texts of MP4 and MOV files: the three customs, and files that are cut, nested, endless or lying."""

import json
import random
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.worker.inference.metadata.graphs import simple
from worker.inference.clip_files import write_clip
from worker.inference.metadata.movie import MAX_BOXES, is_movie, movie_texts
from worker.inference.metadata.reading import Found, read_file
from worker.inference.metadata.texts import MAX_BYTES

TEXT = (
    "a heron, (città:1.2)\nNegative prompt: 夕方\nSteps: 9, Sampler: Euler, CFG scale: 5, Seed: 3, "
    "Size: 64x64, Frames: 17, FPS: 8, Shift: 3"
)
GREY = np.full((1, 64, 64, 3), 128, np.uint8)


def movie(path: Path, texts: dict[str, str], flags: str = "", form: str = "mp4") -> Path:
    """One grey frame with these texts, written by libav."""
    with av.open(path, "w", format=form, options={"movflags": flags} if flags else {}) as made:
        made.metadata.update(texts)
        film = made.add_stream("libx264", rate=8)
        film.width = film.height = 64
        film.pix_fmt = "yuv420p"
        made.mux(film.encode(VideoFrame.from_ndarray(GREY[0], format="rgb24")))
        made.mux(film.encode(None))
    return path


def box(kind: bytes, *inside: bytes) -> bytes:
    content = b"".join(inside)
    return (8 + len(content)).to_bytes(4) + kind + content


def written(path: Path, *boxes: bytes) -> Path:
    path.write_bytes(box(b"ftyp", b"isom\0\0\2\0isom") + b"".join(boxes))
    return path


def text_tag(kind: bytes, text: bytes) -> bytes:
    return box(kind, box(b"data", b"\0\0\0\1\0\0\0\0", text))


def user_data(*tags: bytes) -> bytes:
    return box(b"moov", box(b"udta", box(b"meta", b"\0\0\0\0", box(b"ilst", *tags))))


def found_in(path: Path) -> Found:
    found = read_file(path)
    assert found is not None
    return found


def test_our_own_clips(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", GREY, 8, TEXT + ", Version: Bottega v1")
    found = found_in(tmp_path / "clip.mp4")
    assert (found.tool, found.text) == ("Bottega", TEXT + ", Version: Bottega v1")
    assert (found.info.frames, found.info.fps, found.info.shift) == (17, 8.0, 3.0)


@pytest.mark.parametrize("form", ["mp4", "mov"])
@pytest.mark.parametrize("flags", ["", "+faststart", "+use_metadata_tags", "+faststart+use_metadata_tags"])
def test_every_custom_of_writing_a_comment(tmp_path: Path, form: str, flags: str) -> None:
    found = found_in(movie(tmp_path / "clip", {"comment": TEXT}, flags, form))
    assert (found.tool, found.text) == ("A1111", TEXT)


CLIP_GRAPH = simple(
    n4={"class_type": "EmptyHunyuanLatentVideo",
        "inputs": {"width": 640, "height": 448, "length": 33, "batch_size": 1}},
    n8={"class_type": "ModelSamplingSD3", "inputs": {"shift": 8.0, "model": ["1", 0]}},
    n9={"class_type": "VHS_VideoCombine", "inputs": {"images": ["6", 0], "frame_rate": 16.0}},
)  # fmt: skip
CLIP_GRAPH["5"]["inputs"]["model"] = ["8", 0]


@pytest.mark.parametrize(
    "texts",
    [
        {"comment": json.dumps({"prompt": json.dumps(CLIP_GRAPH), "workflow": {}})},
        {"comment": json.dumps({"workflow": {}, "prompt": CLIP_GRAPH})},
        {"prompt": json.dumps(CLIP_GRAPH), "workflow": "{}"},
    ],
)
def test_graphs_of_comfyui(tmp_path: Path, texts: dict[str, str]) -> None:
    found = found_in(movie(tmp_path / "clip.mp4", texts, "use_metadata_tags"))
    assert (found.tool, found.info.prompt, found.info.size) == ("ComfyUI", "a lighthouse, dawn", (640, 448))
    assert (found.info.frames, found.info.fps, found.info.shift) == (33, 16.0, 8.0)


def test_a_clip_of_a_phone_says_nothing(tmp_path: Path) -> None:
    assert read_file(movie(tmp_path / "clip.mp4", {"comment": "Nonna's birthday"})) is None


def test_pictures_that_begin_like_films_are_none(tmp_path: Path) -> None:
    path = tmp_path / "picture.avif"
    path.write_bytes(box(b"ftyp", b"avif\0\0\0\0avif") + user_data(text_tag(b"\xa9cmt", TEXT.encode())))
    assert not is_movie(path)
    assert movie_texts(path) == {}


def test_old_quicktime_texts(tmp_path: Path) -> None:
    text = TEXT.encode()
    tag = box(b"\xa9cmt", len(text).to_bytes(2), b"\0\0", text)
    assert found_in(written(tmp_path / "clip.mov", box(b"moov", box(b"udta", tag)))).text == TEXT


def test_a_text_that_is_too_long_or_cut_off_is_left_out(tmp_path: Path) -> None:
    long = user_data(text_tag(b"\xa9cmt", b"x" * (MAX_BYTES + 1)), text_tag(b"desc", b"short"))
    assert movie_texts(written(tmp_path / "long.mp4", long)) == {"description": "short"}
    whole = written(tmp_path / "cut.mp4", user_data(text_tag(b"\xa9cmt", b"abcdef"))).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[:-3])
    assert movie_texts(tmp_path / "cut.mp4") == {"comment": "abc"}


def test_a_picture_of_huge_size_before_the_texts_is_stepped_over(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    head = box(b"ftyp", b"isom\0\0\2\0isom")
    hole = 1 << 33
    with path.open("wb") as file:
        file.write(head + b"\0\0\0\1mdat" + hole.to_bytes(8))
        file.seek(len(head) + hole)
        file.write(user_data(text_tag(b"\xa9cmt", TEXT.encode())))
    assert found_in(path).text == TEXT


def test_a_file_of_nothing_but_boxes_ends(tmp_path: Path) -> None:
    boxes = box(b"free") * (MAX_BOXES + 10) + user_data(text_tag(b"\xa9cmt", b"late"))
    assert movie_texts(written(tmp_path / "clip.mp4", boxes)) == {}


@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_damaged_files_end(tmp_path: Path, data: st.DataObject) -> None:
    """Bytes of a whole file changed at random: an answer comes, whatever it says."""
    clip = tmp_path / "whole.mp4"
    if not clip.exists():
        movie(clip, {"comment": TEXT, "prompt": json.dumps(CLIP_GRAPH)}, "faststart+use_metadata_tags")
    content = bytearray(clip.read_bytes())
    drawn = random.Random(data.draw(st.integers(0, 10**6)))
    for _ in range(drawn.randint(1, 12)):
        content[drawn.randrange(len(content))] = drawn.choice((0, 1, 8, 255, drawn.randrange(256)))
    (tmp_path / "clip.mp4").write_bytes(content[: drawn.randint(1, len(content))])
    read_file(tmp_path / "clip.mp4")
