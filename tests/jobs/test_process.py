"""A worker as a process of its own: how it ends, and what it leaves behind."""

import signal

import psutil
import pytest

from app.core.db import unit_of_work
from app.jobs import workers
from tests.conftest import redis_url
from tests.jobs.conftest import Spawn, Yard


def known() -> list[str]:
    with unit_of_work() as db:
        return [worker.id for worker in workers.list_workers(db)]


@pytest.mark.parametrize("broker", [True, False], ids=["broker", "no broker"])
def test_sigterm_ends_it_in_order(
    yard: Yard, spawn_worker: Spawn, monkeypatch: pytest.MonkeyPatch, broker: bool
) -> None:
    if broker:
        monkeypatch.setenv("REDIS_URL", redis_url())
    job_id = yard.train("steps=100000 pause=0.05")
    worker = spawn_worker("train", "generate")
    yard.until_step(job_id, 1)
    yard.until(lambda: len(known()) == 1, "the worker to be known")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(120) == 0
    assert known() == []
    job = yard.job(job_id)
    assert (job.status, job.lost) == ("queued", 0)
    assert job.resume_step is not None


def test_a_killed_worker_takes_its_child_along(yard: Yard, spawn_worker: Spawn) -> None:
    job_id = yard.train("steps=100000 pause=0.05")
    worker = spawn_worker("train")
    yard.until_step(job_id, 1)
    children = psutil.Process(worker.pid).children()
    assert len(children) == 1
    worker.kill()
    worker.wait()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []


def test_a_child_whose_worker_sleeps_ends_with_the_lease(
    yard: Yard, spawn_worker: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOTTEGA_QUEUE_LEASE_SECONDS", "3")
    job_id = yard.train("steps=100000 pause=0.05")
    worker = spawn_worker("train")
    yard.until_step(job_id, 1)
    child = psutil.Process(worker.pid).children()[0]
    worker.send_signal(signal.SIGSTOP)

    def ended() -> bool:
        return not child.is_running() or child.status() == psutil.STATUS_ZOMBIE

    yard.until(ended, "the child to notice")
    worker.kill()
    worker.send_signal(signal.SIGCONT)
    worker.wait()
