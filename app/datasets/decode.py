"""Decoding of strangers' pictures, kept out of this process.

One warm child does it (`decode_child`) within limits that the kernel enforces; one that crashes,
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
PICTURES_PER_CHILD = 200
"""Then a fresh one: the allocator keeps what large pictures once needed."""
TOO_SLOW = "took too long to read; the server is very busy. Add it again in a few minutes."
TOO_HARD = (
    "could not be decoded within this server's limits. Export it as JPEG or PNG, at most 50 million pixels."
)


class Undecodable(Exception):
    """A file that does not become a picture. `words` follow its name in a sentence."""

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
class Decoded:
    """A normalised picture: files in the folder that the caller gave, and what was seen in it."""

    picture: Path
    thumb: Path
    media_type: str
    width: int
    height: int
    dhash: int
    warnings: list[str]


class Decoder:
    """A child process and its lock."""

    def __init__(self, limits: PictureLimits, wall_seconds: float = WALL_SECONDS) -> None:
        self.limits = limits
        self.wall_seconds = wall_seconds
        self._turn = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._done = 0

    def decode(self, source: Path, out: Path) -> Decoded:
        """Normalise `source` into the folder `out`. Errors: Undecodable; RateLimited when all is busy."""
        if not self._turn.acquire(timeout=WAIT_SECONDS):
            raise RateLimited("Many pictures are being read right now. Try again in a few seconds.", 5)
        try:
            answer = self._ask({"source": str(source), "out": str(out), "limits": asdict(self.limits)})
        finally:
            self._turn.release()
        if "code" in answer:
            raise Undecodable(answer["code"], answer["words"])
        form = answer["format"]
        return Decoded(
            picture=out / f"picture.{form}",
            thumb=out / "thumb.webp",
            media_type=f"image/{form}",
            width=answer["width"],
            height=answer["height"],
            dhash=answer["dhash"],
            warnings=answer["warnings"],
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
            return {"code": "image-unreadable", "words": TOO_HARD}
        self._done += 1
        if self._done >= PICTURES_PER_CHILD:
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
            [sys.executable, "-m", "app.datasets.decode_child"],
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
def get_decoder() -> Decoder:
    """This process' decoder, with the limits of the settings."""
    limits = get_settings().limits
    decoder = Decoder(PictureLimits(limits.picture_pixels, limits.picture_min_side, limits.picture_max_side))
    atexit.register(decoder.close)
    return decoder
