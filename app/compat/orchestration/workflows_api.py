"""Version 2: `/v2/consumer/workflows`, recipes and resources, as @civitai/client calls them."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Query, Request, Response
from fastapi.responses import JSONResponse

from app.accounts.deps import CurrentUser, Identified, Scoped
from app.accounts.models import User
from app.compat.orchestration import resources, service, shapes
from app.compat.orchestration.answers import (
    MAX_WAIT,
    NO_STORE,
    OrchestrationRoute,
    WorkflowAnswer,
    seconds_of,
)
from app.compat.orchestration.blobs import make_links
from app.compat.orchestration.models import Workflow
from app.compat.orchestration.patching import patched
from app.compat.orchestration.reading import read, refuse
from app.compat.orchestration.schemas import (
    Json,
    PatchOperation,
    StepIn,
    StepPatch,
    Tag,
    WorkflowIn,
    WorkflowPatch,
)
from app.compat.orchestration.scopes import check_scopes
from app.core.errors import NotFound
from app.gallery.airs import find_air
from app.web.deps import Db, Store
from app.web.links import origin

router = APIRouter(tags=["orchestration"], route_class=OrchestrationRoute)
WORKFLOWS = "/v2/consumer/workflows"
Reader = Annotated[User, Scoped("read")]
Key = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255)]
Patch = Annotated[list[PatchOperation], Body(max_length=100)]


def _submission(body: WorkflowIn, key: str | None) -> service.Submission:
    return service.Submission(
        steps=body.steps,
        notes=body.metadata or {},
        tags=body.tags or (),
        arguments=body.arguments or {},
        callbacks=[told.model_dump(exclude_none=True) for told in body.callbacks or ()],
        external_id=body.external_id or key,
    )


@router.post(WORKFLOWS, status_code=202, responses={200: {"description": "All of it has ended."}})
def submit_workflow(
    request: Request, db: Db, store: Store, user: CurrentUser, identity: Identified, body: WorkflowIn,
    *, wait: str | None = None, whatif: bool = False, idempotency_key: Key = None,
) -> Response:  # fmt: skip
    """Draw and train. `externalId` makes it safe to send twice; `whatif=true` starts nothing."""
    wanted = _submission(body, idempotency_key)
    check_scopes(identity, wanted.scopes)
    if whatif:
        counts = service.check(db, store, user, wanted)
        return JSONResponse(shapes.planned_out(wanted, counts), headers=NO_STORE)
    workflow = service.submit(db, store, user, wanted)
    return WorkflowAnswer(
        request, db, workflow, shapes.workflow_out, seconds=seconds_of(wait), codes=(202, 200)
    )


@router.get(WORKFLOWS)
def list_workflows(
    request: Request, db: Db, user: Reader, tags: Annotated[list[str] | None, Query(max_length=20)] = None,
    *, cursor: str | None = None, take: Annotated[int, Query(ge=1, le=100)] = 20,
    query: Annotated[str, Query(max_length=200)] = "", ascending: bool = False,
    start: Annotated[datetime | None, Query(alias="fromDate")] = None,
    end: Annotated[datetime | None, Query(alias="toDate")] = None,
    without_failed: Annotated[bool, Query(alias="excludeFailed")] = False,
) -> dict[str, Any]:  # fmt: skip
    """One's own, newest first; `tags` must all be there. `next` is the cursor, empty at the end."""
    wanted = service.Filters(tags or (), query, _utc(start), _utc(end), without_failed)
    page = service.list_workflows(db, user, wanted, cursor=cursor, limit=take, ascending=ascending)
    facts = shapes.read_facts(db, make_links(db, origin(request), user.id), page.items)
    return {
        "next": page.next_cursor or "",
        "items": [shapes.workflow_out(facts, each) for each in page.items],
    }


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


@router.get(f"{WORKFLOWS}/{{workflow_id}}")
def get_workflow(
    request: Request, db: Db, user: Reader, workflow_id: str, wait: str | None = None
) -> Response:
    """One workflow; its steps' output grows while they run."""
    workflow = service.get_workflow(db, user, workflow_id)
    return WorkflowAnswer(request, db, workflow, shapes.workflow_out, seconds=seconds_of(wait))


@router.put(f"{WORKFLOWS}/{{workflow_id}}", status_code=204)
def update_workflow(db: Db, user: CurrentUser, workflow_id: str, body: WorkflowPatch) -> None:
    """Cancel it (`{"status": "canceled"}`), or give it other metadata and tags."""
    _update(db, user, workflow_id, body)


def _update(db: Db, user: User, workflow_id: str, body: WorkflowPatch) -> None:
    if body.status not in (None, "canceled"):
        raise refuse("#/status", "can only be set to canceled", "enum")
    service.set_notes(db, user, workflow_id, notes=body.metadata, tags=body.tags)
    if body.status is not None:
        service.cancel(db, user, workflow_id)


@router.patch(f"{WORKFLOWS}/{{workflow_id}}", status_code=204)
def patch_workflow(db: Db, user: CurrentUser, workflow_id: str, body: Patch) -> None:
    """A JSON Patch of `/status`, `/metadata` and `/tags`."""
    workflow = service.get_workflow(db, user, workflow_id, lock=True)
    before: Json = {"status": None, "metadata": workflow.notes, "tags": workflow.tags}
    _update(db, user, workflow_id, read(WorkflowPatch, patched(before, body), "#"))


@router.delete(f"{WORKFLOWS}/{{workflow_id}}", status_code=204)
def delete_workflow(db: Db, user: CurrentUser, workflow_id: str) -> None:
    """Stop and forget it. What it has made stays among one's pictures and trainings."""
    service.delete(db, user, workflow_id)


@router.post(f"{WORKFLOWS}/{{workflow_id}}/tags", status_code=204)
def add_tag(db: Db, user: CurrentUser, workflow_id: str, tag: Annotated[Tag, Body()]) -> None:
    """The body is the tag, as JSON text."""
    tags = service.get_workflow(db, user, workflow_id, lock=True).tags
    service.set_notes(db, user, workflow_id, tags=[*tags, tag])


@router.delete(f"{WORKFLOWS}/{{workflow_id}}/tags", status_code=204)
def remove_tags(db: Db, user: CurrentUser, workflow_id: str) -> None:
    """All of them."""
    service.set_notes(db, user, workflow_id, tags=[])


@router.delete(f"{WORKFLOWS}/{{workflow_id}}/tags/{{tag}}", status_code=204)
def remove_tag(db: Db, user: CurrentUser, workflow_id: str, tag: str) -> None:
    tags = service.get_workflow(db, user, workflow_id, lock=True).tags
    service.set_notes(db, user, workflow_id, tags=[each for each in tags if each != tag])


STEP = f"{WORKFLOWS}/{{workflow_id}}/steps/{{step_name}}"


@router.get(STEP)
def get_step(request: Request, db: Db, user: Reader, workflow_id: str, step_name: str) -> dict[str, Any]:
    """One step with its output so far."""
    workflow = service.get_workflow(db, user, workflow_id)
    number = service.find_step(workflow, step_name)
    facts = shapes.read_facts(db, make_links(db, origin(request), user.id), [workflow])
    return shapes.step_out(facts, workflow, number)


@router.put(STEP, status_code=204)
def update_step(db: Db, user: CurrentUser, workflow_id: str, step_name: str, body: StepPatch) -> None:
    """Other metadata."""
    service.set_step_notes(db, user, workflow_id, step_name, body.metadata)


@router.patch(STEP, status_code=204)
def patch_step(db: Db, user: CurrentUser, workflow_id: str, step_name: str, body: Patch) -> None:
    """A JSON Patch of `/metadata`."""
    workflow = service.get_workflow(db, user, workflow_id, lock=True)
    step = workflow.steps[service.find_step(workflow, step_name)]
    changed = read(StepPatch, patched({"metadata": step.get("metadata") or {}}, body), "#")
    service.set_step_notes(db, user, workflow_id, step_name, changed.metadata)


@router.post("/v2/consumer/recipes/{recipe}", responses={202: {"description": "It is still at work."}})
def invoke_recipe(
    request: Request, db: Db, store: Store, user: CurrentUser, identity: Identified, recipe: str,
    body: Annotated[Json, Body()], *, whatif: bool = False, idempotency_key: Key = None,
) -> Response:  # fmt: skip
    """One step alone: the body is its input, the answer its output, waited for as long as may be.

    What takes longer goes on as the workflow that `Location` names.
    """
    if recipe not in service.KINDS:
        raise NotFound(f"There is no recipe {recipe[:60]} here. There are {', '.join(service.KINDS)}.")
    wanted = service.Submission([StepIn(type=recipe, input=body)], external_id=idempotency_key)
    check_scopes(identity, wanted.scopes)
    if whatif:
        service.check(db, store, user, wanted)
        return JSONResponse({}, headers=NO_STORE)
    workflow = service.submit(db, store, user, wanted)
    where = {"Location": f"{WORKFLOWS}/{workflow.id}"}
    return WorkflowAnswer(request, db, workflow, _output, seconds=MAX_WAIT, codes=(202, 200), headers=where)


def _output(facts: shapes.Facts, workflow: Workflow) -> Json:
    output: Json = shapes.step_out(facts, workflow, 0)["output"]
    return output


@router.get("/v2/resources/{air:path}")
def get_resource(request: Request, db: Db, user: Reader, air: str) -> dict[str, Any]:
    """What a model of this server is. Errors name the AIR."""
    return resources.resource_out(request, find_air(db, user, air), user)
