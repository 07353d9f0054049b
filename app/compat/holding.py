"""Drawing for programs that wait: one job a request, known by the token that asked, answered when it ends.

The wait comes after the commit, holds no connection, and has a limit; past it the answer says where the
job goes on. A face gives its errors their shape in `refuse`.
"""

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from app.accounts.deps import Identity
from app.contract.states import JobState
from app.core.config import get_settings
from app.core.db import unit_of_work
from app.core.errors import AppError
from app.generation import service
from app.images.models import Image
from app.jobs.models import Job
from app.jobs.service import find_job
from app.jobs.tail import wait_for_end
from app.web.errors import explain
from app.web.links import origin
from app.web.rendered import Rendered

Refuse = Callable[[AppError], Response]
Finish = Callable[[Session, Job, list[Image]], Response]


class StillDrawing(AppError):
    """The limit of the wait is over and the job goes on."""

    status, code, title = 504, "still-drawing", "Still drawing"

    def __init__(self, address: str) -> None:
        super().__init__(f"This takes longer than a request may wait. It goes on: {address}", job=address)
        self.address = address

    @property
    def headers(self) -> dict[str, str]:
        return {"Location": self.address}


class NotDrawn(AppError):
    """The job failed. `code` and words are the worker's."""

    status, code, title = 500, "failed", "The drawing failed"


class FaceRoute(APIRoute):
    """Gives every error of its routes the shape of `refuse`; what the request had changed is undone."""

    @staticmethod
    @abstractmethod
    def refuse(error: AppError) -> Response:
        """The answer to an error."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except Exception as error:  # each kind has its own answer; none leaves as a page
                raise Rendered(type(self).refuse(explain(request, error))) from error

        return answer


def labels_of(face: str, identity: Identity) -> dict[str, Any]:
    """What marks the jobs of one program: its token; 0 for the person's own browser."""
    return {"face": face, "token": identity.token.id if identity.token else 0}


class Held(Response):
    """The answer that `finish(db, job, pictures)` makes once the job has ended."""

    def __init__(self, request: Request, job: Job, finish: Finish, refuse: Refuse) -> None:
        super().__init__()
        self._request, self._job_id = request, job.id
        self._finish, self._refuse = finish, refuse
        self._sessions = getattr(request.app.state, "sessions", None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            ended = await _unless_gone(receive, self._wait())
            if ended is None:
                return
            if not ended:
                raise StillDrawing(f"{origin(self._request)}/api/v1/jobs/{self._job_id}")
            response = await run_in_threadpool(self._answer)
        except Exception as error:  # the route's own handler is behind us
            response = self._refuse(explain(self._request, error))
        await response(scope, receive, send)

    async def _wait(self) -> bool:
        seconds = get_settings().server.hold_seconds
        return await wait_for_end(self._job_id, seconds, self._sessions) is not None

    def _answer(self) -> Response:
        with unit_of_work(self._sessions) as db:
            job = find_job(db, self._job_id)
            if job is None:
                raise NotDrawn("The job was deleted before it ended.", code="job-deleted")
            if job.status == JobState.FAILED:
                told = job.error or {}
                raise NotDrawn(told.get("detail", "The job failed."), code=told.get("code", "failed"))
            return self._finish(db, job, service.pictures_of(db, job))


async def _unless_gone(receive: Receive, waiting: Coroutine[Any, Any, bool]) -> bool | None:
    """What was waited for; None when the client has gone, for whom nobody need look any more."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    tasks = waited, left = asyncio.create_task(waiting), asyncio.create_task(gone())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return waited.result() if waited.done() else None
    finally:
        waited.cancel()
        left.cancel()
