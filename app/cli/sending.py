"""A large file to the server: its parts side by side, each tried again, and resumed by a later run.

A session is found again by name, size and SHA256, so that what arrived before is not sent twice and a file
that was changed meanwhile begins anew. Memory does not grow with the file: parts are read as they go out.
"""

import hashlib
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from app.cli.client import Client

PARALLEL = 4
CHUNK = 1 << 20
OnBytes = Callable[[int], None]
"""Told how many bytes have arrived or are on their way."""


def _ignore(_: object) -> None:
    return None


def file_sha256(path: Path, on_bytes: OnBytes = _ignore) -> str:
    """Lower-case hex; `on_bytes` is told how much was read."""
    digest, read = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            read += len(chunk)
            on_bytes(read)
    return digest.hexdigest()


def send_file(
    client: Client,
    path: Path,
    *,
    sha256: str | None = None,
    on_bytes: OnBytes = _ignore,
    on_job: Callable[[dict[str, Any]], None] = _ignore,
    parallel: int = PARALLEL,
) -> dict[str, Any]:
    """Send a file, or what is missing of it; gives the output of the check: upload, sha256, recognised, ….

    `on_job` is told the state of the check. Refusals end the command with their words.
    """
    session = _find(client, path, sha256) if sha256 else None
    if session is None:
        body = {"name": path.name, "size": path.stat().st_size} | ({"sha256": sha256} if sha256 else {})
        session = client.post("/api/v1/uploads", body, headers={"Idempotency-Key": uuid.uuid4().hex})
    _Sender(client, path, session, on_bytes).run(parallel)
    job = client.post(f"/api/v1/uploads/{session['id']}/complete", headers={"Idempotency-Key": session["id"]})
    for now in client.follow(job["id"]):
        on_job(job := now)
    output: dict[str, Any] = client.finish(job)["output"]
    return output


def _find(client: Client, path: Path, sha256: str) -> dict[str, Any] | None:
    """One's own session for these very bytes."""
    known = (path.name, path.stat().st_size, sha256)
    for session in client.get("/api/v1/uploads")["items"]:
        found = (session["name"], session["size"], session["sha256"] or session["announced_sha256"])
        if found == known and session["state"] != "failed":
            return dict(session)
    return None


class _Stopped(Exception):
    """Another part was refused, or the person has had enough."""


class _Sender:
    """The missing parts of one session."""

    def __init__(self, client: Client, path: Path, session: dict[str, Any], on_bytes: OnBytes) -> None:
        self._client, self._path, self._session, self._on_bytes = client, path, session, on_bytes
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._sent: dict[int, int] = {}

    def run(self, parallel: int) -> None:
        """Errors: typer.Exit with the words of the first part that was refused."""
        missing = self._session["missing"]
        self._before = self._session["size"] - sum(self._size(number) for number in missing)
        self._on_bytes(self._before)
        with ThreadPoolExecutor(parallel) as pool:
            try:
                parts = [pool.submit(self._put, number) for number in missing]
                for part in wait(parts, return_when=FIRST_EXCEPTION).done:
                    part.result()
            except BaseException:
                self._stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _size(self, number: int) -> int:
        size = int(self._session["part_size"])
        return min(size, int(self._session["size"]) - (number - 1) * size)

    def _put(self, number: int) -> None:
        address = f"/api/v1/uploads/{self._session['id']}/parts/{number}"
        self._client.put(address, lambda: self._read(number), self._size(number), self._stopped.wait)

    def _read(self, number: int) -> Iterator[bytes]:
        left = self._size(number)
        with self._path.open("rb", buffering=0) as file:
            file.seek((number - 1) * int(self._session["part_size"]))
            while left:
                if self._stopped.is_set():
                    raise _Stopped
                chunk = file.read(min(CHUNK, left))
                if not chunk:
                    return  # the file became shorter: the server refuses the part in words
                yield chunk
                left -= len(chunk)
                self._count(number, self._size(number) - left)

    def _count(self, number: int, sent: int) -> None:
        with self._lock:
            self._sent[number] = sent
            self._on_bytes(self._before + sum(self._sent.values()))
