"""Absolute addresses of this site, for answers that other programs read."""

from fastapi import Request

from app.core.config import get_settings


def origin(request: Request) -> str:
    """Scheme and host under which people reach this site, without a slash at the end: PUBLIC_URL if it is set."""
    public = get_settings().server.public_url
    return public.rstrip("/") if public else f"{request.url.scheme}://{request.url.netloc}"
