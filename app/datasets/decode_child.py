"""The decoder's child: `python -m app.datasets.decode_child`, with `clips` for sets of clips.

Reads one JSON line per file from stdin and answers one on stdout. It holds no secret, opens no
connection, and has limits on memory, processor time and file size that the kernel enforces; it
ends with its parent, whose end closes stdin.
"""

import json
import resource
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from app.datasets.normalise import Limits, Normalised, Refused, normalise

MEMORY_BYTES = 2 << 30
CPU_SECONDS = 20
CLIP_CPU_SECONDS = 300
CLIP_MEMORY_BYTES = 3 << 30
FILE_BYTES = 256 << 20


def set_limits(memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def allow_cpu(seconds: int) -> None:
    """The limit counts from the start of the process, so each picture moves it on."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + seconds + 1, hard))


def answer(line: str) -> dict[str, object]:
    request = json.loads(line)
    source, out, limits = Path(request["source"]), Path(request["out"]), Limits(**request["limits"])
    allow_cpu(CLIP_CPU_SECONDS if request["clips"] else CPU_SECONDS)
    try:
        done = (
            _clip(source, out, limits, request["clips"])
            if request["clips"]
            else normalise(source, out, limits)
        )
    except Refused as refused:
        return {"code": refused.code, "words": refused.words}
    return asdict(done)


def _clip(source: Path, out: Path, limits: Limits, clips: dict[str, Any]) -> Normalised:
    from app.datasets.clip import ClipLimits
    from app.datasets.film import normalise_either

    return normalise_either(source, out, limits, ClipLimits(**clips))


def main() -> None:
    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = None  # our own limit is checked by the header, with words
    Image.init()
    set_limits(CLIP_MEMORY_BYTES if "clips" in sys.argv[1:] else MEMORY_BYTES)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(line)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
