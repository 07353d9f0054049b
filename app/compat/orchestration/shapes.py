"""Workflows, steps and jobs as JSON in Civitai's fields. Nothing costs anything here, so every price is 0."""

from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from app.compat.orchestration import service
from app.compat.orchestration.blobs import Links, blob_out, epoch_id, expiry, picture_id, sample_id
from app.compat.orchestration.models import Workflow, WorkflowJob
from app.compat.orchestration.statuses import OVER, combined, job_status, step_status
from app.images.models import Image
from app.images.queries import pictures_of_jobs
from app.jobs import views, workers
from app.jobs.models import Job
from app.training.models import TrainingCheckpoint, TrainingSample
from app.training.queries import epochs_of_jobs, samples_of_jobs
from app.web.times import iso

FREE = {"base": 0, "factors": None, "fixed": None, "tips": {"civitai": 0, "creators": 0}, "total": 0}
PROVIDER = "Bottega"
EVENTS = {
    "queued": "Initialized", "starting": "Claimed", "succeeded": "Succeeded", "failed": "Failed",
    "expired": "Expired", "canceled": "Deleted",
}  # fmt: skip
JOB_TYPES = {"textToImage": "generation", "imageResourceTraining": "training"}
"""Version 1's words → ours."""


@dataclass(frozen=True)
class Facts:
    """All that is known of some workflows, read at once: rows by workflow, the rest by job."""

    links: Links
    served: set[str]
    rows: dict[str, list[tuple[WorkflowJob, Job]]]
    shown: dict[str, dict[str, Any]]
    images: dict[str, dict[int, Image]]
    epochs: dict[str, list[TrainingCheckpoint]]
    samples: dict[str, list[TrainingSample]]

    def of_step(self, workflow: Workflow, number: int) -> list[tuple[WorkflowJob, Job]]:
        return [pair for pair in self.rows.get(workflow.id, []) if pair[0].step == number]


def read_facts(db: Session, links: Links, workflows: Sequence[Workflow]) -> Facts:
    """As many queries for many workflows as for one."""
    db.flush()
    pairs = service.jobs_of(db, workflows)
    rows: dict[str, list[tuple[WorkflowJob, Job]]] = {}
    for row, job in pairs:
        rows.setdefault(row.workflow_id, []).append((row, job))
    jobs = [job for _, job in pairs]
    trained = [job.id for job in jobs if job.type == "training"]
    return Facts(
        links=links,
        served=workers.served_queues(db),
        rows=rows,
        shown={body["id"]: body for body in views.jobs_out(db, jobs)},
        images=pictures_of_jobs(db, [job.id for job in jobs if job.type == "generation"]),
        epochs=epochs_of_jobs(db, trained) if trained else {},
        samples=samples_of_jobs(db, trained) if trained else {},
    )


def is_over(facts: Facts, workflow: Workflow) -> bool:
    return workflow_status(facts, workflow) in OVER


def workflow_status(facts: Facts, workflow: Workflow) -> str:
    return combined(_step_status(facts, workflow, number) for number in range(len(workflow.steps)))


def _step_status(facts: Facts, workflow: Workflow, number: int) -> str:
    jobs = [job for _, job in facts.of_step(workflow, number)]
    return step_status(workflow.steps[number], jobs, facts.served)


def workflow_out(facts: Facts, workflow: Workflow) -> dict[str, Any]:
    steps = [step_out(facts, workflow, number) for number in range(len(workflow.steps))]
    status = combined(step["status"] for step in steps)
    over = status in OVER
    return {
        "id": workflow.id,
        "createdAt": iso(workflow.created_at),
        "startedAt": min((s["startedAt"] for s in steps if s["startedAt"]), default=None),
        "completedAt": max((s["completedAt"] for s in steps if s["completedAt"]), default=None)
        if over
        else None,
        "status": status,
        "metadata": workflow.notes,
        "tags": workflow.tags,
        "arguments": workflow.arguments,
        "steps": steps,
        "callbacks": [_callback_out(callback) for callback in workflow.callbacks],
        "externalId": workflow.external_id,
        **_prices(),
    }


def _callback_out(callback: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in callback.items() if name != "step"}


def _prices() -> dict[str, Any]:
    return {
        "tips": {"civitai": 0, "creators": 0},
        "cost": FREE,
        "transactions": {"list": []},
        "upgradeMode": "manual",
        "currencies": [],
        "forceRefunded": False,
    }


def planned_out(wanted: service.Submission, counts: Sequence[int]) -> dict[str, Any]:
    """A workflow that was only asked about: it has no id and no jobs."""
    steps = [
        _core(step)
        | {"status": "unassigned", "jobs": [{"id": "", "status": "unassigned", "cost": 0}] * count}
        for step, count in zip(wanted.named(), counts, strict=True)
    ]
    return {
        "id": None, "createdAt": None, "startedAt": None, "completedAt": None, "status": "unassigned",
        "metadata": wanted.notes, "tags": list(wanted.tags), "arguments": wanted.arguments, "steps": steps,
        "callbacks": list(wanted.callbacks), "externalId": wanted.external_id, **_prices(),
    }  # fmt: skip


def _core(step: dict[str, Any]) -> dict[str, Any]:
    return {
        "$type": step["$type"],
        "name": step["name"],
        "priority": "normal",
        "timeout": step.get("timeout"),
        "retries": step.get("retries"),
        "metadata": step.get("metadata") or {},
        "input": step["input"],
    }


def step_out(facts: Facts, workflow: Workflow, number: int) -> dict[str, Any]:
    step, pairs = workflow.steps[number], facts.of_step(workflow, number)
    jobs = [job for _, job in pairs if job.type != "files"]
    status = _step_status(facts, workflow, number)
    rates = [facts.shown[job.id]["progress"]["fraction"] for job in jobs]
    started = min((job.started_at for job in jobs if job.started_at), default=None)
    ended = [job.completed_at for job in jobs if job.completed_at]
    body = _core(step) | {
        "status": status,
        "jobs": [_step_job(facts, job) for job in jobs],
        "output": _output(facts, step, jobs),
        "estimatedProgressRate": round(sum(rates) / len(rates), 4) if rates else 0.0,
        "startedAt": iso(started),
        "completedAt": iso(max(ended, default=workflow.created_at)) if status in OVER else None,
    }
    error = _error(facts, step, [job for _, job in pairs])
    return body | ({"error": error} if error else {})


def _error(facts: Facts, step: dict[str, Any], jobs: Sequence[Job]) -> dict[str, Any] | None:
    """Why a step failed: Civitai has no place for it, so this one is ours."""
    if words := step.get("ended", {}).get("detail"):
        return {"title": "It could not start", "detail": words}
    return next((facts.shown[job.id]["error"] for job in jobs if job.error), None)


def _step_job(facts: Facts, job: Job) -> dict[str, Any]:
    shown = facts.shown[job.id]
    status = job_status(job, facts.served)
    body = {
        "id": job.id,
        "status": status,
        "startedAt": iso(job.started_at),
        "completedAt": iso(job.completed_at),
        "cost": 0,
        "estimatedProgressRate": shown["progress"]["fraction"],
    }
    if status not in OVER:
        support = "available" if job.queue in facts.served else "unavailable"
        ahead = shown["queue"]["ahead"] if shown["queue"] else 0
        body["queuePosition"] = {"support": support, "precedingJobs": ahead}
    return body


def _output(facts: Facts, step: dict[str, Any], jobs: Sequence[Job]) -> dict[str, Any]:
    if step["$type"] == "training":
        return {"moderationStatus": "approved", "epochs": [e for job in jobs for e in _epochs(facts, job)]}
    if step["$type"] == "imageResourceTraining":
        prompts = [prompt["prompt"] for job in jobs for prompt in job.payload.get("sample_prompts", ())]
        etas = [facts.shown[job.id]["progress"]["eta_seconds"] for job in jobs]
        return {
            "moderationStatus": "approved",
            "epochs": [e for job in jobs for e in _flat_epochs(facts, job)],
            "sampleImagesPrompts": prompts,
            "eta": next((eta for eta in etas if eta is not None), None),
        }
    return {"images": [blob for job in jobs for blob in pictures_out(facts, job)]}


def pictures_out(facts: Facts, job: Job) -> list[dict[str, Any]]:
    """Every picture of a job, those that are not drawn yet as not available."""
    drawn = facts.images.get(job.id, {})
    return [_picture(facts, job, index, drawn.get(index)) for index in range(len(job.payload["seeds"]))]


def _picture(facts: Facts, job: Job, index: int, image: Image | None) -> dict[str, Any]:
    width, height = job.payload["width"], job.payload["height"]
    return blob_out(
        facts.links,
        picture_id(job.id, index),
        "image",
        available=image is not None,
        jobId=job.id,
        width=image.width if image else width,
        height=image.height if image else height,
        seed=job.payload["seeds"][index],
    )


def _own_samples(facts: Facts, row: TrainingCheckpoint) -> list[str]:
    """Ids of the sample pictures that were drawn with this very epoch."""
    of_job = facts.samples.get(row.job_id, [])
    mine = [s for s in of_job if (s.epoch, s.step) == (row.epoch, row.step) and not s.baseline]
    return [sample_id(row.job_id, sample.id) for sample in mine]


def _epochs(facts: Facts, job: Job) -> list[dict[str, Any]]:
    return [
        {
            "epochNumber": row.epoch,
            "model": blob_out(facts.links, epoch_id(job.id, row.epoch), "file", jobId=job.id),
            "samples": [blob_out(facts.links, s, "image", jobId=job.id) for s in _own_samples(facts, row)],
        }
        for row in facts.epochs.get(job.id, [])
    ]


def _flat_epochs(facts: Facts, job: Job) -> list[dict[str, Any]]:
    return [
        {
            "epochNumber": row.epoch,
            "blobName": row.name,
            "blobSize": row.size,
            "blobUrl": facts.links.url(epoch_id(job.id, row.epoch)),
            "sampleImages": [facts.links.url(s) for s in _own_samples(facts, row)],
        }
        for row in facts.epochs.get(job.id, [])
    ]


# version 1


def collection_out(facts: Facts, workflow: Workflow, *, detailed: bool) -> dict[str, Any]:
    """A JobStatusCollection: what was submitted together."""
    pairs = facts.rows.get(workflow.id, [])
    return {
        "token": token_of(workflow.id),
        "jobs": [status_out(facts, workflow, pair, detailed=detailed) for pair in _v1_jobs(pairs)],
    }


def one_out(facts: Facts, workflow: Workflow, *, job_id: str, detailed: bool) -> dict[str, Any]:
    """One job as a JobStatus."""
    pair = next(pair for pair in facts.rows[workflow.id] if pair[1].id == job_id)
    return status_out(facts, workflow, pair, detailed=detailed)


def jobs_out(db: Session, links: Links, jobs: Sequence[Job], *, detailed: bool) -> list[dict[str, Any]]:
    """Jobs of several workflows, in this order."""
    workflows = service.workflows_of(db, [job.id for job in jobs])
    facts = read_facts(db, links, workflows)
    by_id = {workflow.id: workflow for workflow in workflows}
    pairs = {job.id: (by_id[key], (row, job)) for key, rows in facts.rows.items() for row, job in rows}
    return [status_out(facts, *pairs[job.id], detailed=detailed) for job in jobs if job.id in pairs]


def _v1_jobs(pairs: Sequence[tuple[WorkflowJob, Job]]) -> list[tuple[WorkflowJob, Job]]:
    """One for each job that was asked for: while pictures are read, the one that reads them stands for it."""
    trained = {row.step for row, job in pairs if job.type == "training"}
    return [(row, job) for row, job in pairs if job.type != "files" or row.step not in trained]


def status_out(
    facts: Facts, workflow: Workflow, pair: tuple[WorkflowJob, Job], *, detailed: bool
) -> dict[str, Any]:
    """A JobStatus. `scheduled` stays true until the result is there: clients give up where it is not."""
    row, job = pair
    step = workflow.steps[row.step]
    over = step_status(step, [job], facts.served) in OVER if job.type == "files" else views.is_over(job)
    body = {
        "jobId": job.id,
        "cost": 0.0,
        "result": _result(facts, job),
        "scheduled": not over,
        "properties": row.properties,
        "lastEvent": _last_event(facts, step, job),
        "serviceProviders": {} if over else {PROVIDER: _provider(facts, job)},
    }
    return body | ({"job": {"$type": step["$type"], **step["input"]}} if detailed else {})


def _result(facts: Facts, job: Job) -> dict[str, Any]:
    if job.type == "generation":
        found = [_result_blob(facts, blob) for blob in pictures_out(facts, job)]
        return found[0]
    epochs = _flat_epochs(facts, job)
    if not epochs:
        return {"blobKey": job.id, "available": False, "epochs": []}
    last = epoch_id(job.id, epochs[-1]["epochNumber"])
    body: dict[str, Any] = {"blobKey": last, "available": views.is_over(job), "epochs": epochs}
    if body["available"]:  # clients take an address for the end
        body |= {"blobUrl": epochs[-1]["blobUrl"], "blobUrlExpirationDate": expiry(facts.links)}
    return body


def _result_blob(facts: Facts, blob: dict[str, Any]) -> dict[str, Any]:
    body = {"blobKey": blob["id"], "available": blob["available"], "seed": blob["seed"]}
    if blob["available"]:
        body |= {"blobUrl": blob["url"], "blobUrlExpirationDate": expiry(facts.links)}
    return body


def _last_event(facts: Facts, step: dict[str, Any], job: Job) -> dict[str, Any]:
    error = _error(facts, step, [job])
    event = EVENTS["failed"] if "ended" in step and error else EVENTS.get(job.status, "Updated")
    moment = job.completed_at or job.heartbeat_at or job.started_at or job.created_at
    return {
        "jobId": job.id,
        "type": event,
        "dateTime": iso(moment),
        "jobType": step["$type"],
        "cost": 0.0,
        "context": {"reason": error["detail"]} if error else {},
    }


def _provider(facts: Facts, job: Job) -> dict[str, Any]:
    shown = facts.shown[job.id]
    ahead = shown["queue"]["ahead"] if shown["queue"] else 0
    return {
        "support": "Available" if job.queue in facts.served else "Unavailable",
        "queuePosition": {"precedingJobs": ahead},
    }


def token_of(workflow_id: str) -> str:
    return urlsafe_b64encode(workflow_id.encode()).decode()
