"""How many requests a minute: one budget for reading, one for writing, per token, person or address.

A browser shows a page of pictures with a hundred requests, so what is not REST, and what a logged-in
browser asks, has ten times the budget. Reads are counted in this process, writes for all processes in
Valkey; while that is away, writes pass uncounted.
"""

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.config import get_settings
from app.core.errors import RateLimited
from app.core.throttle import Allowance, allow, allow_reading
from app.web.middleware import SAFE_METHODS

BROWSER_FACTOR = 10
UNCOUNTED = {"/healthz", "/readyz"}


async def count_request(request: Request, who: str, *, browser: bool) -> None:
    """Count for `who`; RateLimitHeaders tells what is left. Errors: RateLimited."""
    if request.scope["path"] in UNCOUNTED:
        return
    left = _read(request, who, browser) if request.method in SAFE_METHODS else await _write(who)
    request.state.allowance = left
    if left is not None and left.refused:
        words = f"More than {left.limit} requests in a minute. Wait {left.reset} seconds, then go on."
        raise RateLimited(words, left.reset)


def _read(request: Request, who: str, browser: bool) -> Allowance:
    budget = get_settings().limits.reads_per_minute
    if browser or not request.scope["path"].startswith("/api/"):
        budget *= BROWSER_FACTOR
    return allow_reading(budget, "requests", "read", who)


async def _write(who: str) -> Allowance | None:
    budget = get_settings().limits.writes_per_minute
    return await run_in_threadpool(allow, budget, "requests", "write", who)


class RateLimitHeaders:
    """Writes `RateLimit-Limit`, `-Remaining` and `-Reset` on every answer that was counted."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def marked(message: Message) -> None:
            left: Allowance | None = scope.get("state", {}).get("allowance")
            if message["type"] == "http.response.start" and left is not None:
                headers = MutableHeaders(scope=message)
                headers["RateLimit-Limit"] = str(left.limit)
                headers["RateLimit-Remaining"] = str(left.remaining)
                headers["RateLimit-Reset"] = str(left.reset)
            await send(message)

        await self.app(scope, receive, marked if scope["type"] == "http" else send)
