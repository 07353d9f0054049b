"""Decoding of strangers' pictures and clips, kept out of this process.

One warm child of each kind does it (`decode_child`) within limits that the kernel enforces; one that crashes,
hangs or grows old is replaced, and only the picture at hand is refused. Calls from several
threads wait for their turn; who waits too long is told to come again.
"""

import atexit
import json
import os
import select
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from app.core.config import get_settings
from app.core.errors import RateLimited

ROOT = Path(__file__).parents[2]
WALL_SECONDS = 120.0
"""Only for a child that hangs: work is bounded by processor time, and a training may keep all cores busy."""
WAIT_SECONDS = 180.0
CLIP_WALL_SECONDS = 900.0
CLIP_WAIT_SECONDS = 600.0
FILES_PER_CHILD = 200
"""Then a fresh one: the allocator keeps what large pictures once needed."""
TOO_SLOW = "took too long to read; the server is very busy. Add it again in a few minutes."
TOO_HARD = (
    "could not be decoded within this server's limits. Export it as JPEG or PNG, at most 50 million pixels."
)
CLIP_TOO_HARD = (
    "could not be decoded within this server's limits. Export it as MP4 (H.264) at 1080p or less, "
    "a few seconds long."
)


class Undecodable(Exception):
    """A file that does not become a picture or a clip. `words` follow its name in a sentence."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(words)
        self.code = code
        self.words = words


@dataclass(frozen=True)
class PictureLimits:
    pixels: int
    min_side: int
    max_side: int


@dataclass(frozen=True)
class FilmLimits:
    """Of a clip: its length, its rate as kept; pixels of a frame as it came, sides as kept."""

    seconds: float
    rate: int
    pixels: int
    min_side: int
    max_side: int


@dataclass(frozen=True)
class Decoded:
    """A normalised picture or clip: files in the folder that the caller gave, and what was seen in it."""

    picture: Path
    thumb: Path
    media_type: str
    width: int
    height: int
    dhash: int
    warnings: list[str]
    clip: dict[str, float] | None = None
    """`{fps, frames, duration}` of moving pictures; then there are a strip and a poster."""
    strip: Path | None = None
    poster: Path | None = None
    """The middle frame in full size, for who wants a picture of the clip."""

    @property
    def files(self) -> list[tuple[Path, str]]:
        """What is to be stored, each with its media type."""
        webp = [path for path in (self.thumb, self.strip) if path is not None]
        return [(self.picture, self.media_type), *((path, "image/webp") for path in webp)]


class Decoder:
    """A child process and its lock. With `clips` it takes moving pictures too."""

    def __init__(
        self, limits: PictureLimits, wall_seconds: float | None = None, clips: FilmLimits | None = None
    ) -> None:
        self.limits = limits
        self.clips = clips
        self.wall_seconds = wall_seconds or (CLIP_WALL_SECONDS if clips else WALL_SECONDS)
        self._turn = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._done = 0

    def decode(self, source: Path, out: Path) -> Decoded:
        """Normalise `source` into the folder `out`. Errors: Undecodable; RateLimited when all is busy."""
        if not self._turn.acquire(timeout=CLIP_WAIT_SECONDS if self.clips else WAIT_SECONDS):
            what = "clips" if self.clips else "pictures"
            raise RateLimited(f"Many {what} are being read right now. Try again in a few seconds.", 5)
        clips = asdict(self.clips) if self.clips else None
        request: dict[str, object] = {
            "source": str(source),
            "out": str(out),
            "limits": asdict(self.limits),
            "clips": clips,
        }
        try:
            answer = self._ask(request)
        finally:
            self._turn.release()
        if "code" in answer:
            raise Undecodable(answer["code"], answer["words"])
        form = answer["format"]
        return Decoded(
            picture=out / f"picture.{form}",
            thumb=out / "thumb.webp",
            media_type="video/mp4" if form == "mp4" else f"image/{form}",
            width=answer["width"],
            height=answer["height"],
            dhash=answer["dhash"],
            warnings=answer["warnings"],
            clip=answer["clip"],
            strip=out / "strip.webp" if answer["clip"] else None,
            poster=out / "poster.jpeg" if answer["clip"] else None,
        )

    def close(self) -> None:
        """End the child, if there is one."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def _ask(self, request: dict[str, object]) -> dict[str, Any]:
        child = self._alive()
        assert child.stdin is not None
        try:
            child.stdin.write(json.dumps(request).encode() + b"\n")
            child.stdin.flush()
            line = self._read_line(child)
        except BrokenPipeError:
            line = b""
        except TimeoutError:
            self.close()
            return {"code": "decode-timeout", "words": TOO_SLOW}
        if not line.endswith(b"\n"):
            self.close()
            if self.clips:
                return {"code": "clip-unreadable", "words": CLIP_TOO_HARD}
            return {"code": "image-unreadable", "words": TOO_HARD}
        self._done += 1
        if self._done >= FILES_PER_CHILD:
            self.close()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _alive(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is None:
            return self._child
        self.close()
        # Only what Python needs: the child must not see the database's password or the storage's keys.
        env = {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": str(ROOT),
            "LANG": "C.UTF-8",
            "MALLOC_ARENA_MAX": "2",
        }
        self._done = 0
        self._child = subprocess.Popen(
            [sys.executable, "-m", "app.datasets.decode_child", *(["clips"] if self.clips else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=env,
        )
        return self._child

    def _read_line(self, child: subprocess.Popen[bytes]) -> bytes:
        """The answer, or what had come of it when the child died. Errors: TimeoutError."""
        assert child.stdout is not None
        ends = time.monotonic() + self.wall_seconds
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([child.stdout], [], [], max(0.0, ends - time.monotonic()))
            if not ready:
                raise TimeoutError
            chunk = os.read(child.stdout.fileno(), 65536)
            if not chunk:
                break
            line += chunk
        return line


@lru_cache
def get_decoder(media: str = "image") -> Decoder:
    """This process' decoder for sets of pictures (`image`) or clips (`video`), by the settings' limits."""
    limits = get_settings().limits
    pictures = PictureLimits(limits.picture_pixels, limits.picture_min_side, limits.picture_max_side)
    clips = FilmLimits(
        seconds=limits.clip_seconds,
        rate=limits.clip_rate,
        pixels=limits.clip_pixels,
        min_side=limits.picture_min_side,
        max_side=limits.clip_max_side,
    )
    decoder = Decoder(pictures, clips=clips if media == "video" else None)
    atexit.register(decoder.close)
    return decoder
