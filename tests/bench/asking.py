"""Many requests over loopback from a process of its own: a fixed number at once, each address asked in turn.

The client shares the cores with the server, so it does as little as it can: plain sockets that stay open,
answers read to their end and thrown away.
"""

import multiprocessing
import re
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import quantiles

ACCEPT = "text/html,application/json;q=0.9"
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


@dataclass(frozen=True)
class Timings:
    """Milliseconds from sending a request to the last byte of its answer."""

    p50: float
    p99: float
    most: float
    size: int
    """Bytes of the middle answer."""
    refused: tuple[str, ...] = ()
    """What was not answered with 200: status and address."""


def ask(port: int, paths: Sequence[str], *, at_once: int = 4) -> Timings:
    """Ask for all of `paths`, `at_once` at a time, from another process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        seen = pool.apply(_ask_all, (port, list(paths), at_once))
    times = sorted(spent for spent, _, _ in seen)
    cuts = quantiles(times, n=100, method="inclusive")
    refused = [f"{status} {path}" for (_, status, _), path in zip(seen, paths, strict=True) if status != 200]
    sizes = sorted(size for _, _, size in seen)
    return Timings(cuts[49], cuts[98], times[-1], sizes[len(sizes) // 2], tuple(refused))


def _ask_all(port: int, paths: Sequence[str], at_once: int) -> list[tuple[float, int, int]]:
    """(milliseconds, status, bytes) of each, in the order of `paths`."""
    found: list[tuple[float, int, int]] = [(0.0, 0, 0)] * len(paths)

    def walk(first: int) -> None:
        line = Line(port)
        for place in range(first, len(paths), at_once):
            begun = time.perf_counter()
            status, size = line.get(paths[place])
            found[place] = ((time.perf_counter() - begun) * 1000, status, size)
        line.close()

    with ThreadPoolExecutor(at_once) as threads:
        list(threads.map(walk, range(at_once)))
    return found


class Line:
    """A connection that stays open."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.rest = memoryview(bytearray(1 << 20))
        self._open()

    def _open(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        self.socket.close()

    def get(self, path: str) -> tuple[int, int]:
        """Status and size; once more where the server had just closed the connection because it was idle."""
        try:
            return self._get(path)
        except ConnectionError:
            self.close()
            self._open()
            return self._get(path)

    def _get(self, path: str) -> tuple[int, int]:
        host = f"127.0.0.1:{self.port}"
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nhost: {host}\r\naccept: {ACCEPT}\r\n\r\n".encode())
        head, body = self._head()
        length = _LENGTH.search(head)
        if length is None:
            raise ValueError(f"{path} was answered without a length")
        size = int(length[1])
        left = size - len(body)
        while left:
            left -= self._receive(self.rest[:left])
        return int(head[9:12]), size

    def _head(self) -> tuple[bytes, bytes]:
        """The head of an answer, and what came of its body with it."""
        came = b""
        while b"\r\n\r\n" not in came:
            came += bytes(self.rest[: self._receive(self.rest)])
        end = came.index(b"\r\n\r\n") + 4
        return came[:end], came[end:]

    def _receive(self, into: memoryview) -> int:
        amount = self.socket.recv_into(into)
        if not amount:
            raise ConnectionResetError("The server closed the connection.")
        return amount
