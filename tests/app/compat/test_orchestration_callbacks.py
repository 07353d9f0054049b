"""Callbacks: who asked for which changes is told of them once, in Civitai's words."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.compat.orchestration.preparing import tend_workflows
from app.contract.states import JobState
from app.jobs.models import WebhookDelivery
from app.jobs.service import change_state
from app.jobs.webhooks import take_due
from tests.app.compat.orchestrating import (
    JOBS,
    WORKFLOWS,
    base_air,
    draw,
    drawing,
    hire,
    jobs_of,
    run,
    v1_job,
    workflow,
    workflows,
)
from tests.app.conftest import Script
from tests.factories import make_user

URL = "https://example.com/hook"


@pytest.fixture
def api(db: Session, script: Script) -> TestClient:
    return script(make_user(db, "ada"), "read", "generate")


@pytest.fixture
def model(db: Session) -> str:
    return base_air(db, make_user(db, "maker"))


def told(db: Session) -> list[dict[str, Any]]:
    """What was noted since the last look."""
    rows = list(db.scalars(select(WebhookDelivery).order_by(WebhookDelivery.id)))
    bodies = [row.body or {} for row in rows]
    for row in rows:
        db.delete(row)
    db.flush()
    return bodies


def test_all_changes_of_a_workflow_are_told_once(db: Session, api: TestClient, model: str) -> None:
    wanted = [{"url": URL, "type": ["workflow:*", "step:succeeded", "job:processing", "job:succeeded"]}]
    made = api.post(WORKFLOWS, json=workflow(drawing(model), callbacks=wanted)).json()
    assert made["callbacks"] == wanted
    (job,) = jobs_of(db)
    hire(db, "generate")
    tend_workflows(db)
    tend_workflows(db)
    assert [(b["$type"], b["status"]) for b in told(db)] == [("workflow", "scheduled")]
    run(db, job)
    job.progress = {"fraction": 0.5}
    tend_workflows(db)
    running = told(db)
    assert [(b["$type"], b["status"]) for b in running] == [("job", "processing"), ("workflow", "processing")]
    assert (running[0]["jobId"], running[0]["stepName"], running[0]["progress"]) == (job.id, "$0", 0.5)
    change_state(db, job, JobState.SUCCEEDED)
    tend_workflows(db)
    done = told(db)
    assert [b["$type"] for b in done] == ["job", "step", "workflow"]
    assert {(b["workflowId"], b["status"]) for b in done} == {(made["id"], "succeeded")}
    assert (tend_workflows(db), told(db), workflows(db)[0].watched) == (0, [], False)


def test_only_the_events_that_were_asked_for(db: Session, api: TestClient, model: str) -> None:
    wanted = [{"url": URL, "type": ["workflow:failed"]}]
    api.post(WORKFLOWS, json=workflow(drawing(model), callbacks=wanted))
    (job,) = jobs_of(db)
    tend_workflows(db)
    run(db, job)
    tend_workflows(db)
    assert told(db) == []
    change_state(db, job, JobState.FAILED, error=("x", "It broke."))
    tend_workflows(db)
    assert [(b["$type"], b["status"]) for b in told(db)] == [("workflow", "failed")]


def test_a_callback_of_version_1_is_told_of_its_own_jobs(db: Session, api: TestClient, model: str) -> None:
    sent = {"jobs": [v1_job(model, callbackUrl=URL, quantity=2), v1_job(model)]}
    api.post(JOBS, json=sent)
    first, second, _ = jobs_of(db)
    tend_workflows(db)
    assert {b["jobId"] for b in told(db)} == {first.id, second.id}
    draw(db, first)
    tend_workflows(db)
    assert [(b["jobId"], b["status"]) for b in told(db)] == [(first.id, "succeeded")]


def test_a_notice_goes_to_its_own_address_in_its_own_words(db: Session, api: TestClient, model: str) -> None:
    wanted = [{"url": URL, "type": ["workflow:*"]}]
    made = api.post(WORKFLOWS, json=workflow(drawing(model), callbacks=wanted)).json()
    tend_workflows(db)
    (notice,) = take_due(db)
    assert notice.url == URL
    assert f'"workflowId": "{made["id"]}"'.encode() in notice.body
    listed = api.get(f"/api/v1/jobs/{jobs_of(db)[0].id}/webhooks").json()
    assert [delivery["event"] for delivery in listed] == ["workflow:unassigned"]
