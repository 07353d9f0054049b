"""The hashes by which model files are known, all of them in one pass over the bytes.

Definitions are those of Civitai's scanner: upper-case hex; AutoV1 is the old short hash of
64 KiB at 1 MiB; AutoV2 the start of SHA256; AutoV3 the start of the hash of everything after
a safetensors header, so that editing the metadata does not change it; CRC32 is written with
its bytes in little-endian order.
"""

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from blake3 import blake3

TENSOR = "Tensor"
"""Our own kind: all 64 digits of what AutoV3 shortens to 12. Never shown, only looked up."""
_V1_START, _V1_END, _V1_MINIMUM = 0x100000, 0x110000, 0x200000
_MAX_HEADER = 100 << 20


class FileHasher:
    """Feed it the bytes of one file in order, then ask for `hashes()`."""

    def __init__(self) -> None:
        self.size = 0
        self._sha256 = hashlib.sha256()
        self._blake3 = blake3()
        self._crc32 = 0
        self._v1 = hashlib.sha256()
        self._start = b""
        self._tensors_at: int | None = None
        self._tensors = hashlib.sha256()

    def update(self, chunk: bytes) -> None:
        for step in self._steps(chunk):
            step()

    def _steps(self, chunk: bytes) -> list[Callable[[], object]]:
        """What is to be done with the next bytes of the file; independent of each other."""
        steps: list[Callable[[], object]] = [
            partial(self._sha256.update, chunk),
            partial(self._check, chunk),
        ]
        self._v1.update(self._part(chunk, _V1_START, _V1_END))
        if len(self._start) < 9:
            self._read_start(chunk)
        elif self._tensors_at is not None:
            steps.append(partial(self._tensors.update, self._part(chunk, self._tensors_at, None)))
        self.size += len(chunk)
        return steps

    def _check(self, chunk: bytes) -> None:
        self._blake3.update(chunk)
        self._crc32 = zlib.crc32(chunk, self._crc32)

    def passing(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The same chunks; while one is with the caller, all its hashes are computed beside each other."""
        with ThreadPoolExecutor(3, thread_name_prefix="hash") as pool:
            for chunk in chunks:
                steps = [pool.submit(step) for step in self._steps(chunk)]
                yield chunk
                for step in steps:
                    step.result()

    def _part(self, chunk: bytes, start: int, end: int | None) -> bytes:
        """The bytes of `chunk` that lie in [start, end) of the file."""
        begin, stop = max(0, start - self.size), None if end is None else max(0, end - self.size)
        return chunk if begin == 0 and stop is None else chunk[begin:stop]

    def _read_start(self, chunk: bytes) -> None:
        """A safetensors file begins with the header's length (8 bytes, little-endian) and `{`."""
        before = self.size - len(self._start)
        head = self._start + chunk
        self._start = head[:9]
        if len(self._start) < 9:
            return
        length = int.from_bytes(self._start[:8], "little")
        if self._start[8:9] == b"{" and length <= _MAX_HEADER:
            self._tensors_at = 8 + length
            self._tensors.update(head[max(0, self._tensors_at - before) :])

    def hashes(self) -> dict[str, str]:
        """Kind → value. AutoV1 only from 2 MiB on, AutoV3 and Tensor only for safetensors."""
        sha256 = self._sha256.hexdigest().upper()
        found = {
            "SHA256": sha256,
            "AutoV2": sha256[:10],
            "BLAKE3": self._blake3.hexdigest().upper(),
            "CRC32": self._crc32.to_bytes(4, "little").hex().upper(),
        }
        if self.size >= _V1_MINIMUM:
            found["AutoV1"] = self._v1.hexdigest()[:8].upper()
        if self._tensors_at is not None and self._tensors_at <= self.size:
            found[TENSOR] = self._tensors.hexdigest().upper()
            found["AutoV3"] = found[TENSOR][:12]
        return found


def hash_stream(chunks: Iterable[bytes]) -> dict[str, str]:
    """All hashes of a file that comes in chunks of any size, e.g. `storage.stream(key)`."""
    hasher = FileHasher()
    for chunk in chunks:
        hasher.update(chunk)
    return hasher.hashes()
