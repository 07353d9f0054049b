"""Bodies in: streamed to a file, counted while they come, with no database connection held meanwhile."""

import base64
import binascii
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import Request
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from app.core.errors import AppError, Invalid, TooLarge
from app.core.storage import told_of_full_disk

WRITE_BYTES = 1 << 20
"""So much of a body is written at once, in a thread: a slow disk must not hold up other requests."""


async def pause(db: Session) -> None:
    """Give the request's connection back while a body streams in or pictures are decoded.

    What was only read stays usable; the session begins a new transaction when it is used again.
    """
    await run_in_threadpool(db.close)


def check_length(request: Request, max_bytes: int, words: str) -> None:
    """Refuse by Content-Length, before a byte is read. Errors: TooLarge."""
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > max_bytes:
        raise TooLarge(words, limit=max_bytes)


async def counted(request: Request, max_bytes: int, words: str) -> AsyncIterator[bytes]:
    """The body, as far as it is allowed to go, whatever its headers say.

    Errors: TooLarge; AppError when the sender is gone, which is nothing to log.
    """
    check_length(request, max_bytes, words)
    seen = 0
    try:
        async for chunk in request.stream():
            seen += len(chunk)
            if seen > max_bytes:
                raise TooLarge(words, limit=max_bytes)
            yield chunk
    except ClientDisconnect as error:
        raise AppError("The connection broke before all of it had come. Send it again.") from error


async def read_body(request: Request, target: Path, max_bytes: int, words: str) -> None:
    """Write the body to `target` and compare it with Content-Digest where one was sent (RFC 9530, sha-256).

    Errors: TooLarge, DiskFull; Invalid `digest-mismatch`.
    """
    wanted = request.headers.get("content-digest")
    digest = hashlib.sha256() if wanted else None

    def write(chunks: list[bytes]) -> None:
        with told_of_full_disk():
            out.writelines(chunks)
        if digest is not None:
            for chunk in chunks:
                digest.update(chunk)

    with target.open("wb") as out:
        waiting: list[bytes] = []
        async for chunk in counted(request, max_bytes, words):
            waiting.append(chunk)
            if sum(map(len, waiting)) >= WRITE_BYTES:
                await run_in_threadpool(write, waiting)
                waiting = []
        await run_in_threadpool(write, waiting)
    if digest is not None:
        check_digest(wanted, digest.digest())


def check_digest(header: str | None, actual: bytes) -> None:
    """`sha-256=:<base64>:`, alone or among other algorithms, which are ignored. Errors: Invalid."""
    for part in (header or "").split(","):
        name, _, value = part.strip().partition("=")
        if name.lower() != "sha-256":
            continue
        try:
            wanted = base64.b64decode(value.strip(": "), validate=True)
        except binascii.Error:
            wanted = b""
        if wanted != actual:
            raise Invalid("The bytes changed on their way. Send them again.", code="digest-mismatch")


async def read_form(request: Request, max_bytes: int, max_files: int, words: str) -> FormData:
    """A multipart form whose files lie on disk beyond 1 MiB each. Close it after use.

    Errors: TooLarge, AppError.
    """
    parser = MultiPartParser(
        request.headers,
        counted(request, max_bytes, words),  # type: ignore[arg-type]  # an iterator is enough
        max_files=max_files,
        max_fields=100,
    )
    try:
        return await parser.parse()
    except MultiPartException as error:
        raise AppError(f"The form cannot be read: {error.message}") from error
