"""Claims, fences and ends: what a worker may and may not do."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.contract.events import Finished, LogLine, Metric, Preview, Progress, ResumePoint
from app.contract.states import JobState
from app.core.blobs import Blob
from app.core.storage import get_storage
from app.jobs import leases, reaper, service
from app.jobs.leases import Lease, LeaseLost
from app.jobs.models import IdempotencyKey, Job, JobEvent, JobMetric, Worker
from tests.factories import make_blob, make_job, make_user


def claim(db: Session, worker: str = "w1") -> tuple[Job, Lease]:
    job = leases.claim(db, worker, ["train"])
    assert job is not None
    return job, Lease(job.id, job.fence)


def end_lease(db: Session, job: Job) -> None:
    job.lease_until = func.clock_timestamp() - timedelta(seconds=1)
    db.flush()


def test_a_claim_takes_the_first_and_a_new_fence(db: Session) -> None:
    owner = make_user(db)
    first, urgent = make_job(db, owner), make_job(db, owner, priority=1)
    make_job(db, owner, queue="generate")
    assert claim(db)[0].id == urgent.id
    job, _ = claim(db)
    assert (job.id, job.fence, job.attempt, job.status) == (first.id, 1, 1, "starting")
    db.refresh(job)
    assert job.lease_until is not None
    assert job.started_at is not None
    assert job.metrics["queue_seconds"] >= 0
    assert leases.claim(db, "w1", ["train"]) is None


def test_a_late_write_is_refused(db: Session) -> None:
    make_job(db, make_user(db))
    job, old = claim(db)
    end_lease(db, job)
    assert reaper.reap(db) == 1
    with pytest.raises(LeaseLost):
        leases.hold(db, old)
    again, new = claim(db, "w2")
    assert (again.fence, again.attempt) == (2, 2)
    with pytest.raises(LeaseLost):
        leases.heartbeat(db, old)
    assert leases.hold(db, new).worker_id == "w2"


def test_the_heartbeat_keeps_the_lease_and_carries_wishes(db: Session) -> None:
    owner = make_user(db)
    make_job(db, owner)
    job, lease = claim(db)
    end_lease(db, job)
    assert leases.heartbeat(db, lease) == []
    assert reaper.reap(db) == 0
    leases.start_running(db, job)
    service.wish(db, owner, job.id, "sample")
    assert leases.heartbeat(db, lease) == ["sample"]
    assert leases.heartbeat(db, lease) == []
    service.pause_job(db, owner, job.id)
    assert leases.heartbeat(db, lease) == ["pause"]
    service.cancel_job(db, owner, job.id)
    assert leases.heartbeat(db, lease) == ["cancel"]


def test_a_report_sent_twice_counts_once(db: Session) -> None:
    make_job(db, make_user(db))
    job, lease = claim(db)
    assert [leases.is_new(leases.hold(db, lease), n) for n in (1, 2, 2, 1, 3)] == [
        True,
        True,
        False,
        False,
        True,
    ]
    end_lease(db, job)
    reaper.reap(db)
    job, lease = claim(db)
    assert leases.is_new(job, 1)


def test_attempts_have_an_end(db: Session) -> None:
    job = make_job(db, make_user(db), max_attempts=2)
    for _ in range(2):
        end_lease(db, claim(db)[0])
        reaper.reap(db)
    assert (job.status, job.status_reason, job.lost) == ("failed", "worker-lost", 2)
    assert job.error is not None
    assert job.error["code"] == "worker-lost"
    assert "lost 2 times" in job.error["detail"]


@pytest.mark.parametrize(
    ("wish", "end", "lost"), [("cancel_job", "canceled", 1), ("pause_job", "paused", 0)], ids=lambda v: str(v)
)
def test_a_wish_is_fulfilled_even_when_the_worker_died(db: Session, wish: str, end: str, lost: int) -> None:
    owner = make_user(db)
    make_job(db, owner)
    job, _ = claim(db)
    getattr(service, wish)(db, owner, job.id)
    end_lease(db, job)
    reaper.reap(db)
    assert (job.status, job.lost) == (end, lost)


def test_pause_and_resume_count_no_attempt(db: Session) -> None:
    owner = make_user(db)
    made = make_job(db, owner)
    for _ in range(3):
        job, lease = claim(db)
        leases.start_running(db, job)
        service.pause_job(db, owner, job.id)
        leases.finish(db, leases.hold(db, lease), Finished(outcome="paused"))
        assert job.status == "paused"
        service.resume_job(db, owner, job.id)
    job, _ = claim(db)
    assert (job.id, job.attempt, job.lost, job.fence) == (made.id, 1, 0, 4)


def test_giving_back_counts_no_attempt(db: Session) -> None:
    make_job(db, make_user(db))
    job, lease = claim(db)
    leases.give_back(db, leases.hold(db, lease))
    assert (job.status, job.lost, job.lease_until, job.worker_id) == ("queued", 0, None, None)


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "canceled"])
def test_ends(db: Session, outcome: str) -> None:
    make_job(db, make_user(db))
    job, lease = claim(db)
    last_word = Finished.model_validate(
        {"outcome": outcome, "code": "out-of-memory", "detail": "Too small.", "peak_memory_bytes": 5}
    )
    leases.finish(db, leases.hold(db, lease), last_word)
    assert job.status == outcome
    assert job.metrics["peak_vram_bytes"] == 5
    assert (job.error is not None) == (outcome == "failed")
    if job.error:
        assert (job.error["title"], job.error["detail"]) == ("Not enough memory", "Too small.")
    with pytest.raises(LeaseLost):
        leases.hold(db, lease)


def test_a_pause_that_comes_too_late_for_a_cancel_ends_canceled(db: Session) -> None:
    owner = make_user(db)
    make_job(db, owner)
    job, lease = claim(db)
    leases.start_running(db, job)
    service.cancel_job(db, owner, job.id)
    leases.finish(db, leases.hold(db, lease), Finished(outcome="paused"))
    assert job.status == "canceled"


def test_progress_and_curves(db: Session) -> None:
    make_job(db, make_user(db))
    job, lease = claim(db)
    points = [Metric(step=n, loss=1 / n, lr=1e-4) for n in (1, 2, 3)]
    leases.record_progress(db, job, Progress(phase="training", current=3, total=12, rate=1.5), points)
    leases.record_progress(db, job, None, [Metric(step=3, loss=0.25, lr=1e-4)])
    leases.record_log(db, job, LogLine(message="hello"))
    assert (job.phase, job.progress["fraction"], job.progress["rate"]) == ("training", 0.25, 1.5)
    assert job.metrics["loss"] == 0.25
    db.expire_all()
    assert [(m.step, m.loss) for m in db.scalars(select(JobMetric).order_by(JobMetric.step))] == [
        (1, 1.0),
        (2, 0.5),
        (3, 0.25),
    ]
    leases.finish(db, leases.hold(db, lease), Finished(outcome="succeeded"))
    left = list(db.scalars(select(JobEvent.kind).order_by(JobEvent.id)))
    assert left == ["status", "log", "status", "done"]


def test_previews_are_counted_and_belong_to_one_attempt(db: Session) -> None:
    make_job(db, make_user(db))
    job, _ = claim(db)
    leases.record_preview(db, job, Preview(index=0, path="preview.jpg"))
    leases.record_preview(db, job, Preview(index=2, path="preview.jpg"))
    leases.record_progress(db, job, Progress(phase="sampling", current=1, total=2), [])
    assert job.progress["preview"] == {"n": 2, "index": 2}
    told = db.scalars(select(JobEvent).where(JobEvent.kind == "progress").order_by(JobEvent.id)).all()
    assert [event.data["preview"]["n"] for event in told] == [1, 2, 2]
    end_lease(db, job)
    reaper.reap(db)
    again, lease = claim(db)
    assert "preview" not in again.progress
    leases.record_preview(db, again, Preview(index=1, path="preview.jpg"))
    leases.finish(db, leases.hold(db, lease), Finished(outcome="succeeded"))
    assert "preview" not in again.progress
    assert again.progress["current"] == 1


def test_a_new_attempt_forgets_the_points_after_its_save(db: Session) -> None:
    make_job(db, make_user(db))
    job, _ = claim(db)
    leases.record_progress(db, job, None, [Metric(step=n, loss=1, lr=1) for n in (1, 2, 3, 4)])
    job.resume_step = 2
    end_lease(db, job)
    reaper.reap(db)
    claim(db)
    assert list(db.scalars(select(JobMetric.step).order_by(JobMetric.step))) == [1, 2]


def test_a_resume_point_replaces_the_one_before(db: Session) -> None:
    make_job(db, make_user(db))
    job, _ = claim(db)
    before, after = make_blob(db), make_blob(db)
    for step, blob in ((10, before), (20, after)):
        point = ResumePoint(step=step, path="r", size=blob.size, sha256=blob.sha256)
        leases.record_resume(db, job, point, blob)
    assert (job.resume_sha256, job.resume_step) == (after.sha256, 20)
    assert db.get(Blob, before.sha256) is None


def test_dead_prefixes_are_swept(db: Session) -> None:
    make_job(db, make_user(db))
    job, _ = claim(db)
    end_lease(db, job)
    reaper.reap(db)
    job, _ = claim(db)
    store = get_storage()
    for key in (f"jobs/{job.id}/1/a.png", f"jobs/{job.id}/2/b.png", "jobs/job_gone/7/c.png"):
        store.put(key, b"x")
    assert reaper.sweep_dead_files(db, store) == 2
    assert [key for key, _ in store.list("jobs")] == [f"jobs/{job.id}/2/b.png"]
    service.change_state(db, job, JobState.CANCELED)
    assert reaper.sweep_dead_files(db, store) == 1


def test_what_waits_for_too_long_expires(db: Session) -> None:
    owner = make_user(db)
    long_ago = func.now() - timedelta(days=31)
    old, resumed, fresh, working = (make_job(db, owner, max_attempts=3) for _ in range(4))
    service.change_state(db, old, JobState.PAUSED)
    service.change_state(db, resumed, JobState.PAUSED)
    service.change_state(db, resumed, JobState.QUEUED)
    service.change_state(db, working, JobState.STARTING)
    for job in (old, resumed, working):
        job.created_at = long_ago
    db.flush()
    db.execute(update(JobEvent).where(JobEvent.job_id.in_([old.id, working.id])).values(created_at=long_ago))
    assert reaper.expire_waiting(db) == 1
    assert (old.status, old.status_reason, resumed.status) == ("expired", "waited-too-long", "queued")
    assert (fresh.status, working.status) == ("queued", "starting")
    assert old.completed_at is not None


def test_the_reapers_round(db: Session) -> None:
    owner = make_user(db)
    make_job(db, owner)
    job, _ = claim(db)
    end_lease(db, job)
    old = func.now() - timedelta(days=2)
    db.add(IdempotencyKey(user_id=owner.id, route="r", key="k", body_hash="", created_at=old))
    db.add(Worker(id="gone", queues=[], seen_at=old))
    db.flush()
    called: list[str] = []

    def chore(session: Session) -> None:
        called.append("chore")

    def broken(session: Session) -> None:
        raise ValueError("this must not stop the others")

    reaper.every_tick(broken)
    reaper.every_tick(chore)
    try:
        assert reaper.tick()
    finally:
        for added in (broken, chore):
            reaper._chores.remove(added)
    db.expire_all()
    assert job.status == "queued"
    assert called == ["chore"]
    assert db.scalar(select(func.count()).select_from(IdempotencyKey)) == 0
    assert db.get(Worker, "gone") is None
