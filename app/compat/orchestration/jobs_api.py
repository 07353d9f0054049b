"""Version 1: `/v1/consumer/jobs`, as civitai-py and the npm package civitai call it."""

import binascii
from base64 import urlsafe_b64decode
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Query, Request, Response
from fastapi.responses import JSONResponse

from app.accounts.deps import CurrentUser, Identified, Scoped
from app.accounts.models import User
from app.compat.orchestration import resources, service, shapes
from app.compat.orchestration.answers import NO_STORE, OrchestrationRoute, WorkflowAnswer, seconds_of
from app.compat.orchestration.blobs import make_links
from app.compat.orchestration.models import Workflow
from app.compat.orchestration.reading import read
from app.compat.orchestration.schemas import JobIn, JobQuery, StepIn, TaintIn
from app.compat.orchestration.scopes import check_scopes
from app.core.db import utcnow
from app.core.errors import Invalid, NotFound
from app.images.queries import count_drawn
from app.web.deps import Db, Store
from app.web.links import origin
from app.web.times import iso

router = APIRouter(tags=["orchestration"], route_class=OrchestrationRoute)
JOBS = "/v1/consumer/jobs"
MAX_JOBS, PAGE, MAX_AIRS = 20, 50, 50
MONTH = timedelta(days=30)
Reader = Annotated[User, Scoped("read")]
Token = Annotated[str, Query(max_length=200)]
Key = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255)]


def _submission(body: dict[str, Any], key: str | None) -> service.Submission:
    """One job, or `{"jobs": […]}`."""
    told = body.get("jobs")
    if told is not None and not (isinstance(told, list) and 1 <= len(told) <= MAX_JOBS):
        raise Invalid(f"Give 1 to {MAX_JOBS} jobs as a list.")
    found = [read(JobIn, job, f"#/jobs/{n}") for n, job in enumerate([body] if told is None else told)]
    callbacks = [
        {"url": job.callback_url, "type": ["job:*"], "step": number}
        for number, job in enumerate(found)
        if job.callback_url
    ]
    return service.Submission(
        steps=[_step(job) for job in found],
        callbacks=callbacks,
        external_id=key,
        each=True,
        properties=[job.properties or {} for job in found],
        where="#/jobs/{}/params",
    )


def _step(job: JobIn) -> StepIn:
    """Version 1 has beside `params` what version 2 has in one input."""
    told = job.model_dump(
        by_alias=True, exclude_none=True, exclude={"type", "params", "callback_url", "properties"}
    )
    return StepIn(type=job.type, input={**job.params, **told})


def _workflow_id(token: str) -> str:
    try:
        return urlsafe_b64decode(token.encode()).decode()
    except (binascii.Error, UnicodeError) as error:
        raise NotFound("There are no jobs with this token, or they are not yours.") from error


def _answer(
    request: Request, db: Db, workflow: Workflow, *, wait: str | None, detailed: bool, running: int = 200
) -> Response:
    shape = partial(shapes.collection_out, detailed=detailed)
    return WorkflowAnswer(request, db, workflow, shape, seconds=seconds_of(wait), codes=(running, 200))


@router.post(JOBS, status_code=202, responses={200: {"description": "All of it has ended."}})
def submit_jobs(
    request: Request, db: Db, store: Store, user: CurrentUser, identity: Identified,
    body: Annotated[dict[str, Any], Body()], *, wait: str | None = None, detailed: bool = False,
    whatif: bool = False, idempotency_key: Key = None,
) -> Response:  # fmt: skip
    """Draw or train; each picture is a job. `whatif=true` only looks whether it could be done."""
    wanted = _submission(body, idempotency_key)
    check_scopes(identity, wanted.scopes)
    if whatif:
        count = sum(service.check(db, store, user, wanted))
        free = {"jobId": None, "cost": 0.0, "result": {"available": False}, "scheduled": False}
        return JSONResponse({"token": None, "jobs": [free] * count}, headers=NO_STORE)
    workflow = service.submit(db, store, user, wanted)
    return _answer(request, db, workflow, wait=wait, detailed=detailed, running=202)


@router.get(JOBS)
def get_jobs(
    request: Request, db: Db, user: Reader, token: Token, wait: str | None = None, detailed: bool = False
) -> Response:
    """The jobs that were submitted together, by the token of the answer."""
    workflow = service.get_workflow(db, user, _workflow_id(token))
    return _answer(request, db, workflow, wait=wait, detailed=detailed)


@router.delete(JOBS)
def cancel_jobs(request: Request, db: Db, user: CurrentUser, token: Token) -> Response:
    """Stop all of them; `force` makes no difference, because what runs is stopped at its next step."""
    workflow = service.cancel(db, user, _workflow_id(token))
    return _answer(request, db, workflow, wait=None, detailed=False)


@router.put(JOBS)
def taint_jobs(db: Db, user: CurrentUser, token: Token, body: TaintIn) -> dict[str, int]:
    """Mark results that are not good; the mark stays with the properties of the jobs."""
    workflow = service.get_workflow(db, user, _workflow_id(token))
    ids = [job.id for _, job in service.jobs_of(db, [workflow])]
    return {"jobs": service.mark_jobs(db, user, ids, _mark(body))}


def _mark(body: TaintIn) -> dict[str, Any]:
    return {**(body.properties or {}), "taint": {"reason": body.reason, "context": body.context or {}}}


@router.post(f"{JOBS}/query")
def query_jobs(
    request: Request, db: Db, user: Reader, body: JobQuery, detailed: bool = False
) -> dict[str, Any]:
    """One's own jobs by the properties that they were submitted with, newest first."""
    types = [shapes.JOB_TYPES[body.job_type]] if body.job_type in shapes.JOB_TYPES else []
    if body.job_type is None:
        types = list(shapes.JOB_TYPES.values())
    page = service.list_by_properties(db, user, body.properties or {}, types, cursor=body.cursor, limit=PAGE)
    found = shapes.jobs_out(db, make_links(db, origin(request), user.id), page.items, detailed=detailed)
    return {"jobs": found} | ({"cursor": page.next_cursor} if page.next_cursor else {})


@router.get(f"{JOBS}/{{job_id}}")
def get_job(
    request: Request, db: Db, user: Reader, job_id: str, wait: str | None = None, detailed: bool = False
) -> Response:
    """One job."""
    workflow, _ = service.get_by_job(db, user, job_id)
    shape = partial(shapes.one_out, job_id=job_id, detailed=detailed)
    return WorkflowAnswer(request, db, workflow, shape, seconds=seconds_of(wait))


@router.delete(f"{JOBS}/{{job_id}}")
def cancel_job(request: Request, db: Db, user: CurrentUser, job_id: str) -> Response:
    """Stop it; the others that were submitted with it go on."""
    workflow = service.cancel_one(db, user, job_id)
    return WorkflowAnswer(request, db, workflow, partial(shapes.one_out, job_id=job_id, detailed=False))


@router.put(f"{JOBS}/{{job_id}}")
def taint_job(db: Db, user: CurrentUser, job_id: str, body: TaintIn) -> dict[str, int]:
    """Mark a result that is not good."""
    return {"jobs": service.mark_jobs(db, user, [job_id], _mark(body))}


@router.get("/v1/consumer/coverage")
def get_coverage(
    db: Db, user: Reader, model: Annotated[list[str], Query(max_length=MAX_AIRS)]
) -> dict[str, Any]:
    """Whether these models can be drawn with here, and by how many workers now."""
    return resources.coverage_out(db, user, model, shapes.PROVIDER)


@router.get("/v1/consumer/consumption")
def get_consumption(
    db: Db,
    user: Reader,
    start: Annotated[datetime | None, Query(alias="startDate")] = None,
    end: Annotated[datetime | None, Query(alias="endDate")] = None,
) -> dict[str, Any]:
    """Pictures drawn in a time, the last 30 days unless said otherwise. They cost nothing here."""
    last = _utc(end) or utcnow()
    first = _utc(start) or last - MONTH
    count = count_drawn(db, user, first, last)
    return {"images": count, "totalCost": 0.0, "startDate": iso(first), "endDate": iso(last)}


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
