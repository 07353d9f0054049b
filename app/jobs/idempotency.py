"""A POST that is sent twice with one `Idempotency-Key` works once and is answered the same twice.

The key's row is written in the transaction of the work itself, so a crash leaves neither; an
advisory lock, held until the commit, tells the second request that the first is still at work.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi.responses import JSONResponse
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.types import Receive, Scope, Send

from app.accounts.models import User
from app.core.digests import body_hash
from app.core.errors import Conflict, Invalid
from app.jobs.models import IdempotencyKey
from app.jobs.tail import wait_for_end

MAX_WAIT = 60.0


@dataclass(frozen=True)
class Answer:
    """What the first request was answered. `body` is JSON-ready."""

    status: int
    body: dict[str, Any]
    location: str | None = None


class JobAnswer(JSONResponse):
    """An answer whose body is a job; with `Prefer: wait=N` it waits for the job's end before it is sent.

    It is sent after the commit, when no database connection is held.
    """

    def __init__(self, answer: Answer, *, replayed: bool = False, is_job: bool = False) -> None:
        headers = {"Location": answer.location} if answer.location else {}
        if replayed:
            headers["Idempotency-Replayed"] = "true"
        super().__init__(answer.body, answer.status, headers=headers)
        self._job_id = answer.body.get("id") if is_job or answer.status == 202 else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        seconds = preferred_wait(scope)
        if seconds and isinstance(self._job_id, str):
            sessions = getattr(scope["app"].state, "sessions", None)
            job = await wait_for_end(self._job_id, seconds, sessions)
            if job is not None:
                self.status_code = 200
                self.body = self.render(job)
                self.headers["content-length"] = str(len(self.body))
                self.headers["Preference-Applied"] = f"wait={seconds:g}"
        await super().__call__(scope, receive, send)


def preferred_wait(scope: Scope) -> float:
    """Seconds of `Prefer: wait=N`, at most 60; 0 without it."""
    values = [v.decode("latin-1") for k, v in scope.get("headers", []) if k == b"prefer"]
    found = re.search(r"(?:^|[,;\s])wait=(\d{1,4})", ",".join(values))
    return min(float(found.group(1)), MAX_WAIT) if found else 0.0


def answer(
    db: Session,
    user: User,
    route: str,
    key: str | None,
    body: Mapping[str, Any],
    make: Callable[[], Answer],
) -> JobAnswer:
    """Do `make()` once per (user, route, key) in 24 hours; the same request again gets the first answer.

    Errors: Conflict while the first is at work, Invalid when the body is another one.
    """
    if not key:
        return JobAnswer(make())
    _lock(db, f"{user.id} {route} {key}")
    digest = body_hash(body)
    row = db.scalar(
        select(IdempotencyKey).where(
            IdempotencyKey.user_id == user.id, IdempotencyKey.route == route, IdempotencyKey.key == key
        )
    )
    if row is not None:
        return _replay(row, digest)
    made = make()
    db.add(
        IdempotencyKey(
            user_id=user.id, route=route, key=key, body_hash=digest,
            status=made.status, response=made.body, location=made.location,
        )
    )  # fmt: skip
    return JobAnswer(made)


def _lock(db: Session, name: str) -> None:
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
    if not db.scalar(select(func.pg_try_advisory_xact_lock(number))):
        words = "The first request with this Idempotency-Key is still at work. Ask again in a moment."
        raise Conflict(words, code="idempotency-in-progress")


def _replay(row: IdempotencyKey, digest: str) -> JobAnswer:
    if row.body_hash != digest:
        words = "This Idempotency-Key was used for another request. Use a new key for a new request."
        raise Invalid(words, code="idempotency-key-reused")
    return JobAnswer(Answer(row.status or 200, row.response or {}, row.location), replayed=True)
