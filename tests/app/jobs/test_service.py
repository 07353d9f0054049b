"""Enqueue, steer, list, delete: the rules of a job as its owner meets them."""

import ast
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.contract.states import ALLOWED, TERMINAL, JobState
from app.core.blobs import Blob
from app.core.errors import Conflict, Invalid, NotFound, RateLimited, Unauthorized
from app.core.storage import get_storage
from app.jobs import service, views, workers
from app.jobs.models import Job, JobEvent
from app.training.models import TrainingCheckpoint
from tests.factories import make_admin, make_blob, make_file, make_job, make_model, make_user, make_version

ROOT = Path(__file__).parents[3]
RUNNING = (JobState.STARTING, JobState.RUNNING)


def put(db: Session, user, type: str = "training", **fields) -> Job:  # type: ignore[no-untyped-def]
    queue = {"training": "train", "generation": "generate", "files": "files"}[type]
    return service.enqueue(db, user, type=type, queue=queue, title="Tuscany", input={}, payload={}, **fields)


def move(db: Session, job: Job, *states: JobState) -> Job:
    for state in states:
        service.change_state(db, job, state)
    return job


def kinds(db: Session, job: Job) -> list[str]:
    return list(db.scalars(select(JobEvent.kind).where(JobEvent.job_id == job.id).order_by(JobEvent.id)))


def test_a_new_job_waits_and_says_so(db: Session) -> None:
    job = put(db, make_user(db))
    assert (job.status, job.attempt, job.fence) == ("queued", 0, 0)
    assert job.id.startswith("job_")
    assert kinds(db, job) == ["status"]


@pytest.mark.parametrize("was", list(JobState))
def test_only_allowed_moves_are_made(db: Session, was: JobState) -> None:
    owner = make_user(db)
    for to in JobState:
        job = make_job(db, owner, status=was.value)
        if to in ALLOWED[was]:
            service.change_state(db, job, to)
            assert job.status == to
            assert ("done" in kinds(db, job)) == (to in TERMINAL)
        else:
            with pytest.raises(Conflict):
                service.change_state(db, job, to)
            assert job.status == was


JOBS = ("job", "held", "old", "new", "row", "training", "found")


def _writes_status(tree: ast.AST) -> bool:
    """Assigns to an attribute `status` of something that may be a job, or updates the table by hand."""
    nodes = list(ast.walk(tree))
    targets = [target for node in nodes if isinstance(node, ast.Assign) for target in node.targets]
    assigned = [ast.unparse(t) for t in targets if isinstance(t, ast.Attribute)]
    calls = [ast.unparse(node) for node in nodes if isinstance(node, ast.Call)]
    return bool({f"{name}.status" for name in JOBS} & set(assigned)) or any(
        call.startswith("update(Job)") for call in calls
    )


def test_the_state_is_written_in_one_place_only() -> None:
    files = [path for folder in ("app", "worker") for path in (ROOT / folder).rglob("*.py")]
    sources = {str(f.relative_to(ROOT)): f.read_text() for f in files}
    aware = {name: text for name, text in sources.items() if "Job" in text and "app.jobs" in text}
    writers = [name for name, text in aware.items() if _writes_status(ast.parse(text))]
    assert "app/jobs/leases.py" in aware
    assert writers == ["app/jobs/service.py"]


def test_others_see_nothing_and_admins_all(db: Session) -> None:
    owner, other, admin = make_user(db), make_user(db), make_admin(db)
    job = put(db, owner)
    assert service.get_job(db, owner, job.id) is job
    assert service.get_job(db, admin, job.id) is job
    with pytest.raises(NotFound):
        service.get_job(db, other, job.id)
    with pytest.raises(Unauthorized):
        service.get_job(db, None, job.id)
    assert service.list_jobs(db, other).items == []
    assert service.list_jobs(db, admin, everyone=True).items == [job]
    assert service.list_jobs(db, other, everyone=True).items == []


def test_the_list_has_cursors_and_filters(db: Session) -> None:
    owner = make_user(db)
    jobs = [put(db, owner, kind) for kind in ("training", "generation", "training", "files")]
    service.cancel_job(db, owner, jobs[0].id)
    first = service.list_jobs(db, owner, limit=2)
    assert first.items == [jobs[2], jobs[1]]
    second = service.list_jobs(db, owner, limit=2, cursor=first.next_cursor)
    assert (second.items, second.next_cursor) == ([jobs[0]], None)
    assert service.list_jobs(db, owner, status=["canceled"]).items == [jobs[0]]
    assert service.list_jobs(db, owner, type=["generation", "files"]).items == [jobs[3], jobs[1]]


def test_too_many_unfinished_jobs_are_refused(db: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    from app.core.config import get_settings

    monkeypatch.setattr(get_settings().limits, "jobs_queued", 2)
    owner = make_user(db)
    first = put(db, owner)
    put(db, owner)
    with pytest.raises(RateLimited) as refused:
        put(db, owner)
    assert refused.value.code == "queue-full"
    assert refused.value.extra == {"retry_after": 60, "limit": 2, "used": 2}
    put(db, owner, "files")
    service.cancel_job(db, owner, first.id)
    put(db, owner)


@pytest.mark.parametrize(
    "webhook", [{"url": "ftp://x"}, {}, {"url": "https://x.example", "events": ["sometimes"]}], ids=str
)
def test_bad_webhooks_are_refused(db: Session, webhook: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        put(db, make_user(db), webhook=webhook)


def test_cancel(db: Session) -> None:
    owner = make_user(db)
    waiting, running = put(db, owner), move(db, put(db, owner), *RUNNING)
    assert service.cancel_job(db, owner, waiting.id).status == "canceled"
    assert service.cancel_job(db, owner, running.id).status == "canceling"
    assert service.cancel_job(db, owner, running.id).status == "canceling"
    move(db, running, JobState.SUCCEEDED)
    before = views.job_out(db, running)
    assert views.job_out(db, service.cancel_job(db, owner, running.id)) == before


def test_pause_and_resume_are_for_trainings(db: Session) -> None:
    owner = make_user(db)
    training, picture = move(db, put(db, owner), *RUNNING), put(db, owner, "generation")
    with pytest.raises(Conflict, match="Only trainings"):
        service.pause_job(db, owner, picture.id)
    assert service.pause_job(db, owner, training.id).status == "pausing"
    with pytest.raises(Conflict):
        service.resume_job(db, owner, training.id)
    move(db, training, JobState.PAUSED)
    assert service.resume_job(db, owner, training.id).status == "queued"
    assert service.pause_job(db, owner, training.id).status == "paused"
    service.cancel_job(db, owner, training.id)
    for steer in (service.pause_job, service.resume_job):
        with pytest.raises(Conflict) as refused:
            steer(db, owner, training.id)
        assert refused.value.code == "job-already-finished"


def test_retry_makes_a_new_job_that_goes_on_from_the_last_save(db: Session) -> None:
    owner, blob = make_user(db), make_blob(db)
    old = put(db, owner, "generation")
    with pytest.raises(Conflict):
        service.retry_job(db, owner, old.id)
    old.resume_sha256, old.resume_step = blob.sha256, 40
    service.cancel_job(db, owner, old.id)
    new = service.retry_job(db, owner, old.id)
    assert (new.retry_of, new.status, new.resume_step) == (old.id, "queued", 40)
    assert new.id != old.id


def test_wishes_reach_running_trainings_only(db: Session) -> None:
    owner = make_user(db)
    job = put(db, owner)
    with pytest.raises(Conflict):
        service.wish(db, owner, job.id, "sample")
    move(db, job, *RUNNING)
    service.wish(db, owner, job.id, "sample")
    service.wish(db, owner, job.id, "sample")
    assert service.wish(db, owner, job.id, "save").wishes == ["sample", "save"]


def test_success_frees_the_resume_point(db: Session) -> None:
    blob = make_blob(db)
    job = move(db, put(db, make_user(db)), *RUNNING)
    job.resume_sha256 = blob.sha256
    move(db, job, JobState.SUCCEEDED)
    assert db.get(Blob, blob.sha256) is None


def test_delete_frees_what_nothing_else_names(db: Session) -> None:
    owner = make_user(db)
    job = put(db, owner)
    lost, published, resume = make_blob(db), make_blob(db), make_blob(db)
    for epoch, blob in enumerate((lost, published), start=1):
        values = {"job_id": job.id, "epoch": epoch, "step": epoch, "name": "a", "blob_sha256": blob.sha256}
        db.add(TrainingCheckpoint(size=1, tensor_sha256="", **values))
    job.resume_sha256 = resume.sha256
    make_file(db, make_version(db, make_model(db, owner)), blob_sha256=published.sha256)
    with pytest.raises(Conflict):
        service.delete_job(db, owner, job.id)
    service.cancel_job(db, owner, job.id)
    service.delete_job(db, owner, job.id)
    assert service.find_job(db, job.id) is None
    assert db.scalar(select(func.count()).select_from(TrainingCheckpoint)) == 0
    assert [db.get(Blob, b) is None for b in (lost.sha256, resume.sha256)] == [True, True]
    assert db.get(Blob, published.sha256) is not None
    assert get_storage().size(f"blobs/{published.sha256}") is not None


def test_places_in_the_queue_follow_priority(db: Session) -> None:
    owner = make_user(db)
    slow, other, quick = put(db, owner), put(db, owner, "generation"), put(db, owner, priority=5)
    assert service.queue_positions(db, [slow, other, quick]) == {slow.id: 2, other.id: 1, quick.id: 1}


def test_a_waiting_job_tells_when_nobody_serves_its_queue(db: Session) -> None:
    job = put(db, make_user(db))
    assert views.job_out(db, job)["status_reason"] == "no-worker"
    workers.say_hello(db, {"id": "w", "queues": ["train"], "facts": {"seconds_per_step": {"starter": 0.5}}})
    shown = views.job_out(db, job)
    assert shown["status_reason"] is None
    assert shown["queue"] == {"position": 1, "ahead": 0, "estimated_start_at": None}
    assert workers.measured(db, ["seconds_per_step", "x"]) == {"seconds_per_step": {"starter": 0.5}}
    workers.say_goodbye(db, "w")
    assert views.job_out(db, job)["status_reason"] == "no-worker"


def test_the_start_is_guessed_from_this_servers_history(db: Session) -> None:
    owner = make_user(db)
    for seconds in (10, 30):
        done = make_job(db, owner, status="succeeded", metrics={"run_seconds": seconds})
        assert done.queue == "train"
    put(db, owner)
    last = put(db, owner)
    assert service.estimate_wait(db, last, 1) == 20
    assert views.job_out(db, last)["queue"]["estimated_start_at"] is not None
