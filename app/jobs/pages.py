""" "My jobs": one table of trainings and generations, and a plain page for a single job."""

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from app.accounts.deps import CurrentUser, OptionalUser
from app.contract.states import TERMINAL, JobState
from app.core.errors import NotFound
from app.jobs import events, queries, service, views, workers
from app.jobs.models import Job
from app.web.deps import Db
from app.web.templating import redirect, render

router = APIRouter(include_in_schema=False)
OPEN = [state.value for state in JobState if state not in TERMINAL]
SHOWN = {
    "all": ("All", []),
    "open": ("Not finished", OPEN),
    "done": ("Done", ["succeeded"]),
    "failed": ("Failed or stopped", ["failed", "canceled", "expired"]),
}
KINDS = {
    "all": ("All", []),
    "training": ("Trainings", ["training"]),
    "generation": ("Pictures", ["generation"]),
}
WORDS = {
    "queued": "Waiting",
    "starting": "Starting",
    "running": "Running",
    "pausing": "Pausing",
    "paused": "Paused",
    "canceling": "Stopping",
    "succeeded": "Done",
    "failed": "Failed",
    "canceled": "Stopped",
    "expired": "Expired",
}
BADGES = {"succeeded": "good", "failed": "bad", "paused": "advice"}
ICONS = {"succeeded": "check", "failed": "triangle-alert", "paused": "pause"}


def page_of(job: Job) -> str:
    return f"/trainings/{job.id}" if job.type == "training" else f"/jobs/{job.id}"


def line(job: Job, place: int | None, *, served: bool) -> dict[str, Any]:
    """What one row of the table says."""
    waiting = f"{place - 1} ahead" if place and place > 1 else "next in line"
    if place and not served:
        waiting = "no machine for this is online"
    fraction = job.progress.get("fraction")
    return {
        "job": job,
        "href": page_of(job),
        "kind": {"training": "Training", "generation": "Pictures"}.get(job.type, "Files"),
        "words": WORDS.get(job.status, job.status),
        "badge": BADGES.get(job.status, ""),
        "icon": ICONS.get(job.status),
        "note": waiting if place else None,
        "percent": round(100 * fraction) if fraction is not None and job.status in OPEN else None,
        "seconds": (job.completed_at - job.started_at).total_seconds()
        if job.completed_at and job.started_at
        else None,
        "open": job.status in OPEN,
        "steerable": job.status in ("queued", "starting", "running", "pausing", "paused"),
    }


@router.get("/jobs")
def index(
    request: Request,
    db: Db,
    user: CurrentUser,
    show: Annotated[str, Query()] = "all",
    kind: Annotated[str, Query()] = "all",
    cursor: str | None = None,
) -> Response:
    statuses, types = SHOWN.get(show, SHOWN["all"])[1], KINDS.get(kind, KINDS["all"])[1]
    page = service.list_jobs(db, user, status=statuses, type=types, cursor=cursor, limit=30)
    places = service.queue_positions(db, page.items)
    served = workers.served_queues(db) if places else set()
    lines = [line(job, places.get(job.id), served=job.queue in served) for job in page.items]
    here = {"show": show, "kind": kind}
    return render(
        request,
        "jobs/index.html",
        block="list" if "fresh" in request.query_params else None,
        lines=lines,
        shown={key: (words, _address(here, show=key)) for key, (words, _) in SHOWN.items()},
        kinds={key: (words, _address(here, kind=key)) for key, (words, _) in KINDS.items()},
        here=here,
        filtered=show != "all" or kind != "all",
        fresh=_address(here | ({"cursor": cursor} if cursor else {}), fresh="1"),
        more=_address(here, cursor=page.next_cursor) if page.next_cursor else None,
        live=any(entry["open"] for entry in lines),
    )


def _address(here: dict[str, str], **change: str) -> str:
    """The same list with one filter changed; what is "all" is left out."""
    wanted = {key: value for key, value in (here | change).items() if value != "all"}
    return f"/jobs?{urlencode(wanted)}" if wanted else "/jobs"


@router.get("/jobs/badge")
def badge(request: Request, db: Db, viewer: OptionalUser) -> Response:
    """The figure beside "Jobs" in the header; nothing when nothing runs, and for who was logged out."""
    mine, everybody = queries.count_busy(db, viewer) if viewer else (0, 0)
    return render(request, "jobs/_badge.html", mine=mine, everybody=everybody)


@router.get("/jobs/{job_id}")
def show(request: Request, db: Db, user: CurrentUser, job_id: str) -> Response:
    job = service.get_job(db, user, job_id)
    if job.type == "training" and "fresh" not in request.query_params:
        return redirect(request, page_of(job))
    place = service.queue_positions(db, [job]).get(job.id)
    served = job.queue in workers.served_queues(db)
    return render(
        request,
        "jobs/show.html",
        block="state" if "fresh" in request.query_params else None,
        entry=line(job, place, served=served),
        job=job,
        log=[events.log_line(event) for event in events.list_logs(db, job)],
        pictures=(job.output or {}).get("images", []),
        is_over=views.is_over(job),
    )


@router.post("/jobs/{job_id}/{action}")
def act(request: Request, db: Db, user: CurrentUser, job_id: str, action: str) -> Response:
    """The buttons of the table. Errors: NotFound for an action that there is not."""
    match action:
        case "cancel":
            service.cancel_job(db, user, job_id)
        case "retry":
            return redirect(request, page_of(service.retry_job(db, user, job_id)))
        case "resume":
            service.resume_job(db, user, job_id)
        case "delete":
            service.delete_job(db, user, job_id)
        case _:
            raise NotFound("There is nothing at this address.")
    return redirect(request, "/jobs")
