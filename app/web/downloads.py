"""Bytes out: whole blobs with strong ETags, ranges and 304, never as something a browser would run.

Order: nginx's X-Accel-Redirect, else our own file answer with 1 MiB chunks (64 KiB chunks,
Starlette's default, cost three times the processor time), else a stream from the bucket.
"""

import re
from email.utils import formatdate
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import FileResponse, Response, StreamingResponse
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from app.core.blobs import blob_key
from app.core.config import get_settings
from app.core.errors import NotFound
from app.core.storage import Storage

INLINE_TYPES = {"image/png", "image/jpeg", "image/webp", "image/avif", "video/mp4"}
"""Only these are ever shown inline; everything else is an attachment."""
RANGE = re.compile(r"bytes=(\d{0,100})-(\d{0,100})")
ONE_RANGE = re.compile(r"\s*(?!-\s*$)(\d{0,100})-(\d{0,100})\s*")
SANDBOX = "sandbox; default-src 'none'"
FILM = "default-src 'none'; media-src 'self'; style-src 'unsafe-inline'"
"""A film that is opened by itself is a page of the browser's own that loads it; in a sandbox it may not."""


class BigFileResponse(FileResponse):
    chunk_size = 1 << 20

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not _is_range(Headers(scope=scope).get("range", "")):
            kept = [(name, value) for name, value in scope["headers"] if name.lower() != b"range"]
            scope = {**scope, "headers": kept}
        await super().__call__(scope, receive, send)


def _is_range(asked: str) -> bool:
    """RFC 9110: a Range in another unit, or one that makes no sense, is as good as none."""
    unit, _, ranges = asked.partition("=")
    parts = [ONE_RANGE.fullmatch(part) for part in ranges.split(",")]
    return unit.strip().lower() == "bytes" and all(
        part is not None and (not part[1] or not part[2] or int(part[1]) <= int(part[2])) for part in parts
    )


def content_disposition(name: str, *, inline: bool = False) -> str:
    """RFC 6266, safe for any name: control characters and quotes never reach the header.

    The plain name is the last thing: programs take what stands behind `filename=` to the end.
    """
    safe = [c if c.isascii() and c.isprintable() and c not in '"\\;/' else "_" for c in name]
    kind, plain = "inline" if inline else "attachment", "".join(safe) or "file"
    whole = "" if plain == name else f" filename*=UTF-8''{quote(name, safe='')};"
    return f'{kind};{whole} filename="{plain}"'


def policy(media_type: str) -> str:
    """The Content-Security-Policy of a file that is shown."""
    return FILM if media_type.startswith("video/") else SANDBOX


def send_blob(
    request: Request,
    storage: Storage,
    sha256: str,
    *,
    name: str,
    media_type: str = "application/octet-stream",
    inline: bool = False,
    public: bool = False,
) -> Response:
    """Answer GET or HEAD with a blob. `public` lets shared caches keep it."""
    shown = inline and media_type in INLINE_TYPES
    headers = {
        "ETag": f'"{sha256}"',
        "Cache-Control": f"{'public' if public else 'private'}, max-age=31536000, immutable",
        "Content-Disposition": content_disposition(name, inline=shown),
        "Content-Security-Policy": policy(media_type) if shown else SANDBOX,
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "cross-origin" if public else "same-origin",
    }
    known = request.headers.get("if-none-match", "")
    if known.strip() == "*" or f'"{sha256}"' in known:
        return Response(status_code=304, headers=headers)
    return _bytes(request, storage, sha256, media_type, headers)


def _bytes(
    request: Request, storage: Storage, sha256: str, media_type: str, headers: dict[str, str]
) -> Response:
    key = blob_key(sha256)
    size = storage.size(key)
    if size is None:
        raise NotFound("This file is no longer on the server.")
    path = storage.local_path(key)
    if path is not None:
        if accel := get_settings().server.x_accel:
            return Response(media_type=media_type, headers={**headers, "X-Accel-Redirect": f"{accel}/{key}"})
        headers["Last-Modified"] = formatdate(path.stat().st_mtime, usegmt=True)
        return BigFileResponse(path, media_type=media_type, headers=headers)
    return _from_bucket(request, storage, key, size, media_type, headers)


def _from_bucket(
    request: Request, storage: Storage, key: str, size: int, media_type: str, headers: dict[str, str]
) -> Response:
    """The object or one range of it."""
    start, end, status = _part(request, size, headers)
    if status == 416:
        return Response(status_code=416, headers=headers)
    if request.method == "HEAD":
        return Response(status_code=status, media_type=media_type, headers=headers)
    return StreamingResponse(storage.stream(key, start, end), status, media_type=media_type, headers=headers)


def _part(request: Request, size: int, headers: dict[str, str]) -> tuple[int, int, int]:
    """Start, end and status of what is asked for; the headers are told too.

    Several ranges at once get the whole, as the standard permits.
    """
    start, end, status = 0, size, 200
    wanted = request.headers.get("range", "").strip()
    asked = RANGE.fullmatch(wanted)
    if asked and _is_range(wanted) and request.headers.get("if-range", headers["ETag"]) == headers["ETag"]:
        first, last = asked.groups()
        start = int(first) if first else max(0, size - int(last or 0))
        end = min(int(last) + 1, size) if first and last else size
        if start >= end:
            headers["Content-Range"] = f"bytes */{size}"
            return 0, 0, 416
        status, headers["Content-Range"] = 206, f"bytes {start}-{end - 1}/{size}"
    headers |= {"Content-Length": str(end - start), "Accept-Ranges": "bytes"}
    return start, end, status


def send_bytes(request: Request, content: bytes, media_type: str, headers: dict[str, str]) -> Response:
    """Answer GET or HEAD with bytes that were made just now, or a range of them. `headers` has their ETag."""
    headers = {
        "Content-Security-Policy": policy(media_type),
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
    } | headers
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    start, end, status = _part(request, len(content), headers)
    body = b"" if request.method == "HEAD" or status == 416 else content[start:end]
    return Response(body, status, media_type=media_type, headers=headers)
