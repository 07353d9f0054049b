"""Absolute addresses of this site, for answers that other programs read."""

from urllib.parse import urlencode

from fastapi import Request

from app.core.config import get_settings


def origin(request: Request) -> str:
    """Scheme and host under which people reach this site, without a last slash: PUBLIC_URL if set."""
    public = get_settings().server.public_url
    return public.rstrip("/") if public else f"{request.url.scheme}://{request.url.netloc}"


def with_query(request: Request, **changes: object) -> str:
    """This page's address with some parameters changed; None or an empty text removes one."""
    kept = {name: value for name, value in request.query_params.items() if name not in changes}
    kept |= {name: str(value) for name, value in changes.items() if value not in (None, "")}
    return request.url.path + (f"?{urlencode(kept)}" if kept else "")
