"""A database of its own with the table of effects, and workers that run in a thread of the test."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from app.accounts.models import User
from app.cli.process import spawn, stop
from app.core.db import unit_of_work
from app.jobs import service, wakeups
from app.jobs.models import Job, JobEvent
from tests.conftest import forget_settings
from tests.jobs.jobs_for_tests import files_payload, generate_payload, train_payload
from tests.jobs.worker_process import EFFECTS, make_worker
from worker.main import Worker

ROOT = Path(__file__).parents[2]
PATIENCE = 200.0
Start = Callable[..., Worker]
Spawn = Callable[..., "subprocess.Popen[bytes]"]
WORKER = Path(__file__).with_name("worker_process.py")


class Yard:
    """What a test of workers needs: jobs in, states and effects out, waiting without guessing."""

    def __init__(self) -> None:
        with unit_of_work() as db:
            db.execute(text(EFFECTS))
            self.owner = User(username="owner", password_hash="")
            db.add(self.owner)

    def member(self, name: str) -> int:
        """Another user."""
        with unit_of_work() as db:
            user = User(username=name, password_hash="")
            db.add(user)
            db.flush()
            return user.id

    def put(self, type: str, queue: str, payload: dict[str, Any], user: int | None = None) -> str:
        with unit_of_work() as db:
            owner = db.get_one(User, user or self.owner.id)
            return service.enqueue(db, owner, type=type, queue=queue, title="", input={}, payload=payload).id

    def generate(self, words: str = "", pictures: int = 1) -> str:
        return self.put("generation", "generate", generate_payload(words, pictures))

    def train(self, words: str = "", name: str = "tuscany") -> str:
        return self.put("training", "train", train_payload(name, words))

    def files(self, task: str, upload: str) -> str:
        return self.put("files", "files", files_payload(task, upload))

    def job(self, job_id: str) -> Job:
        with unit_of_work() as db:
            return db.get_one(Job, job_id)

    def steer(self, verb: str, job_id: str) -> None:
        with unit_of_work() as db:
            getattr(service, f"{verb}_job")(db, db.get_one(User, self.owner.id), job_id)

    def effects(self, job_id: str) -> list[str]:
        with unit_of_work() as db:
            query = text("select what from effect where job_id = :job order by id")
            return list(db.scalars(query, {"job": job_id}))

    def messages(self, job_id: str) -> list[str]:
        with unit_of_work() as db:
            rows = db.query(JobEvent).filter_by(job_id=job_id, kind="log").order_by(JobEvent.id)
            return [row.data["message"] for row in rows]

    def until(self, done: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < end, f"waited in vain for {what}"
            time.sleep(0.05)

    def until_state(self, job_id: str, *states: str) -> Job:
        self.until(lambda: self.job(job_id).status in states, f"{job_id} to become {states}")
        return self.job(job_id)

    def until_step(self, job_id: str, step: int) -> None:
        self.until(lambda: (self.job(job_id).progress.get("current") or 0) >= step, f"step {step}")


@pytest.fixture
def yard(real_db: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Yard]:
    periods = {"LEASE": "20", "HEARTBEAT": "0.3", "POLL": "0.2", "REAP": "0.3"}
    for name, seconds in periods.items():
        monkeypatch.setenv(f"BOTTEGA_QUEUE_{name}_SECONDS", seconds)
    monkeypatch.setenv("BOTTEGA_LIMIT_JOBS_QUEUED", "1000")
    monkeypatch.delenv("REDIS_URL")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    forget_settings()
    wakeups.sender.cache_clear()
    yield Yard()
    wakeups.sender.cache_clear()


@pytest.fixture
def start(yard: Yard) -> Iterator[Start]:
    """Start a worker for some queues; it is stopped after the test."""
    running: list[tuple[Worker, threading.Thread]] = []

    def make(*queues: str, **options: Any) -> Worker:
        worker = make_worker(list(queues), **options)
        thread = threading.Thread(target=worker.run)
        thread.start()
        running.append((worker, thread))
        return worker

    yield make
    for worker, _ in running:
        worker.stop()
    for _, thread in running:
        thread.join(PATIENCE)
        assert not thread.is_alive()


@pytest.fixture
def spawn_worker(yard: Yard) -> Iterator[Spawn]:
    """Start a worker as a process of its own; what is left of it after the test is killed."""
    started: list[subprocess.Popen[bytes]] = []

    def make(*queues: str) -> "subprocess.Popen[bytes]":
        started.append(spawn([sys.executable, str(WORKER), ",".join(queues)], env=os.environ))
        return started[-1]

    yield make
    for process in started:
        stop(process, signal.SIGKILL, 10)
