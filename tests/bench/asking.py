"""Many requests over loopback from a process of its own: a fixed number at once, each address asked in turn.

The client shares the cores with the server, so it does as little as it can: plain sockets that stay open,
answers read to their end and thrown away.
"""

import http.client
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import quantiles

HEADERS = {"accept": "text/html,application/json;q=0.9", "accept-encoding": "identity"}


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
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for place in range(first, len(paths), at_once):
            begun = time.perf_counter()
            status, size = _get(connection, paths[place])
            found[place] = ((time.perf_counter() - begun) * 1000, status, size)
        connection.close()

    with ThreadPoolExecutor(at_once) as threads:
        list(threads.map(walk, range(at_once)))
    return found


def _get(connection: http.client.HTTPConnection, path: str) -> tuple[int, int]:
    """Status and size; once more where the server had just closed a connection that was idle."""
    try:
        connection.request("GET", path, headers=HEADERS)
        answer = connection.getresponse()
    except http.client.RemoteDisconnected:
        connection.close()
        connection.request("GET", path, headers=HEADERS)
        answer = connection.getresponse()
    return answer.status, len(answer.read())
