"""One place that turns errors into answers: problem+json for /api, a page or a fragment for people.

Nobody ever sees a traceback: what is not an AppError is logged with an id that the answer names.
"""

import logging
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode, urlsplit
from uuid import uuid4

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import DataError, IntegrityError, OperationalError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from app.core.errors import (
    AppError,
    Conflict,
    DiskFull,
    FieldError,
    Invalid,
    NotFound,
    Unsupported,
    is_disk_full,
)
from app.core.ids import new_id
from app.web.forms import plain_words
from app.web.links import origin
from app.web.middleware import SECURITY_HEADERS
from app.web.templating import render

log = logging.getLogger("bottega.errors")
MACHINES = ("/api/", "/sdapi/", "/v1/", "/v2/")
"""What only programs ask."""


def wants_json(request: Request) -> bool:
    path = request.url.path
    if path.startswith(MACHINES) or path in ("/openapi.json", "/healthz", "/readyz", "/metrics"):
        return True
    return request.headers.get("authorization", "").lower().startswith("bearer ")


def problem(request: Request, error: AppError) -> JSONResponse:
    """RFC 9457 body. `type` resolves to the page that explains the code, `instance` names this one answer."""
    body: dict[str, Any] = {
        "type": f"{origin(request)}/docs/errors#{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "instance": uuid4().urn,
        "code": error.code,
        **error.extra,
    }
    if isinstance(error, Invalid):
        body["errors"] = [{"pointer": e.pointer, "detail": e.detail, "code": e.code} for e in error.errors]
    return JSONResponse(body, error.status, headers=error.headers, media_type="application/problem+json")


def respond(request: Request, error: AppError) -> Response:
    if wants_json(request):
        return problem(request, error)
    if error.code == "unauthorized" and (login := _login_page(request)):
        return login
    template = "web/error_fragment.html" if "hx-request" in request.headers else "web/error.html"
    response = render(request, template, error=error, status=error.status)
    response.headers.update(error.headers)
    return response


def _login_page(request: Request) -> Response | None:
    """Somebody who is not logged in comes back to the page they wanted."""
    if "hx-request" in request.headers:
        page = urlsplit(request.headers.get("hx-current-url", "")).path or "/"
        return Response(headers={"HX-Redirect": f"/login?{urlencode({'next': page})}"})
    if request.method != "GET":
        return None
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return Response(status_code=303, headers={"Location": f"/login?{urlencode({'next': wanted})}"})


def _pointer(location: tuple[str | int, ...]) -> str:
    parts = location[1:] if location and location[0] in ("body", "query", "path", "header") else location
    return "#" + "".join("/" + str(p).replace("~", "~0").replace("/", "~1") for p in parts)


def _refusal(request: Request, error: RequestValidationError) -> AppError:
    """A body that is no JSON is a 400, one that is sent as something else a 415, wrong fields are a 422."""
    broken = next((e for e in error.errors() if e["type"] == "json_invalid"), None)
    if broken is not None:
        words = str(broken.get("ctx", {}).get("error", "it ends too early"))
        return AppError(f"The body is not JSON, from character {broken['loc'][-1]} on: {words}.")
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    whole = any(tuple(e["loc"]) == ("body",) for e in error.errors())
    if whole and kind and kind != "application/json" and not kind.endswith("+json"):
        return Unsupported(f"Send JSON with Content-Type: application/json, not {kind}.")
    return _invalid(error)


def _invalid(error: RequestValidationError) -> Invalid:
    fields = [FieldError(_pointer(e["loc"]), plain_words(e), e["type"]) for e in error.errors()]
    listed = "; ".join(f"{f.pointer.removeprefix('#/')}: {f.detail}" for f in fields[:5])
    return Invalid(f"Please correct: {listed}.", fields)


class _Plain(AppError):
    """An error of the framework (404, 405, …) in our own form."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None) -> None:
        super().__init__(detail)
        self.status = status
        self.title = HTTPStatus(status).phrase
        self.code = self.title.lower().replace(" ", "-")
        self._headers = headers or {}

    @property
    def headers(self) -> dict[str, str]:
        return self._headers


_UNSTORABLE = "Something in this request cannot be stored: a number that is too large, or a broken character."
_COLLISION = "This was changed at the same moment. Load the page and try again."
_FULL = "The server's disk is full. Delete something or ask the admin for more space."
_AWAY = "The database is away for a moment. Nothing is lost; try again in a few seconds."
_WORDS = {404: "There is nothing at this address.", 405: "This address does not take that kind of request."}


def explain(request: Request, error: Exception) -> AppError:
    """Whatever went wrong in a route as an error with a status and words; what nobody foresaw is logged.

    A collision: two requests changed the same thing, and the rows of the later one no longer fit.
    """
    match error:
        case AppError():
            return error
        case RequestValidationError():
            return _refusal(request, error)
        case HTTPException():
            detail = _WORDS.get(error.status_code, str(error.detail))
            return _Plain(error.status_code, detail, dict(error.headers or {}))
        case DataError() | UnicodeEncodeError():
            return Invalid(_UNSTORABLE)
        case IntegrityError():
            log.warning("%s %s: %s", request.method, request.url.path, error)
            return Conflict(_COLLISION)
        case OperationalError():
            log.error("database: %s", error)
            return _Plain(503, _AWAY, {"Retry-After": "5"})
        case OSError() if is_disk_full(error):
            log.error("%s %s: %s", request.method, request.url.path, error)
            return DiskFull(_FULL)
    crash = new_id("err")
    log.exception("%s %s failed (%s)", request.method, request.url.path, crash, exc_info=error)
    return _Plain(500, f"Something went wrong here. Tell the admin this number: {crash}.", None)


async def _on_error(request: Request, error: Exception) -> Response:
    return respond(request, explain(request, error))


async def _on_unstorable(request: Request, error: Exception) -> Response:
    """A number beyond the column, a NUL or half a character: no row has it, and none can get it."""
    if request.method in ("GET", "HEAD", "DELETE") and not request.url.query:
        return respond(request, NotFound(_WORDS[404]))
    return respond(request, explain(request, error))


async def _on_system(request: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)
    if not is_disk_full(error):
        raise error
    return respond(request, explain(request, error))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if not hasattr(request.state, "viewer") and not wants_json(request):
        await run_in_threadpool(request.app.state.show_viewer, request)  # no route, so no dependency has run
    plain = explain(request, error)
    if error.status_code == 405:
        plain.extra["error"] = "Method not allowed"  # what Civitai's clients look for
    return respond(request, plain)


async def _on_crash(request: Request, error: Exception) -> Response:
    # This answer is made outside of all middleware, so it brings its headers itself.
    told = explain(request, error)
    told.headers.update(SECURITY_HEADERS)
    return respond(request, told)


def add_error_handlers(app: FastAPI) -> None:
    app.add_exception_handler(AppError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_error)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(OperationalError, _on_error)
    app.add_exception_handler(DataError, _on_unstorable)
    app.add_exception_handler(UnicodeEncodeError, _on_unstorable)
    app.add_exception_handler(IntegrityError, _on_error)
    app.add_exception_handler(OSError, _on_system)
    app.add_exception_handler(Exception, _on_crash)
