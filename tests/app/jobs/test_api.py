"""Jobs over REST: the object, conditional requests, streams, logs, curves."""

import json
import threading
import time
from typing import Any

from fastapi import FastAPI
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.events import LogLine, Metric, Progress
from app.contract.states import JobState
from app.core.db import get_engine
from app.jobs import leases, service, tail
from app.jobs.models import Job
from tests.app.conftest import Script
from tests.factories import make_job, make_user

RUNNING = (JobState.STARTING, JobState.RUNNING)


def running(db: Session, owner: User, **fields: Any) -> Job:
    job = make_job(db, owner, title="Tuscany", **fields)
    for state in RUNNING:
        service.change_state(db, job, state)
    return job


def parse(stream: str) -> list[tuple[int, str, Any]]:
    """(id, event, data) of every server-sent event."""
    found = []
    for block in stream.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found


def test_the_object_alone_says_what_is_happening(db: Session, script: Script) -> None:
    owner = make_user(db)
    job = running(db, owner)
    leases.record_progress(
        db, job, Progress(phase="training", current=630, total=1500, epoch=4, epochs=10), []
    )
    answer = script(owner).get(f"/api/v1/jobs/{job.id}")
    body = answer.json()
    assert answer.status_code == 200
    assert set(body) == {
        "id", "type", "name", "status", "status_reason", "phase", "progress", "queue", "input", "output",
        "metrics", "error", "attempt", "priority", "labels", "retry_of", "created_at", "started_at",
        "completed_at", "heartbeat_at", "links",
    }  # fmt: skip
    assert (body["status"], body["phase"], body["queue"]) == ("running", "training", None)
    assert body["progress"]["fraction"] == 0.42
    assert body["links"]["cancel"] == f"/api/v1/jobs/{job.id}/cancel"
    assert set(body["links"]) >= {
        "self", "cancel", "pause", "resume", "retry", "logs", "events", "samples", "checkpoints", "result",
    }  # fmt: skip


def test_no_field_is_missing_before_it_is_measured(db: Session, script: Script) -> None:
    owner = make_user(db)
    waiting = make_job(db, owner)
    job = running(db, owner)
    leases.record_progress(db, job, Progress(phase="training", current=1, total=10), [])
    client = script(owner)
    early = client.get(f"/api/v1/jobs/{waiting.id}").json()
    late = client.get(f"/api/v1/jobs/{job.id}").json()
    fields = {
        "fraction", "current", "total", "unit", "epoch", "epochs", "rate", "eta_seconds", "updated_at",
    }  # fmt: skip
    assert set(early["progress"]) == set(late["progress"]) == fields
    assert (early["progress"]["fraction"], early["progress"]["updated_at"]) == (0.0, None)
    assert late["progress"]["updated_at"] is not None
    assert {"loss", "queue_seconds", "run_seconds", "peak_vram_bytes"} <= set(early["metrics"])
    service.change_state(db, job, JobState.SUCCEEDED)
    assert client.get(f"/api/v1/jobs/{job.id}").json()["progress"]["fraction"] == 1.0


def test_the_error_of_a_job_is_a_problem(db: Session, script: Script) -> None:
    owner = make_user(db)
    job = running(db, owner)
    service.change_state(db, job, JobState.FAILED, error=("disk-full", "No room."))
    error = script(owner).get(f"/api/v1/jobs/{job.id}").json()["error"]
    assert {"type", "title", "status", "detail", "instance", "code", "job_id"} == set(error)
    assert error["type"].startswith("http")
    assert error["type"].endswith("/docs/errors#disk-full")


def test_words_that_a_filter_does_not_know_are_named(db: Session, script: Script) -> None:
    client = script(make_user(db))
    assert client.get("/api/v1/jobs", params={"type": "caption"}).json()["items"] == []
    for name, word in (("status", "cancelled"), ("type", "trainings")):
        answer = client.get("/api/v1/jobs", params={name: word})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, f"#/{name}")


def test_asking_again_is_cheap(db: Session, script: Script) -> None:
    owner = make_user(db)
    job = make_job(db, owner)
    make_job(db, owner, status="succeeded", metrics={"run_seconds": 9})
    client = script(owner)
    first = client.get(f"/api/v1/jobs/{job.id}")
    assert int(first.headers["retry-after"]) > 0
    same = client.get(f"/api/v1/jobs/{job.id}", headers={"If-None-Match": first.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    service.cancel_job(db, owner, job.id)
    changed = client.get(f"/api/v1/jobs/{job.id}", headers={"If-None-Match": first.headers["etag"]})
    assert changed.status_code == 200
    assert "retry-after" not in changed.headers


def test_lists(db: Session, script: Script) -> None:
    owner = make_user(db)
    jobs = [make_job(db, owner) for _ in range(3)]
    client = script(owner)
    first = client.get("/api/v1/jobs", params={"limit": 2, "type": "training,generation"})
    assert [j["id"] for j in first.json()["items"]] == [jobs[2].id, jobs[1].id]
    assert 'rel="next"' in first.headers["link"]
    rest = client.get("/api/v1/jobs", params={"limit": 2, "cursor": first.json()["next_cursor"]}).json()
    assert ([j["id"] for j in rest["items"]], rest["next_cursor"]) == ([jobs[0].id], None)
    wrong = client.get("/api/v1/jobs", params={"state": "queued"})
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "#/state")
    assert client.get("/api/v1/jobs", params={"cursor": "x"}).status_code == 422


def test_cancel_answers_202_while_the_worker_has_to_act(db: Session, script: Script) -> None:
    owner = make_user(db)
    client = script(owner)
    job = running(db, owner)
    answer = client.post(f"/api/v1/jobs/{job.id}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "canceling")
    service.change_state(db, job, JobState.CANCELED)
    again = client.post(f"/api/v1/jobs/{job.id}/cancel")
    assert (again.status_code, again.json()["status"]) == (200, "canceled")


def test_retry_with_a_key_makes_one_job(db: Session, script: Script) -> None:
    owner = make_user(db)
    job = running(db, owner, type="generation", queue="generate")
    service.change_state(db, job, JobState.SUCCEEDED)
    client = script(owner)
    answers = [
        client.post(f"/api/v1/jobs/{job.id}/retry", headers={"Idempotency-Key": "k"}) for _ in range(2)
    ]
    assert [a.status_code for a in answers] == [202, 202]
    assert answers[0].json()["id"] == answers[1].json()["id"] != job.id
    assert answers[0].headers["location"] == f"/api/v1/jobs/{answers[0].json()['id']}"
    assert answers[1].headers["idempotency-replayed"] == "true"


def test_prefer_wait_answers_when_the_job_has_ended(db: Session, script: Script) -> None:
    owner = make_user(db)
    job = running(db, owner)
    client = script(owner)
    late = client.get(f"/api/v1/jobs/{job.id}", headers={"Prefer": "wait=0"})
    assert late.json()["status"] == "running"
    still = client.get(f"/api/v1/jobs/{job.id}", headers={"Prefer": "wait=1"})
    assert (still.status_code, still.json()["status"]) == (200, "running")
    service.change_state(db, job, JobState.SUCCEEDED)
    retried = client.post(f"/api/v1/jobs/{make_done(db, owner).id}/retry", headers={"Prefer": "wait=1"})
    assert retried.status_code == 202
    assert "preference-applied" not in retried.headers


def test_prefer_wait_answers_200_with_the_ended_job(db: Session, script: Script, monkeypatch: Any) -> None:
    owner = make_user(db)
    job = running(db, owner)
    looks: list[str] = []

    def end(job_id: str, sessions: Any) -> dict[str, Any] | None:
        looks.append(job_id)
        return {"id": job_id, "status": "succeeded"} if len(looks) > 1 else None

    monkeypatch.setattr(tail, "_ended", end)
    answer = script(owner).get(f"/api/v1/jobs/{job.id}", headers={"Prefer": "wait=30"})
    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
    assert answer.headers["preference-applied"] == "wait=30"
    assert looks == [job.id, job.id]


def make_done(db: Session, owner: User) -> Job:
    return make_job(db, owner, type="generation", queue="generate", status="succeeded")


def test_streams_replay_and_end(db: Session, script: Script) -> None:
    owner = make_user(db)
    job = running(db, owner)
    for n in range(3):
        leases.record_log(db, job, LogLine(message=f"line {n}"))
    service.change_state(db, job, JobState.SUCCEEDED)
    client = script(owner)
    whole = client.get(f"/api/v1/jobs/{job.id}/events")
    assert whole.headers["content-type"].startswith("text/event-stream")
    assert whole.headers["x-accel-buffering"] == "no"
    events = parse(whole.text)
    assert [kind for _, kind, _ in events] == ["status", "status", "log", "log", "log", "status", "done"]
    assert events[-1][2] == {"status": "succeeded", "error": None}
    assert [number for number, _, _ in events] == sorted({number for number, _, _ in events})
    middle = events[3][0]
    rest = parse(client.get(f"/api/v1/jobs/{job.id}/events", headers={"Last-Event-ID": str(middle)}).text)
    assert rest == events[4:]
    assert parse(client.get(f"/api/v1/jobs/{job.id}/events", params={"after": middle}).text) == rest
    over = client.get(f"/api/v1/jobs/{job.id}/events", headers={"Last-Event-ID": str(events[-1][0])})
    assert [kind for _, kind, _ in parse(over.text)] == ["done"]


def test_a_stream_follows_and_holds_no_connection(real_db: str) -> None:
    import asyncio

    from app.core.db import unit_of_work

    with unit_of_work() as db:
        job = running(db, make_user(db))
    seen: list[bytes] = []

    def work() -> None:
        time.sleep(0.7)
        with unit_of_work() as db:
            held = service.find_job(db, job.id)
            assert held is not None
            leases.record_log(db, held, LogLine(message="later"))
            service.change_state(db, held, JobState.SUCCEEDED)

    async def listen() -> None:
        async for chunk in tail.stream_events(job.id, 0, None):
            seen.append(chunk)
            assert get_engine().pool.checkedout() == 0  # type: ignore[attr-defined]

    thread = threading.Thread(target=work)
    thread.start()
    asyncio.run(listen())
    thread.join()
    kinds = [kind for _, kind, _ in parse(b"".join(seen).decode())]
    assert kinds == ["status", "status", "log", "status", "done"]


def test_a_silent_stream_says_that_it_lives(db: Session, monkeypatch: Any) -> None:
    import asyncio

    monkeypatch.setattr(tail, "QUIET_SECONDS", 0.0)
    job = make_job(db, make_user(db))
    db.commit()

    async def first() -> bytes:
        stream = tail.stream_events(job.id, 0, None)
        chunk = await anext(stream)
        await stream.aclose()
        return chunk

    assert asyncio.run(first()).startswith(b":")


def test_logs_as_json_and_as_text(db: Session, script: Script) -> None:
    owner = make_user(db)
    job = running(db, owner)
    leases.record_log(db, job, LogLine(level="warning", message="careful"))
    client = script(owner)
    first = client.get(f"/api/v1/jobs/{job.id}/logs", params={"limit": 2}).json()
    assert [line["message"] for line in first["items"]] == ["A worker has taken the job.", "Running."]
    rest = client.get(f"/api/v1/jobs/{job.id}/logs", params={"after": first["next"]}).json()
    assert [(line["level"], line["message"]) for line in rest["items"]] == [("warning", "careful")]
    assert client.get(f"/api/v1/jobs/{job.id}/logs", params={"after": rest["next"]}).json() == {
        "items": [],
        "next": rest["next"],
    }
    text = client.get(f"/api/v1/jobs/{job.id}/logs", headers={"Accept": "text/plain"})
    assert text.headers["content-type"].startswith("text/plain")
    assert text.text.splitlines()[-1].endswith("WARNING careful")


def test_curves_are_averaged_down(db: Session, script: Script) -> None:
    owner = make_user(db)
    job = running(db, owner)
    leases.record_progress(db, job, None, [Metric(step=n, loss=float(n), lr=0.5) for n in range(1, 101)])
    client = script(owner)
    every = client.get(f"/api/v1/jobs/{job.id}/metrics").json()
    assert (len(every["steps"]), every["series"]["loss"][0], every["total"]) == (100, 1.0, 100)
    few = client.get(f"/api/v1/jobs/{job.id}/metrics", params={"points": 10, "series": "loss"}).json()
    assert few["steps"] == list(range(10, 101, 10))
    assert few["series"] == {"loss": [n + 0.5 for n in range(5, 100, 10)]}
    assert client.get(f"/api/v1/jobs/{job.id}/metrics", params={"series": "gold"}).status_code == 422


def test_delete(db: Session, script: Script, application: FastAPI) -> None:
    owner = make_user(db)
    job = running(db, owner)
    client = script(owner)
    assert client.delete(f"/api/v1/jobs/{job.id}").status_code == 409
    service.change_state(db, job, JobState.FAILED, error=("out-of-memory", "Too small."))
    shown = client.get(f"/api/v1/jobs/{job.id}").json()
    assert shown["error"]["code"] == "out-of-memory"
    assert shown["error"]["job_id"] == job.id
    assert client.delete(shown["links"]["self"]).status_code == 204
    assert client.get(shown["links"]["self"]).status_code == 404
