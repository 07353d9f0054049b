"""Workflows: submit, find, change, cancel, delete. What their jobs do is up to the jobs' own services."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Text, cast, exists, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.compat.orchestration import pictures, trainings
from app.compat.orchestration.models import Workflow, WorkflowJob
from app.compat.orchestration.reading import refuse, told_at
from app.compat.orchestration.schemas import StepIn
from app.contract.states import TERMINAL, JobState
from app.core.digests import body_hash
from app.core.errors import Conflict, NotFound
from app.core.ids import new_id
from app.core.paging import Page, keyset_page
from app.core.storage import Storage
from app.datasets import service as datasets
from app.generation import service as generation
from app.generation.schemas import GenerationIn
from app.jobs import service as jobs
from app.jobs.models import Job
from app.training import plan
from app.training.schemas import TrainingIn
from app.uploads import service as uploads

DRAWN = ("textToImage", "imageGen")
TRAINED = ("training", "imageResourceTraining")
KINDS = (*DRAWN, *TRAINED)
SCOPES = dict.fromkeys(DRAWN, "generate") | dict.fromkeys(TRAINED, "train")
"""What a token needs for a step."""
NO_WORKFLOW = "There is no such workflow, or it is not yours."
BAD = (JobState.FAILED.value, JobState.CANCELED.value, JobState.EXPIRED.value)


@dataclass(frozen=True)
class Submission:
    """What is to be done. With `each`, every picture is a job of its own, as version 1 has it.

    `properties` are what version 1 finds the jobs of each step by.
    """

    steps: Sequence[StepIn]
    notes: dict[str, Any] = field(default_factory=dict)
    tags: Sequence[str] = ()
    arguments: dict[str, Any] = field(default_factory=dict)
    callbacks: Sequence[dict[str, Any]] = ()
    external_id: str | None = None
    each: bool = False
    properties: Sequence[dict[str, Any]] = ()
    where: str = "#/steps/{}/input"
    """How the client calls the input of a step, for errors."""

    @property
    def digest(self) -> str:
        return body_hash({"steps": [step.model_dump() for step in self.steps], "each": self.each})

    @property
    def scopes(self) -> set[str]:
        """What a token needs for all of it; a step of an unknown kind is refused later, in words."""
        return {SCOPES.get(step.type, "generate") for step in self.steps}

    def named(self) -> list[dict[str, Any]]:
        """The steps as they are kept: each has a name, `$0` for the first without one."""
        return [
            step.model_dump(by_alias=True, exclude_none=True) | {"name": step.name or f"${number}"}
            for number, step in enumerate(self.steps)
        ]


def can_use_workflow(user: User, workflow: Workflow) -> bool:
    return workflow.user_id == user.id


def submit(db: Session, storage: Storage, user: User, wanted: Submission) -> Workflow:
    """Queue all of it, or nothing. Sent again under one external id, it is the same workflow.

    Errors: Invalid with every wrong field of a step, NotFound for AIRs, Conflict for an external id that was
    used for something else, RateLimited.
    """
    _check_names(wanted)
    workflow, is_new = _open(db, user, wanted)
    if is_new:
        for number, step in enumerate(wanted.steps):
            _start(db, storage, user, workflow, number=number, step=step, wanted=wanted)
        workflow.watched = workflow.watched or bool(wanted.callbacks)
        db.flush()
    return workflow


def _check_names(wanted: Submission) -> None:
    names = [step["name"] for step in wanted.named()]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise refuse(f"#/steps/{number}/name", "is the name of another step too", "duplicate")
    for number, step in enumerate(wanted.steps):
        if _refers(step.input):
            words = "cannot use another step's output here; submit it when that one has ended"
            raise refuse(wanted.where.format(number), words, "unsupported")


def _refers(value: Any) -> bool:
    if isinstance(value, dict):
        return "$ref" in value or any(_refers(each) for each in value.values())
    return isinstance(value, list) and any(_refers(each) for each in value)


def _open(db: Session, user: User, wanted: Submission) -> tuple[Workflow, bool]:
    """The row, and whether it is new; a second request waits here until the first has committed."""
    values = {
        "id": new_id("wf"), "user_id": user.id, "external_id": wanted.external_id, "body_hash": wanted.digest,
        "steps": wanted.named(), "notes": wanted.notes, "tags": list(dict.fromkeys(wanted.tags)),
        "arguments": wanted.arguments, "callbacks": list(wanted.callbacks),
    }  # fmt: skip
    row = insert(Workflow).values(**values).on_conflict_do_nothing(index_elements=["user_id", "external_id"])
    made = db.scalar(row.returning(Workflow.id))
    if made is not None:
        return db.get_one(Workflow, made), True
    mine = select(Workflow).where(Workflow.user_id == user.id, Workflow.external_id == wanted.external_id)
    found = db.scalars(mine).one()
    if found.body_hash != wanted.digest:
        words = "This externalId was used for another workflow. Use a new one for a new workflow."
        raise Conflict(words, code="idempotency-key-reused")
    return found, False


def _start(
    db: Session, storage: Storage, user: User, workflow: Workflow, *, number: int, step: StepIn,
    wanted: Submission,
) -> None:  # fmt: skip
    pointer = wanted.where.format(number)
    properties = wanted.properties[number] if wanted.properties else {}
    if step.type in DRAWN:
        for position, body in enumerate(_requests(db, user, step, pointer, each=wanted.each)):
            with told_at(pointer, pictures.names_of(step.type, step.input)):
                job = generation.start_generation(db, user, body)
            _keep(db, workflow, job, number, position=position, properties=properties)
        return
    asked = _training(db, storage, user, step, pointer)
    ready = _check_training(db, user, asked, pointer)
    dataset = datasets.create_dataset(db, user, name=ready.name)
    copy = uploads.copy_upload(db, user, asked.upload.id)
    job = datasets.start_import(db, user, dataset.id, copy)
    _keep(db, workflow, job, number, position=0, properties=properties)
    request = ready.model_copy(update={"dataset": dataset.id})
    note_step(workflow, number, training=request.model_dump(mode="json"))
    workflow.watched = True


def _requests(db: Session, user: User, step: StepIn, pointer: str, *, each: bool) -> list[GenerationIn]:
    if step.type == "textToImage":
        return pictures.text_to_image(db, user, step.input, pointer, each=each)
    return pictures.image_gen(db, user, step.input, pointer)


def _training(db: Session, storage: Storage, user: User, step: StepIn, pointer: str) -> trainings.Wanted:
    if step.type == "training":
        return trainings.training(db, storage, user, step.input, pointer)
    if step.type == "imageResourceTraining":
        return trainings.resource_training(db, storage, user, step.input, pointer)
    words = f"{step.type} is not here; choose one of {', '.join(KINDS)}"
    raise refuse(pointer.removesuffix("/input") + "/$type", words, "enum")


def _check_training(db: Session, user: User, asked: trainings.Wanted, pointer: str) -> TrainingIn:
    """What can be refused before the pictures are there is refused at once."""
    body = TrainingIn.model_validate(asked.body | {"dataset": ""})
    with told_at(pointer, asked.names):
        plan.check_settings(db, user, body, asked.count)
    jobs.check_queue_room(db, user, "training")
    return body


def _keep(
    db: Session, workflow: Workflow, job: Job, step: int, *, position: int, properties: dict[str, Any]
) -> None:
    row = WorkflowJob(
        job_id=job.id, workflow_id=workflow.id, step=step, position=position, properties=properties
    )
    db.add(row)
    db.flush()


def keep_training(db: Session, workflow: Workflow, job: Job, step: int, properties: dict[str, Any]) -> None:
    """The training of a step whose pictures are there now."""
    _keep(db, workflow, job, step, position=1, properties=properties)


def note_step(workflow: Workflow, number: int, **notes: Any) -> None:
    """Write something into a step; None takes it out."""
    steps = [dict(step) for step in workflow.steps]
    changed = steps[number] | notes
    steps[number] = {name: value for name, value in changed.items() if value is not None}
    workflow.steps = steps


def check(db: Session, storage: Storage, user: User, wanted: Submission) -> list[int]:
    """The dry run: how many jobs each step would be. Errors as submit."""
    _check_names(wanted)
    counts = []
    for number, step in enumerate(wanted.steps):
        pointer = wanted.where.format(number)
        if step.type in DRAWN:
            bodies = _requests(db, user, step, pointer, each=wanted.each)
            with told_at(pointer, pictures.names_of(step.type, step.input)):
                generation.estimate(db, user, bodies[0])
            counts.append(len(bodies))
        else:
            _check_training(db, user, _training(db, storage, user, step, pointer), pointer)
            counts.append(1)
    return counts


# find


def find_workflow(db: Session, workflow_id: str) -> Workflow | None:
    """Whoever's it is."""
    return db.get(Workflow, workflow_id)


def get_workflow(db: Session, user: User, workflow_id: str, *, lock: bool = False) -> Workflow:
    """Errors: NotFound, also for other people's."""
    query = select(Workflow).where(Workflow.id == workflow_id).execution_options(populate_existing=True)
    workflow = db.scalar(query.with_for_update() if lock else query)
    if workflow is None or not can_use_workflow(user, workflow):
        raise NotFound(NO_WORKFLOW)
    return workflow


@dataclass(frozen=True)
class Filters:
    """`query` is looked for in all that the steps say; with `tags`, a workflow must have all of them."""

    tags: Sequence[str] = ()
    query: str = ""
    start: datetime | None = None
    end: datetime | None = None
    without_failed: bool = False


def list_workflows(
    db: Session, user: User, filters: Filters, *, cursor: str | None, limit: int, ascending: bool = False
) -> Page[Workflow]:
    """One's own, newest first. Errors: Invalid for a cursor that is not ours."""
    query = select(Workflow).where(Workflow.user_id == user.id, *_conditions(filters))
    return keyset_page(db, query, [Workflow.seq], cursor=cursor, limit=limit, ascending=ascending)


def _conditions(filters: Filters) -> Iterable[ColumnElement[bool]]:
    if filters.tags:
        yield Workflow.tags.contains(list(filters.tags))
    if filters.query.strip():
        text = cast(Workflow.steps, Text)
        yield text.icontains(filters.query.strip(), autoescape=True)
    if filters.start is not None:
        yield Workflow.created_at >= filters.start
    if filters.end is not None:
        yield Workflow.created_at <= filters.end
    if filters.without_failed:
        mine = (WorkflowJob.workflow_id == Workflow.id, Job.id == WorkflowJob.job_id, Job.status.in_(BAD))
        yield ~exists().where(*mine)
        yield ~Workflow.steps.contains([{"ended": {}}])


def jobs_of(db: Session, workflows: Sequence[Workflow]) -> list[tuple[WorkflowJob, Job]]:
    """The jobs of all of these, in the order of their steps."""
    query = (
        select(WorkflowJob, Job)
        .join(Job, Job.id == WorkflowJob.job_id)
        .where(WorkflowJob.workflow_id.in_([workflow.id for workflow in workflows]))
        .order_by(WorkflowJob.workflow_id, WorkflowJob.step, WorkflowJob.position)
        .execution_options(populate_existing=True)
    )
    return [(row[0], row[1]) for row in db.execute(query)]


def workflows_of(db: Session, job_ids: Sequence[str]) -> list[Workflow]:
    """The workflows that these jobs belong to."""
    mine = select(WorkflowJob.workflow_id).where(WorkflowJob.job_id.in_(job_ids))
    return list(db.scalars(select(Workflow).where(Workflow.id.in_(mine))))


def get_by_job(db: Session, user: User, job_id: str, *, lock: bool = False) -> tuple[Workflow, WorkflowJob]:
    """The workflow that a job belongs to. Errors: NotFound."""
    row = db.get(WorkflowJob, job_id)
    if row is None:
        raise NotFound("There is no such job, or it is not yours.")
    return get_workflow(db, user, row.workflow_id, lock=lock), row


def list_by_properties(
    db: Session,
    user: User,
    properties: dict[str, Any],
    types: Sequence[str],
    *,
    cursor: str | None,
    limit: int,
) -> Page[Job]:
    """One's own jobs that were submitted with all of these properties, newest first."""
    found = (WorkflowJob.job_id == Job.id, WorkflowJob.properties.contains(properties))
    query = select(Job).where(Job.user_id == user.id, Job.type.in_(types), exists().where(*found))
    return keyset_page(db, query, [Job.seq], cursor=cursor, limit=limit)


# change


def cancel(db: Session, user: User, workflow_id: str) -> Workflow:
    """Stop all that has not ended; what is done stays."""
    workflow = get_workflow(db, user, workflow_id, lock=True)
    for row, job in jobs_of(db, [workflow]):
        _cancel(db, user, workflow, row, job)
    return workflow


def cancel_one(db: Session, user: User, job_id: str) -> Workflow:
    """Stop one job of a workflow. Errors: NotFound."""
    workflow, row = get_by_job(db, user, job_id, lock=True)
    _cancel(db, user, workflow, row, jobs.get_job(db, user, job_id))
    return workflow


def _cancel(db: Session, user: User, workflow: Workflow, row: WorkflowJob, job: Job) -> None:
    if job.status not in TERMINAL:
        jobs.cancel_job(db, user, job.id)
    if workflow.steps[row.step].get("training"):
        note_step(workflow, row.step, training=None, ended={"status": JobState.CANCELED.value})
    db.flush()


def delete(db: Session, user: User, workflow_id: str) -> None:
    """Stop it and forget it; its jobs and what they have made stay where people find them."""
    db.delete(cancel(db, user, workflow_id))
    db.flush()


def set_notes(
    db: Session, user: User, workflow_id: str, *, notes: dict[str, Any] | None = None,
    tags: Sequence[str] | None = None,
) -> Workflow:  # fmt: skip
    """Other metadata, other tags; None leaves them as they are."""
    workflow = get_workflow(db, user, workflow_id, lock=True)
    if notes is not None:
        workflow.notes = notes
    if tags is not None:
        workflow.tags = list(dict.fromkeys(tags))
    db.flush()
    return workflow


def find_step(workflow: Workflow, name: str) -> int:
    """The number of the step with this name. Errors: NotFound."""
    for number, step in enumerate(workflow.steps):
        if step["name"] == name:
            return number
    raise NotFound("This workflow has no such step.")


def set_step_notes(db: Session, user: User, workflow_id: str, name: str, notes: dict[str, Any]) -> Workflow:
    workflow = get_workflow(db, user, workflow_id, lock=True)
    note_step(workflow, find_step(workflow, name), metadata=notes)
    db.flush()
    return workflow


def mark_jobs(db: Session, user: User, job_ids: Sequence[str], properties: dict[str, Any]) -> int:
    """Add properties to jobs; gives how many there were. Errors: NotFound."""
    for job_id in job_ids:
        _, row = get_by_job(db, user, job_id, lock=True)
        row.properties = row.properties | properties
    db.flush()
    return len(job_ids)
