"""REST routes of jobs: list, show, steer, follow."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from app.accounts.deps import CurrentUser
from app.jobs import events, idempotency, service, tail, views, webhooks
from app.jobs.answers import show_job
from app.jobs.models import Job
from app.jobs.schemas import DeliveryOut, JobList, JobOut, LogList, MetricsOut, WebhookSecret
from app.web.deps import Db

router = APIRouter(prefix="/api/v1", tags=["jobs"])
Key = Annotated[str | None, Header(alias="Idempotency-Key", max_length=255)]


def _words(value: str | None) -> list[str]:
    return [word for word in (value or "").split(",") if word]


@router.get("/jobs", response_model=JobList)
def list_jobs(
    request: Request,
    response: Response,
    db: Db,
    user: CurrentUser,
    status: Annotated[str | None, Query(description="One status or several with commas.")] = None,
    type: Annotated[
        str | None, Query(description="training, generation, files; several with commas.")
    ] = None,
    created_after: datetime | None = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Any:
    """One's own jobs, newest first."""
    page = service.list_jobs(
        db, user, status=_words(status), type=_words(type), created_after=created_after,
        cursor=cursor, limit=limit,
    )  # fmt: skip
    if page.next_cursor:
        link = request.url.include_query_params(cursor=page.next_cursor)
        response.headers["Link"] = f'<{link}>; rel="next"'
    return {"items": views.jobs_out(db, page.items), "next_cursor": page.next_cursor}


@router.get("/jobs/{job_id}", response_model=JobOut)
def get_job(request: Request, db: Db, user: CurrentUser, job_id: str) -> Response:
    """One job. Ask again after `Retry-After` seconds, with `If-None-Match`; or use `Prefer: wait=N`."""
    return show_job(request, db, service.get_job(db, user, job_id))


def _steered(db: Db, job: Job) -> Response:
    """200 when it is done, 202 when the worker has yet to answer the wish."""
    body = views.job_out(db, job)
    pending = job.status in ("canceling", "pausing")
    return JSONResponse(body, 202 if pending else 200)


@router.post("/jobs/{job_id}/cancel", response_model=JobOut, responses={202: {"model": JobOut}})
def cancel(db: Db, user: CurrentUser, job_id: str) -> Response:
    """Stop it: at once when it waits, at its next step when it runs. What it has made so far is kept."""
    return _steered(db, service.cancel_job(db, user, job_id))


@router.post("/jobs/{job_id}/pause", response_model=JobOut, responses={202: {"model": JobOut}})
def pause(db: Db, user: CurrentUser, job_id: str) -> Response:
    """Save a training at its next step and free the device."""
    return _steered(db, service.pause_job(db, user, job_id))


@router.post("/jobs/{job_id}/resume", response_model=JobOut)
def resume(db: Db, user: CurrentUser, job_id: str) -> Response:
    """Go on with a paused training, under the same id."""
    return _steered(db, service.resume_job(db, user, job_id))


@router.post("/jobs/{job_id}/retry", status_code=202, response_model=JobOut)
def retry(db: Db, user: CurrentUser, job_id: str, idempotency_key: Key = None) -> Response:
    """A new job with the same work; it goes on from the last save of the old one if there is one."""

    def make() -> idempotency.Answer:
        job = service.retry_job(db, user, job_id)
        return idempotency.Answer(202, views.job_out(db, job), f"/api/v1/jobs/{job.id}")

    return idempotency.answer(db, user, f"retry {job_id}"[:100], idempotency_key, {"job": job_id}, make)


@router.delete("/jobs/{job_id}", status_code=204)
def delete(db: Db, user: CurrentUser, job_id: str) -> None:
    """Remove a finished job and all its files that nothing published names."""
    service.delete_job(db, user, job_id)


@router.get("/jobs/{job_id}/events", response_class=StreamingResponse)
def follow(
    request: Request,
    db: Db,
    user: CurrentUser,
    job_id: str,
    last_event_id: Annotated[str | None, Header()] = None,
    after: Annotated[int | None, Query(ge=0, description="As Last-Event-ID, for clients without it.")] = None,
) -> Response:
    """Server-sent events: status, progress, metric, log, sample, checkpoint, picture; ends with done."""
    job = service.get_job(db, user, job_id)
    last = last_event_id or ""
    seen = int(last) if last.isdigit() else (after or 0)
    sessions = getattr(request.app.state, "sessions", None)
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    stream = tail.stream_events(job.id, seen, sessions)
    return StreamingResponse(stream, media_type="text/event-stream", headers=headers)


@router.get("/jobs/{job_id}/logs", response_model=LogList)
def logs(
    request: Request,
    db: Db,
    user: CurrentUser,
    job_id: str,
    after: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=5000)] = 500,
) -> Any:
    """Log lines after `after`; `Accept: text/plain` gives all of it as a file."""
    job = service.get_job(db, user, job_id)
    if request.headers.get("accept", "").startswith("text/plain"):
        text = events.log_text(events.list_logs(db, job, after=after, limit=100_000))
        return PlainTextResponse(
            text, headers={"Content-Disposition": f'attachment; filename="{job.id}.log"'}
        )
    found = events.list_logs(db, job, after=after, limit=limit)
    return {"items": [events.log_line(e) for e in found], "next": found[-1].id if found else after}


@router.get("/jobs/{job_id}/metrics", response_model=MetricsOut)
def metrics(
    db: Db,
    user: CurrentUser,
    job_id: str,
    series: str = "loss,lr",
    points: Annotated[int, Query(ge=2, le=5000)] = 500,
) -> Any:
    """Curves of a training, averaged down to `points`."""
    job = service.get_job(db, user, job_id)
    return events.get_metrics(db, job, series=_words(series), points=points)


@router.get("/jobs/{job_id}/webhooks", response_model=list[DeliveryOut])
def deliveries(db: Db, user: CurrentUser, job_id: str) -> Any:
    """The notices of a job and what became of them."""
    return webhooks.list_deliveries(db, service.get_job(db, user, job_id).id)


@router.get("/webhooks/secret", response_model=WebhookSecret)
def secret(db: Db, user: CurrentUser) -> Any:
    """One's own secret, for checking the `webhook-signature` header (Standard Webhooks)."""
    return {"secret": webhooks.webhook_secret(db, user.id)}
