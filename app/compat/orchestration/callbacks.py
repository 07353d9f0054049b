"""Callbacks: what a workflow, its steps and its jobs have become since they were last told of.

The notices go out as those of webhooks do: signed, tried again, never into a private network unasked.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from app.compat.orchestration.models import Workflow, WorkflowJob
from app.compat.orchestration.statuses import OVER, combined, job_status, step_status
from app.core.db import utcnow
from app.jobs.models import Job
from app.jobs.webhooks import add_notice
from app.web.times import iso

Pairs = Sequence[tuple[WorkflowJob, Job]]
Change = tuple[str, str, int | None, dict[str, Any]]
"""Kind (`workflow`, `step` or `job`), what it is known by, number of its step, and the notice."""


def tell(db: Session, workflow: Workflow, pairs: Pairs, served: Collection[str]) -> bool:
    """Note what the callbacks are to be told now; gives whether there will be more."""
    steps = _step_statuses(workflow, pairs, served)
    whole = combined(steps)
    carrier = pairs[-1][1] if pairs else None
    told = dict(workflow.told)
    for kind, key, number, notice in _all(workflow, pairs, served, steps):
        if told.get(key) == notice["status"]:
            continue
        told[key] = notice["status"]
        for callback in workflow.callbacks:
            if carrier is not None and _wants(callback, kind, notice["status"], number):
                add_notice(db, carrier, f"{kind}:{notice['status']}", url=callback["url"], body=notice)
    workflow.told = told
    return whole not in OVER


def _step_statuses(workflow: Workflow, pairs: Pairs, served: Collection[str]) -> list[str]:
    return [
        step_status(step, [job for row, job in pairs if row.step == number], served)
        for number, step in enumerate(workflow.steps)
    ]


def _all(workflow: Workflow, pairs: Pairs, served: Collection[str], steps: Sequence[str]) -> Iterator[Change]:
    """Jobs before their steps, steps before the whole: what is told last is what has ended last."""
    shared = {"workflowId": workflow.id, "timestamp": iso(utcnow())}
    for row, job in pairs:
        if job.type != "files":
            name = workflow.steps[row.step]["name"]
            yield "job", job.id, row.step, shared | _of_job(job, name, job_status(job, served))
    for number, step in enumerate(workflow.steps):
        notice = {"$type": "step", "name": step["name"], "status": steps[number]}
        yield "step", f"step {step['name']}", number, shared | notice | _reason(step)
    yield "workflow", "workflow", None, shared | {"$type": "workflow", "status": combined(steps)}


def _of_job(job: Job, step: str, status: str) -> dict[str, Any]:
    notice: dict[str, Any] = {
        "$type": "job",
        "stepName": step,
        "jobId": job.id,
        "status": status,
        "progress": 1.0 if status == "succeeded" else job.progress.get("fraction") or 0.0,
    }
    return notice | ({"reason": job.error["detail"]} if job.error else {})


def _reason(step: Mapping[str, Any]) -> dict[str, str]:
    words = step.get("ended", {}).get("detail")
    return {"reason": words} if words else {}


def _wants(callback: Mapping[str, Any], kind: str, status: str, number: int | None) -> bool:
    """A callback of version 1 is for the jobs of one step."""
    if callback.get("step", number) != number:
        return False
    return f"{kind}:*" in callback["type"] or f"{kind}:{status}" in callback["type"]
