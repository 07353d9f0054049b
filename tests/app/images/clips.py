"""Clips as a worker leaves them: an MP4 with its generation data inside, and its poster."""

import io
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.images.models import Image
from tests.factories import make_blob, make_image
from worker.inference.clip_files import poster, read_infotext, write_clip

FRAMES, FPS, WIDTH, HEIGHT = 9, 8.0, 96, 64
TEXT = "a boat sails left\nSteps: 9, Sampler: Euler, CFG scale: 4, Seed: 3, Size: 96x64, Frames: 9, FPS: 8"


@lru_cache
def pixels(width: int = WIDTH, height: int = HEIGHT, frames: int = FRAMES) -> Any:
    """A bar that wanders from left to right: [frames, height, width, 3]."""
    made = np.full((frames, height, width, 3), 40, np.uint8)
    for number in range(frames):
        left = number * width // frames
        made[number, :, left : left + width // 8] = (230, 150, 60)
    return made


@lru_cache
def clip(text: str = TEXT, *, width: int = WIDTH, height: int = HEIGHT, frames: int = FRAMES) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_clip(path, pixels(width, height, frames), FPS, text)
        return path.read_bytes()


def poster_of(width: int = WIDTH, height: int = HEIGHT) -> bytes:
    return poster(pixels(width, height))


def make_clip(db: Session, user: User, *, width: int = WIDTH, height: int = HEIGHT, **fields: Any) -> Image:
    """The row of a clip that was drawn here."""
    blob = make_blob(db, clip(width=width, height=height), "video/mp4")
    small = make_blob(db, poster_of(width, height), "image/jpeg")
    values = {
        "blob_sha256": blob.sha256, "size": blob.size, "media_type": "video/mp4",
        "poster_sha256": small.sha256, "thumb_sha256": small.sha256, "infotext": TEXT,
        "width": width, "height": height, "frames": FRAMES, "fps": FPS, "prompt": "a boat sails left",
    }  # fmt: skip
    return make_image(db, user, **values | fields)


def told_by(content: bytes) -> str:
    """The generation data inside an MP4."""
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        file.write(content)
        file.flush()
        return read_infotext(Path(file.name))


def size_of(picture: bytes) -> tuple[str | None, tuple[int, int]]:
    with Pillow.open(io.BytesIO(picture)) as opened:
        return opened.format, opened.size
