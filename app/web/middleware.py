"""What every request passes: believed proxy headers, refusal of forged writes, security headers.

Plain ASGI, because Starlette's BaseHTTPMiddleware breaks streaming answers.
"""

import ipaddress
import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
CSP = (
    "default-src 'self'; script-src 'self'; style-src 'self'; font-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; media-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
)


SECURITY_HEADERS = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "cross-origin-opener-policy": "same-origin",
}


class TrustedProxy:
    """Takes scheme, host and client from X-Forwarded-* when the peer is a configured proxy."""

    def __init__(self, app: ASGIApp, trusted: str) -> None:
        self.app = app
        self.networks = [
            ipaddress.ip_network(n.strip(), strict=False) for n in trusted.split(",") if n.strip()
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._is_trusted(scope):
            self._apply(scope)
        await self.app(scope, receive, send)

    def _is_trusted(self, scope: Scope) -> bool:
        try:
            peer = ipaddress.ip_address((scope.get("client") or ("",))[0])
        except ValueError:
            return False
        return any(peer in network for network in self.networks)

    def _apply(self, scope: Scope) -> None:
        headers = MutableHeaders(scope=scope)
        if proto := headers.get("x-forwarded-proto"):
            scope["scheme"] = "https" if proto.split(",")[0].strip() == "https" else "http"
        if host := headers.get("x-forwarded-host"):
            headers["host"] = host.split(",")[0].strip()
        if chain := headers.get("x-forwarded-for"):
            # The rightmost address was written by the proxy that we trust; the rest anyone can invent.
            scope["client"] = (chain.split(",")[-1].strip(), 0)


class RefuseForgedWrites:
    """CSRF: a write that carries a cookie must come from our own pages.

    Sec-Fetch-Site decides where browsers send it; on plain http beyond localhost they do not, and
    Origin does. A request with a Bearer token does not use cookies at all; Basic does not help, because
    browsers attach it by themselves where a proxy asked for it.
    """

    def __init__(self, app: ASGIApp, public_url: str | None) -> None:
        self.app = app
        self.public_host = urlsplit(public_url).netloc if public_url else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in SAFE_METHODS or self._is_ours(Headers(scope=scope)):
            await self.app(scope, receive, send)
            return
        await _forged(scope["path"])(scope, receive, send)

    def _is_ours(self, headers: Headers) -> bool:
        if headers.get("authorization", "").lower().startswith("bearer "):
            return True
        site = headers.get("sec-fetch-site")
        if site is not None:
            return site in ("same-origin", "none")
        origin = headers.get("origin")
        if origin is None:
            return "cookie" not in headers
        return urlsplit(origin).netloc in {headers.get("host"), self.public_host}


def _forged(path: str) -> Response:
    text = "This request did not come from a page of this site. Reload the page and try again."
    if not path.startswith("/api/"):
        return PlainTextResponse(text, 403)
    body = {"type": "/docs/errors#forbidden", "title": "Not allowed", "status": 403, "detail": text}
    media_type = "application/problem+json"
    return JSONResponse(body | {"code": "forbidden"}, 403, media_type=media_type)


class Preflight:
    """Lets pages of other sites use the Civitai-shaped reads, which answer `Access-Control-Allow-Origin: *`.

    Cookies are not sent with such requests, so nothing private is opened by it.
    """

    OPEN = re.compile(
        r"/api/(v1/(models|model-versions|images|tags|creators|users|enums|permissions|me)|download/models)(/|$)"
    )

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "OPTIONS" or not self.OPEN.match(scope["path"]):
            await self.app(scope, receive, send)
            return
        headers = {
            "Access-Control-Allow-Origin": "*",
            "Access-Control-Allow-Headers": "*, Authorization",
            "Access-Control-Allow-Methods": "GET, HEAD, POST, OPTIONS",
        }
        await Response(status_code=200, headers=headers)(scope, receive, send)


class SecurityHeaders:
    """CSP without inline script, nosniff and friends on every answer that has none of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, guarded if scope["type"] == "http" else send)
