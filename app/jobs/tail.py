"""Following a job over time: the event stream and waiting for the end.

Neither holds a database connection while it waits: each look is a short transaction in a thread.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from typing import Any

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker
from starlette.concurrency import run_in_threadpool

from app.core.db import unit_of_work
from app.jobs import events, service, views

LOOK_SECONDS = 0.5
QUIET_SECONDS = 15.0
Sessions = sessionmaker[Session] | None
Line = tuple[int, str, dict[str, Any]]


def _look(job_id: str, after: int, sessions: Sessions) -> tuple[list[Line], bool]:
    """New events as (id, kind, data), and whether the job is gone or has said its last."""
    with unit_of_work(sessions) as db:
        job = service.find_job(db, job_id)
        if job is None:
            return [], True
        over = views.is_over(job)
        found = events.list_events(db, job, after=after)
        return [(e.id, e.kind, e.data) for e in found], over and not found


async def stream_events(job_id: str, after: int, sessions: Sessions) -> AsyncGenerator[bytes]:
    """Server-sent events after id `after`; ends after `done`. A database that is away is waited for."""
    last_sent = time.monotonic()
    while True:
        try:
            found, over = await run_in_threadpool(_look, job_id, after, sessions)
        except DBAPIError:
            found, over = [], False
        for number, kind, data in found:
            after, last_sent = number, time.monotonic()
            yield format_sse_event(data_str=json.dumps(data, default=str), event=kind, id=str(number))
            if kind == "done":
                return
        if over:
            # Everything was said before: a client that comes back late still learns that it is over.
            yield format_sse_event(data_str="{}", event="done", id=str(after))
            return
        if time.monotonic() - last_sent > QUIET_SECONDS:
            last_sent = time.monotonic()
            yield KEEPALIVE_COMMENT
        if not found:
            await asyncio.sleep(LOOK_SECONDS)


def _ended(job_id: str, sessions: Sessions) -> dict[str, Any] | None:
    with unit_of_work(sessions) as db:
        job = service.find_job(db, job_id)
        return views.job_out(db, job) if job is not None and views.is_over(job) else None


async def wait_for_end(job_id: str, seconds: float, sessions: Sessions) -> dict[str, Any] | None:
    """The job once it has ended, or None when that takes longer."""
    end = time.monotonic() + seconds
    while True:
        job = await run_in_threadpool(_ended, job_id, sessions)
        if job is not None or time.monotonic() >= end:
            return job
        await asyncio.sleep(min(0.25, max(0.0, end - time.monotonic())))
