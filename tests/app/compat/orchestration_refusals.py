"""Who may use the routes of orchestration."""

from typing import Any

from app.compat.orchestration import service, shapes
from app.compat.orchestration.schemas import StepIn
from app.core.storage import get_storage
from tests.app.compat.orchestrating import (
    BLOBS,
    JOBS,
    WORKFLOWS,
    base_air,
    draw,
    drawing,
    jobs_of,
    png,
    v1_job,
)
from tests.app.refusals import World, row


def _submitted(world: World) -> dict[str, Any]:
    step = StepIn.model_validate(drawing(base_air(world.db, world.owner)))
    wanted = service.Submission([step], tags=["a"], each=True)
    made = service.submit(world.db, get_storage(), world.owner, wanted)
    (job,) = jobs_of(world.db, made.id)
    return {"workflow_id": made.id, "job_id": job.id, "step_name": "$0", "tag": "a"}


def _drawn(world: World) -> dict[str, Any]:
    params = _submitted(world)
    (job,) = jobs_of(world.db, params["workflow_id"])
    draw(world.db, job)
    return params | {"blob_id": f"{job.id}-0"}


def _base(world: World) -> dict[str, Any]:
    return {"air": base_air(world.db, world.owner), "recipe": "textToImage"}


UNKNOWN = "urn:air:sd1:checkpoint:civitai:4384@128713"
TOKEN = {"token": shapes.token_of("wf_0")}
ONE, STEP = f"{WORKFLOWS}/{{workflow_id}}", f"{WORKFLOWS}/{{workflow_id}}/steps/{{step_name}}"
OWN = {"anonymous": 401, "other": 404, "make": _submitted}
PATCH = [{"op": "add", "path": "/metadata/a", "value": 1}]

ROWS = [
    row("POST", JOBS, anonymous=401, other=404, owner=404, json=v1_job(UNKNOWN)),
    row("GET", JOBS, anonymous=401, other=404, owner=404, params=TOKEN),
    row("DELETE", JOBS, anonymous=401, other=404, owner=404, params=TOKEN),
    row("PUT", JOBS, anonymous=401, other=404, owner=404, params=TOKEN, json={}),
    row("POST", f"{JOBS}/query", anonymous=401, other=200, owner=200, json={}),
    row("GET", f"{JOBS}/{{job_id}}", **OWN, owner=200),
    row("DELETE", f"{JOBS}/{{job_id}}", **OWN, owner=200),
    row("PUT", f"{JOBS}/{{job_id}}", **OWN, owner=200, json={}),
    row("GET", "/v1/consumer/coverage", anonymous=401, other=200, owner=200, params={"model": UNKNOWN}),
    row("GET", "/v1/consumer/consumption", anonymous=401, other=200, owner=200),
    row("POST", WORKFLOWS, anonymous=401, other=404, owner=404, json={"steps": [drawing(UNKNOWN)]}),
    row("GET", WORKFLOWS, anonymous=401, other=200, owner=200),
    row("GET", ONE, **OWN, owner=200),
    row("PUT", ONE, **OWN, owner=204, json={"status": "canceled"}),
    row("PATCH", ONE, **OWN, owner=204, json=PATCH),
    row("DELETE", ONE, **OWN, owner=204),
    row("POST", f"{ONE}/tags", **OWN, owner=204, json="b"),
    row("DELETE", f"{ONE}/tags", **OWN, owner=204),
    row("DELETE", f"{ONE}/tags/{{tag}}", **OWN, owner=204),
    row("GET", STEP, **OWN, owner=200),
    row("PUT", STEP, **OWN, owner=204, json={"metadata": {}}),
    row("PATCH", STEP, **OWN, owner=204, json=PATCH),
    row("POST", "/v2/consumer/recipes/{recipe}", anonymous=401, other=400, owner=400, make=_base, json={}),
    row("GET", "/v2/resources/{air:path}", anonymous=401, other=200, owner=200, make=_base),
    row("POST", BLOBS, anonymous=401, other=201, owner=201, content=png()),
    row("GET", f"{BLOBS}/upload", anonymous=401, other=200, owner=200),
    row("GET", f"{BLOBS}/{{blob_id}}", anonymous=401, other=404, owner=200, make=_drawn),
    row("GET", f"{BLOBS}/{{blob_id}}/refresh", anonymous=401, other=404, owner=200, make=_drawn),
    row("POST", f"{BLOBS}/{{blob_id}}/refresh", anonymous=401, other=404, owner=200, make=_drawn),
]
