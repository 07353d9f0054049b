"""One job as the answer to a GET, the same wherever it is asked for: ETag, 304, Retry-After, Prefer."""

import hashlib
import json

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from sqlalchemy.orm import Session

from app.jobs import idempotency, views
from app.jobs.models import Job


def show_job(request: Request, db: Session, job: Job) -> Response:
    """The job with its ETag, or 304 when the client has just that."""
    body = views.job_out(db, job)
    # The guess when a waiting job may start changes with every look and is no news.
    news = {**body, "queue": {**(body["queue"] or {}), "estimated_start_at": None}}
    etag = f'"{hashlib.sha256(json.dumps(news, sort_keys=True).encode()).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if seconds := views.retry_after(job):
        headers["Retry-After"] = str(seconds)
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if seconds and idempotency.preferred_wait(request.scope):
        return idempotency.JobAnswer(idempotency.Answer(200, body), is_job=True)
    return JSONResponse(body, headers=headers)
