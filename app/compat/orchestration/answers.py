"""How orchestration answers: RFC 7807 with `errors` by path, 400 for wrong fields.

Who waits for a workflow's end holds no database connection meanwhile.
"""

import asyncio
import re
import time
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import HTTPException
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as PlainHTTPException
from starlette.types import Receive, Scope, Send

from app.compat.orchestration import service, shapes
from app.compat.orchestration.blobs import make_links
from app.compat.orchestration.models import Workflow
from app.core.db import unit_of_work
from app.core.errors import AppError, Invalid
from app.web.errors import explain
from app.web.links import origin
from app.web.rendered import Rendered

MAX_WAIT = 90.0
"""Seconds: clients and proxies give up at 100."""
LOOK_SECONDS = 0.25
NO_STORE = {"Cache-Control": "no-store"}
Shape = Callable[[shapes.Facts, Workflow], dict[str, Any]]


class OrchestrationRoute(APIRoute):
    """Renders every error of its routes as Civitai's orchestration does, after the rollback."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except (HTTPException, PlainHTTPException):
                raise
            except Exception as error:  # each kind has its own words; none leaves as a page
                raise Rendered(problem(request, explain(request, error))) from error

        return answer


def problem(request: Request, error: AppError) -> Response:
    status = 400 if error.status == 422 else error.status
    body: dict[str, Any] = {
        "type": f"{origin(request)}/docs/errors#{error.code}",
        "title": error.title,
        "status": status,
        "detail": error.detail,
        "code": error.code,
    }
    if isinstance(error, Invalid) and error.errors:
        body["errors"] = {}
        for wrong in error.errors:
            body["errors"].setdefault(path_of(wrong.pointer), []).append(wrong.detail)
    return JSONResponse(body, status, headers=NO_STORE | error.headers, media_type="application/problem+json")


def path_of(pointer: str) -> str:
    """`#/steps/0/input/width` → `steps[0].input.width`."""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.removeprefix("#/").split("/")]
    return re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", ".".join(parts))


class WorkflowAnswer(JSONResponse):
    """A workflow in some shape; with `seconds` it is sent when that has ended, or when they are over.

    It is sent after the commit, when no database connection is held. `codes` are for what runs and for
    what is over.
    """

    def __init__(
        self, request: Request, db: Session, workflow: Workflow, shape: Shape, *, seconds: float = 0.0,
        codes: tuple[int, int] = (200, 200), headers: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        self._shape, self._seconds, self._codes = shape, min(seconds, MAX_WAIT), codes
        self._workflow, self._user, self._origin = workflow.id, workflow.user_id, origin(request)
        body, over = self._look(db, workflow)
        super().__init__(body, codes[over], headers=NO_STORE | (headers or {}))
        self._over = over

    def _look(self, db: Session, workflow: Workflow) -> tuple[dict[str, Any], bool]:
        db.flush()
        db.refresh(workflow)
        facts = shapes.read_facts(db, make_links(db, self._origin, self._user), [workflow])
        return self._shape(facts, workflow), shapes.is_over(facts, workflow)

    def _look_again(self, sessions: Any) -> tuple[dict[str, Any] | None, bool]:
        with unit_of_work(sessions) as db:
            workflow = service.find_workflow(db, self._workflow)
            return self._look(db, workflow) if workflow is not None else (None, True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sessions, end = getattr(scope["app"].state, "sessions", None), time.monotonic() + self._seconds
        while not self._over and time.monotonic() < end:
            await asyncio.sleep(min(LOOK_SECONDS, max(0.0, end - time.monotonic())))
            body, self._over = await run_in_threadpool(self._look_again, sessions)
            if body is not None:
                self.status_code = self._codes[self._over]
                self.body = self.render(body)
                self.headers["content-length"] = str(len(self.body))
        await super().__call__(scope, receive, send)


def seconds_of(wait: str | None) -> float:
    """`wait=30`, `wait=true` (as long as it may be), `wait=false`, or what is no such word: not at all."""
    word = (wait or "").strip().lower()
    if word == "true":
        return MAX_WAIT
    return float(word) if re.fullmatch(r"\d{1,5}(\.\d{1,3})?", word, re.ASCII) else 0.0
