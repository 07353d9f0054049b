"""How Civitai's API answers: `{"error": …}`, not problem+json; open to every origin; kept by caches.

Only what anybody would get may be kept by a shared cache; an error never is.
"""

import json
import logging
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import urlencode

from fastapi import Request, Response
from fastapi.exceptions import HTTPException, RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse
from fastapi.routing import APIRoute
from sqlalchemy.exc import DataError, OperationalError
from starlette.exceptions import HTTPException as PlainHTTPException

from app.core.errors import AppError, Forbidden, Unauthorized
from app.core.ids import new_id
from app.web.kept import KeptResponse, tag_of
from app.web.rendered import Rendered

log = logging.getLogger("bottega.compat")
OPEN = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "*"}
SHARED = "public, s-maxage=300, stale-while-revalidate=150"
SHARED_HASH = "public, s-maxage=3600, stale-while-revalidate=1800"
NO_STORE = {"Cache-Control": "no-store"}
HASHES = "/api/v1/model-versions/by-hash"
WANT_HASHES = "Request must include an array of SHA256 Hashes."
OVERLOADED = "The server is temporarily overloaded — please retry."


class Refused(AppError):
    """A 400 with a body of its own."""

    def __init__(self, words: Any) -> None:
        super().__init__(str(words))
        self.body = words


def issue(path: str, words: str) -> Refused:
    """What a wrong parameter of a list answers: the shape of a zod error, of its old and its new version."""
    issues = [{"code": "invalid_value", "path": [path], "message": words}]
    return Refused({"name": "ZodError", "message": json.dumps(issues), "issues": issues})


class CivitaiRoute(APIRoute):
    """Renders every error of its routes as Civitai does, after the transaction was rolled back."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        methods = ", ".join(sorted({*(self.methods or ()), "OPTIONS"})).replace("HEAD", "GET, HEAD")

        async def answer(request: Request) -> Response:
            try:
                return _opened(_kept(request, await handle(request)), methods)
            except (HTTPException, PlainHTTPException):
                raise
            except Exception as error:  # each kind has its own answer; none leaves as a page
                raise Rendered(_opened(_refusal(request, error), methods)) from error

        return answer


def _opened(response: Response, methods: str) -> Response:
    for name, value in (OPEN | {"Access-Control-Allow-Methods": methods}).items():
        response.headers.setdefault(name, value)
    return response


def _kept(request: Request, response: Response) -> Response:
    """What may be kept and by whom, and 304 for who has it already."""
    if request.method != "GET" or response.headers.get("content-type") != "application/json":
        return response
    anybody = getattr(request.state, "viewer", None) is None and not request.query_params.get("key")
    shared = SHARED_HASH if request.url.path.startswith(HASHES) else SHARED
    response.headers["Cache-Control"] = shared if anybody else "private, no-cache"
    response.headers["Vary"] = "Authorization, Cookie"
    kept = response.answer.tag if isinstance(response, KeptResponse) else tag_of(bytes(response.body))
    tag = f'W/"{kept}"'
    response.headers.setdefault("ETag", tag)
    known = {word.strip().removeprefix("W/") for word in request.headers.get("if-none-match", "").split(",")}
    if response.headers["ETag"] == tag and tag.removeprefix("W/") in known:
        names = ("ETag", "Cache-Control", "Vary")
        return Response(status_code=304, headers={name: response.headers[name] for name in names})
    return response


def _refusal(request: Request, error: Exception) -> Response:
    if isinstance(error, AppError):
        return _for_person(request, error) or _error(error)
    if isinstance(error, RequestValidationError):
        words = "; ".join(f"{e['loc'][-1]}: {e['msg']}" for e in error.errors()[:5])
        prefix = f"{WANT_HASHES} " if request.url.path.startswith(HASHES) else ""
        return JSONResponse({"error": prefix + words}, 400, headers=NO_STORE)
    if isinstance(error, DataError | UnicodeEncodeError):
        words = "A parameter is no text or a number that is too large"
        return JSONResponse({"error": words}, 400, headers=NO_STORE)
    if isinstance(error, OperationalError):
        log.error("database: %s", error)
        return JSONResponse({"error": OVERLOADED}, 503, headers=NO_STORE | {"Retry-After": "2"})
    crash = new_id("err")
    log.exception("%s %s failed (%s)", request.method, request.url.path, crash, exc_info=error)
    body = {"message": "An unexpected error occurred", "error": f"Tell the admin this number: {crash}."}
    return JSONResponse(body, 500, headers=NO_STORE)


def _error(error: AppError) -> Response:
    body: dict[str, Any] = {"error": error.body if isinstance(error, Refused) else error.detail}
    if isinstance(error, Unauthorized):
        body = {"error": "Unauthorized"}
        if message := error.extra.get("message"):
            body["message"] = message
    elif isinstance(error, Forbidden) and error.code == "insufficient-scope":
        body = {"error": "insufficient_scope", "error_description": error.detail}
    status = 400 if error.status == 422 else error.status
    return JSONResponse(body, status, headers=NO_STORE | error.headers)


def _for_person(request: Request, error: AppError) -> Response | None:
    """A browser that follows a download link gets words, or the login, instead of JSON."""
    browser = "text/html" in request.headers.get("accept", "")
    if not browser or not request.url.path.startswith("/api/download/"):
        return None
    if isinstance(error, Unauthorized):
        wanted = urlencode({"next": f"{request.url.path}?{request.url.query}", "reason": "download-auth"})
        return RedirectResponse(f"/login?{wanted}", 303, headers=NO_STORE)
    return PlainTextResponse(error.detail, error.status, headers=NO_STORE | error.headers)
