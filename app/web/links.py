"""Addresses of this site: absolute ones for other programs, and a page's own with other parameters.

A page asks for dozens of them, so what they have in common is worked out once for a request.
"""

from functools import lru_cache
from urllib.parse import urlencode

from fastapi import Request

from app.core.config import get_settings

_ORIGIN, _PARTS = "bottega.origin", "bottega.query"
"""Where a request's scope keeps it."""


def origin(request: Request) -> str:
    """Scheme and host under which people reach this site, without a last slash: PUBLIC_URL if set."""
    known: str | None = request.scope.get(_ORIGIN)
    if known is None:
        public = get_settings().server.public_url
        known = public.rstrip("/") if public else f"{request.url.scheme}://{request.url.netloc}"
        request.scope[_ORIGIN] = known
    return known


def with_query(request: Request, **changes: object) -> str:
    """This page's address with some parameters changed; None or an empty text removes one."""
    path, parts = _asked(request)
    kept = [part for name, part in parts.items() if name not in changes]
    kept += [_part(name, str(value)) for name, value in changes.items() if value not in (None, "")]
    return f"{path}?{'&'.join(kept)}" if kept else path


def _asked(request: Request) -> tuple[str, dict[str, str]]:
    """Path of this page, and name → `name=value` of its parameters."""
    asked: tuple[str, dict[str, str]] | None = request.scope.get(_PARTS)
    if asked is None:
        parts = {name: urlencode({name: value}) for name, value in request.query_params.items()}
        asked = request.scope[_PARTS] = (request.url.path, parts)
    return asked


@lru_cache(maxsize=1000)
def _part(name: str, value: str) -> str:
    return urlencode({name: value})
