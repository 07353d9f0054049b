"""Who may use the routes of jobs."""

from typing import Any

from app.contract.states import JobState
from app.jobs import service
from app.jobs.models import Job
from tests.app.refusals import World, row
from tests.factories import make_job

STEPS = (JobState.STARTING, JobState.RUNNING)


def _job(world: World, *states: JobState, **fields: Any) -> dict[str, Any]:
    job: Job = make_job(world.db, world.owner, title="Tuscany", **fields)
    for state in states:
        service.change_state(world.db, job, state)
    return {"job_id": job.id}


def _queued(world: World) -> dict[str, Any]:
    return _job(world)


def _running(world: World) -> dict[str, Any]:
    return _job(world, *STEPS)


def _paused(world: World) -> dict[str, Any]:
    return _job(world, JobState.PAUSED)


def _done(world: World) -> dict[str, Any]:
    return _job(world, *STEPS, JobState.SUCCEEDED, type="generation", queue="generate")


def _cancel(world: World) -> dict[str, Any]:
    return _queued(world) | {"action": "cancel"}


API = "/api/v1/jobs"
ROWS = [
    row("GET", API, anonymous=401, other=200, owner=200),
    row("GET", f"{API}/{{job_id}}", anonymous=401, other=404, owner=200, make=_queued),
    row("DELETE", f"{API}/{{job_id}}", anonymous=401, other=404, owner=204, make=_done),
    row("POST", f"{API}/{{job_id}}/cancel", anonymous=401, other=404, owner=200, make=_queued),
    row("POST", f"{API}/{{job_id}}/pause", anonymous=401, other=404, owner=202, make=_running),
    row("POST", f"{API}/{{job_id}}/resume", anonymous=401, other=404, owner=200, make=_paused),
    row("POST", f"{API}/{{job_id}}/retry", anonymous=401, other=404, owner=202, make=_done),
    row("GET", f"{API}/{{job_id}}/events", anonymous=401, other=404, owner=200, make=_done),
    row("GET", f"{API}/{{job_id}}/logs", anonymous=401, other=404, owner=200, make=_queued),
    row("GET", f"{API}/{{job_id}}/metrics", anonymous=401, other=404, owner=200, make=_queued),
    row("GET", f"{API}/{{job_id}}/webhooks", anonymous=401, other=404, owner=200, make=_queued),
    row("GET", "/api/v1/webhooks/secret", anonymous=401, other=200, owner=200),
    row("GET", "/jobs", anonymous=303, other=200, owner=200),
    row("GET", "/jobs/badge", anonymous=200, other=200, owner=200),
    row("GET", "/jobs/{job_id}", anonymous=303, other=404, owner=200, make=_done),
    row("POST", "/jobs/{job_id}/{action}", anonymous=401, other=404, owner=303, make=_cancel),
]
