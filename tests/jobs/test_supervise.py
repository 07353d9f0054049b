"""A real worker with real children that are only light: what happens to a job from claim to end."""

import os
import signal
from pathlib import Path

import psutil
import pytest
from sqlalchemy import select, text, update

from app.core.blobs import Blob
from app.core.db import unit_of_work
from app.core.storage import get_storage
from app.jobs import workers
from app.jobs.models import Job, JobEvent, JobMetric
from app.jobs.reaper import sweep_dead_files
from tests.jobs.conftest import Start, Yard
from worker import ram
from worker.main import remove_dead_work


def children() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if "light.py" in " ".join(p.cmdline())]


def test_pictures_come_one_by_one_and_the_child_stays_warm(yard: Yard, start: Start) -> None:
    first, second = yard.generate("print", pictures=3), yard.generate(pictures=1)
    worker = start("generate")
    done = yard.until_state(first, "succeeded", "failed")
    yard.until_state(second, "succeeded", "failed")
    assert yard.effects(first) == ["picture 0", "picture 1", "picture 2", "complete"]
    assert yard.effects(second) == ["picture 0", "complete"]
    assert done.output == {"outcome": "succeeded"}
    assert done.metrics["run_seconds"] == 0.1
    assert done.started_at is not None
    assert done.completed_at is not None
    assert len(children()) == 1
    with unit_of_work() as db:
        sha256 = db.scalars(text("select sha256 from effect where what = 'picture 0'")).first()
        assert db.get_one(Blob, sha256).media_type == "image/png"
        assert get_storage().size(f"blobs/{sha256}") is not None
        assert workers.served_queues(db) == {"generate"}
    assert list(get_storage().list("jobs")) == []
    assert list((worker.shop.run_folder / "work").iterdir()) == []


def test_a_clip_comes_with_its_poster(yard: Yard, start: Start) -> None:
    """Both files are kept as what they are; whoever listens is told of neither place."""
    job_id = yard.generate("clip")
    start("generate")
    yard.until_state(job_id, "succeeded", "failed")
    assert yard.effects(job_id) == ["picture 0", "picture 0 beside", "complete"]
    with unit_of_work() as db:
        shas = list(db.scalars(text("select sha256 from effect where sha256 is not null order by id")))
        assert [db.get_one(Blob, sha).media_type for sha in shas] == ["video/mp4", "image/jpeg"]
        (told,) = db.scalars(select(JobEvent.data).where(JobEvent.kind == "picture"))
        assert (told["frames"], told["fps"]) == (5, 8.0)
        assert not {"path", "poster"} & set(told)
    assert list(get_storage().list("jobs")) == []


def test_a_preview_is_there_while_the_picture_is_drawn_and_gone_after_it(yard: Yard, start: Start) -> None:
    job_id = yard.generate("look pause=2", pictures=5)
    start("generate")
    yard.until(lambda: "preview" in yard.job(job_id).progress, "a preview")
    job = yard.job(job_id)
    assert job.progress["preview"]["n"] >= 1
    index = job.progress["preview"]["index"]
    shown = bytes(get_storage().get(f"jobs/{job_id}/{job.fence}/preview.jpg")).decode()
    assert shown in (f"so far {index}", f"so far {index + 1}")
    yard.steer("cancel", job_id)
    assert "preview" not in yard.until_state(job_id, "canceled").progress
    yard.until(lambda: list(get_storage().list("jobs")) == [], "the preview to be gone")


def test_a_training_has_a_child_of_its_own(yard: Yard, start: Start) -> None:
    job_id = yard.train("steps=7")
    start("train")
    job = yard.until_state(job_id, "succeeded", "failed")
    assert (job.status, yard.effects(job_id)) == ("succeeded", ["checkpoint 1", "complete"])
    with unit_of_work() as db:
        steps = list(db.scalars(select(JobMetric.step).order_by(JobMetric.step)))
        assert steps == list(range(1, 8))
        assert sweep_dead_files(db, get_storage()) == 0
    yard.until(lambda: children() == [], "the child to be gone")


def test_a_mistake_fails_the_job_in_plain_words(yard: Yard, start: Start) -> None:
    bad, good = yard.generate("mistake"), yard.generate()
    start("generate")
    job = yard.until_state(bad, "failed", "succeeded")
    assert job.error is not None
    assert (job.error["code"], job.attempt) == ("internal-error", 1)
    assert "KeyError" in job.error["detail"]
    yard.until_state(good, "succeeded")


def test_cancel_reaches_the_child_within_a_heartbeat(yard: Yard, start: Start) -> None:
    job_id = yard.train("steps=100000 pause=0.05")
    start("train")
    yard.until_step(job_id, 1)
    yard.steer("cancel", job_id)
    job = yard.until_state(job_id, "canceled")
    assert job.progress["current"] < 100000
    assert yard.effects(job_id) == ["complete"]


def test_pause_keeps_the_id_and_counts_no_attempt(yard: Yard, start: Start) -> None:
    job_id = yard.train("steps=60 pause=0.02")
    start("train")
    yard.until_step(job_id, 1)
    yard.steer("pause", job_id)
    paused = yard.until_state(job_id, "paused")
    assert paused.resume_step is not None
    assert paused.resume_step >= 1
    yard.steer("resume", job_id)
    done = yard.until_state(job_id, "succeeded", "failed")
    assert (done.status, done.attempt, done.lost, done.fence) == ("succeeded", 1, 0, 2)
    assert f"going on from {paused.resume_step}" in yard.messages(job_id)
    assert yard.effects(job_id).count("complete") == 1
    with unit_of_work() as db:
        assert len(list(db.scalars(select(JobMetric.step)))) == 60
        assert db.get(Blob, paused.resume_sha256) is None, "a success frees the save"


@pytest.mark.parametrize(("words", "how"), [("die=5", "SIGKILL"), ("die=5 abort", "SIGABRT")])
def test_a_dead_child_is_an_attempt_and_the_next_goes_on(
    yard: Yard, start: Start, words: str, how: str
) -> None:
    job_id = yard.train(f"steps=8 {words}")
    start("train")
    job = yard.until_state(job_id, "succeeded", "failed")
    assert (job.status, job.attempt, job.lost) == ("succeeded", 2, 1)
    assert any(how in message for message in yard.messages(job_id))
    assert "going on from 3" in yard.messages(job_id)
    assert yard.effects(job_id) == ["checkpoint 1", "complete"]


def test_a_job_that_kills_its_child_each_time_ends(yard: Yard, start: Start) -> None:
    job_id = yard.train("steps=2 die=1")
    with unit_of_work() as db:
        db.get_one(Job, job_id).max_attempts = 2
    start("train")
    job = yard.until_state(job_id, "failed", "succeeded")
    assert job.error is not None
    assert (job.error["code"], job.lost) == ("worker-lost", 2)


@pytest.fixture
def vmstat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kernel's count of processes that it killed for memory."""
    path = tmp_path / "vmstat"
    path.write_text("nr_free_pages 9\noom_kill 3\n")
    monkeypatch.setattr(ram, "VMSTAT", path)
    return path


def test_a_child_killed_for_memory_begins_again_with_less(yard: Yard, start: Start, vmstat: Path) -> None:
    job_id = yard.train(f"steps=8 full={vmstat}")
    start("train")
    job = yard.until_state(job_id, "succeeded", "failed")
    assert (job.status, job.lost) == ("succeeded", 0), "no lost lease is counted"
    assert any("memory was full. It begins again with less." in line for line in yard.messages(job_id))
    assert "with less, as memory was full while training" in yard.messages(job_id)


def test_a_child_killed_for_memory_twice_ends_with_words(yard: Yard, start: Start, vmstat: Path) -> None:
    job_id = yard.train(f"steps=8 full={vmstat} always")
    start("train")
    job = yard.until_state(job_id, "succeeded", "failed")
    assert job.error is not None
    assert (job.error["code"], job.lost) == ("out-of-memory", 0)
    assert "Choose a smaller resolution or batch." in job.error["detail"]


def test_a_lost_lease_kills_the_child_and_writes_nothing(yard: Yard, start: Start) -> None:
    job_id = yard.train("steps=100000 pause=0.05")
    worker = start("train")
    yard.until_step(job_id, 1)
    child = children()[0]
    worker.runners[0].worker.shop.stopping.clear()
    with unit_of_work() as db:
        db.execute(update(Job).values(fence=Job.fence + 1, worker_id="another"))
    yard.until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the child to die")
    job = yard.job(job_id)
    assert (job.fence, job.worker_id, job.status) == (2, "another", "running")
    assert yard.effects(job_id) == []


def test_a_stopping_worker_lets_the_training_save_and_gives_it_back(yard: Yard, start: Start) -> None:
    job_id = yard.train("steps=200 pause=0.02")
    worker = start("train")
    yard.until_step(job_id, 1)
    worker.stop()
    job = yard.until_state(job_id, "queued")
    assert (job.lost, job.status_reason) == (0, "worker-restarted")
    assert job.resume_step is not None
    start("train")
    yard.until(lambda: any("going on" in m for m in yard.messages(job_id)), "the next worker")
    yard.steer("cancel", job_id)
    yard.until_state(job_id, "canceled")


def test_a_silent_child_is_taken_for_dead(yard: Yard, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    from app.core.config import get_settings

    job_id = yard.train("steps=100000 pause=0.05")
    start("train")
    yard.until_step(job_id, 1)
    monkeypatch.setattr(get_settings().queue, "stall_seconds", 0.5)
    os.kill(children()[0].pid, signal.SIGSTOP)
    yard.until(lambda: yard.job(job_id).lost == 1, "the stall to be seen")
    monkeypatch.setattr(get_settings().queue, "stall_seconds", 1000)
    yard.steer("cancel", job_id)
    yard.until_state(job_id, "canceled")


def test_a_missing_file_is_told(yard: Yard, start: Start) -> None:
    job_id = yard.generate()
    get_storage().delete([key for key, _ in get_storage().list("blobs")])
    start("generate")
    job = yard.until_state(job_id, "failed", "succeeded")
    assert job.error is not None
    assert job.error["code"] == "file-missing"


def test_a_job_of_another_version_is_refused_at_once(yard: Yard, start: Start) -> None:
    job_id = yard.put("generation", "generate", {"kind": "generate", "version": 99})
    start("generate")
    job = yard.until_state(job_id, "failed", "succeeded")
    assert job.error is not None
    assert (job.error["code"], job.attempt) == ("job-unreadable", 1)


def test_a_full_disk_ends_the_job_in_words(yard: Yard, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    from app.core.config import get_settings

    monkeypatch.setattr(get_settings().storage, "reserve_bytes", 1 << 60)
    job_id = yard.train("steps=3")
    start("train")
    job = yard.until_state(job_id, "failed", "succeeded")
    assert job.error is not None
    assert job.error["code"] == "disk-full"
    assert yard.effects(job_id) == ["complete"]


def test_files_jobs_run_without_a_child(yard: Yard, start: Start) -> None:
    job_id, unknown = yard.files("mark", "up_1"), yard.files("explode", "up_2")
    start("files")
    assert yard.until_state(job_id, "succeeded", "failed").output == {"outcome": "succeeded"}
    assert yard.effects("up_1") == ["complete"]
    failed = yard.until_state(unknown, "failed", "succeeded")
    assert failed.error is not None
    assert failed.error["code"] == "internal-error"
    assert children() == []


def test_what_dead_processes_left_is_removed(tmp_path: Path) -> None:
    mine, dead = tmp_path / f"{os.getpid()}-job_A-1", tmp_path / "999999999-job_B-1"
    for folder in (mine, dead):
        folder.mkdir()
        (folder / "x").write_text("x")
    remove_dead_work(tmp_path)
    assert mine.exists()
    assert not dead.exists()
