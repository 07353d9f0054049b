"""The acceptance test of the queue: everything is killed at random, and every job ends exactly once.

`BOTTEGA_CHAOS_SEED` repeats a run; the seed is part of every failure message.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.cli.embedded import Postgres, Valkey
from app.cli.migrate import migrate
from app.cli.process import SetupError, spawn, stop
from app.contract.states import TERMINAL
from app.core.db import unit_of_work
from app.core.storage import get_storage
from app.jobs import service
from app.jobs.models import Job, JobEvent
from app.jobs.reaper import sweep_dead_files
from tests.conftest import HOMES, forget_settings, make_home
from tests.jobs.jobs_for_tests import files_payload, generate_payload, train_payload
from tests.jobs.worker_process import EFFECTS

ROOT = Path(__file__).parents[3]
WORKER = ROOT / "tests" / "jobs" / "worker_process.py"
JOBS = 200
WORKERS = 4


class Site:
    """A whole installation of its own: Postgres, Valkey, storage, workers."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.postgres, self.valkey = Postgres(home, durable=True), Valkey(home, durable=True)
        self.log = (home / "log").open("ab")
        self.workers: list[subprocess.Popen[bytes]] = []
        self.stopped: dict[int, float] = {}

    def start(self) -> None:
        self.postgres.prepare()
        self.valkey.prepare()
        self.start_postgres()
        self.start_valkey()
        self.postgres.ensure_database()

    def start_postgres(self) -> None:
        """After a kill it refuses until the dead server's last backend is gone: ask again."""
        for _ in range(30):
            self.pg = self.postgres.spawn_server(self.log)
            try:
                self.postgres.wait_ready(self.pg)
                return
            except SetupError:
                time.sleep(0.3)
        raise SetupError("Postgres does not come back.")

    def start_valkey(self) -> None:
        self.vk = self.valkey.spawn_server(self.log)
        self.valkey.wait_ready(self.vk)

    def settings(self) -> dict[str, str]:
        return {
            "DATABASE_URL": self.postgres.url(),
            "REDIS_URL": self.valkey.url(),
            "STORAGE_URL": f"file://{self.home / 'storage'}",
            "BOTTEGA_HOME": str(self.home),
            "BOTTEGA_QUEUE_LEASE_SECONDS": "2",
            "BOTTEGA_QUEUE_HEARTBEAT_SECONDS": "0.5",
            "BOTTEGA_QUEUE_REAP_SECONDS": "0.5",
            "BOTTEGA_QUEUE_POLL_SECONDS": "0.5",
            "BOTTEGA_QUEUE_MAX_ATTEMPTS": "1000",
            "BOTTEGA_LIMIT_JOBS_QUEUED": "100000",
            "PYTHONPATH": str(ROOT),
        }

    def start_worker(self) -> None:
        queues = ("generate,files", "train", "generate,train", "generate,train,files")
        command = [sys.executable, str(WORKER), queues[len(self.workers) % len(queues)]]
        self.workers.append(spawn(command, env={**os.environ, **self.settings()}, output=self.log))

    def keep_workers(self) -> None:
        """Start again what was killed, as `./dev up` does, and wake what slept long enough."""
        for pid, until in list(self.stopped.items()):
            if time.monotonic() > until:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
                del self.stopped[pid]
        for place, worker in enumerate(self.workers):
            if worker.poll() is not None:
                queues = worker.args[-1]
                command = [sys.executable, str(WORKER), queues]
                self.workers[place] = spawn(command, env={**os.environ, **self.settings()}, output=self.log)

    def children(self) -> list[psutil.Process]:
        found = []
        for worker in self.workers:
            with suppress(psutil.NoSuchProcess):
                found += psutil.Process(worker.pid).children()
        return found

    def close(self) -> None:
        for pid in self.stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        for worker in self.workers:
            stop(worker, signal.SIGKILL, 10)
        stop(self.vk, signal.SIGKILL, 10)
        stop(self.pg, self.postgres.stop_signal, 20)
        self.log.close()


class Chaos:
    """Kills and stops things: so many of each, in an order chosen by a seeded generator."""

    def __init__(self, site: Site, rng: random.Random) -> None:
        self.site, self.rng = site, rng
        deeds = {
            self.kill_worker: 7,
            self.kill_child: 6,
            self.stop_worker: 4,
            self.stop_child: 3,
            self.kill_valkey: 2,
            self.kill_postgres: 2,
        }
        self.plan = [deed for deed, times in deeds.items() for _ in range(times)]
        rng.shuffle(self.plan)
        self.total = len(self.plan)

    @property
    def share_left(self) -> float:
        return len(self.plan) / self.total

    def strike(self) -> None:
        self.plan.pop()()

    def kill_worker(self) -> None:
        os.kill(self.rng.choice(self.site.workers).pid, signal.SIGKILL)

    def kill_child(self) -> None:
        if children := self.site.children():
            with suppress(psutil.NoSuchProcess):
                self.rng.choice(children).kill()

    def stop_worker(self) -> None:
        self._sleep(self.rng.choice(self.site.workers).pid)

    def stop_child(self) -> None:
        if children := self.site.children():
            self._sleep(self.rng.choice(children).pid)

    def _sleep(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            self.site.stopped[pid] = time.monotonic() + self.rng.uniform(0.5, 4.5)

    def kill_valkey(self) -> None:
        self.site.vk.kill()
        self.site.vk.wait()
        self.site.start_valkey()

    def kill_postgres(self) -> None:
        self.site.pg.kill()
        self.site.pg.wait()
        self.site.start_postgres()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    home = make_home()
    HOMES.append(home)
    site = Site(home)
    HOMES.append(site.postgres.sockets)
    site.start()
    for name, value in site.settings().items():
        monkeypatch.setenv(name, value)
    forget_settings()
    migrate(site.postgres.url())
    with unit_of_work() as db:
        db.execute(text(EFFECTS))
        db.add(User(id=1, username="owner", password_hash=""))
    yield site
    site.close()
    forget_settings()


def enqueue(number: int, rng: random.Random) -> None:
    """One job of a random kind. While the database is away nothing is accepted, and that is no loss."""
    kind = rng.choices(("generate", "train", "files"), (75, 15, 10))[0]
    with suppress(DBAPIError), unit_of_work() as db:
        owner = db.get_one(User, 1)
        if kind == "generate":
            payload = generate_payload(f"job={number} pause={rng.uniform(0, 0.15):.3f}", pictures=2)
            service.enqueue(
                db, owner, type="generation", queue="generate", title="", input={}, payload=payload
            )
        elif kind == "train":
            payload = train_payload(str(number), "steps=8 pause=0.05")
            service.enqueue(db, owner, type="training", queue="train", title="", input={}, payload=payload)
        else:
            job = service.enqueue(db, owner, type="files", queue="files", title="", input={}, payload={})
            job.payload = files_payload("mark", job.id)


def count_jobs() -> tuple[int, int]:
    """(accepted, not yet ended); the database may be away for a moment."""
    while True:
        with suppress(DBAPIError), unit_of_work() as db:
            states = list(db.scalars(select(Job.status)))
            return len(states), sum(state not in TERMINAL for state in states)
        time.sleep(0.2)


def rage(site: Site, seed: int) -> None:
    """Accept jobs while everything dies, until nothing is left to kill; then let the rest be done."""
    rng = random.Random(seed)
    chaos = Chaos(site, rng)
    for _ in range(WORKERS):
        site.start_worker()
    number, strike_at = 0, time.monotonic() + 2
    while chaos.plan or number < JOBS:
        wanted = JOBS * (1 - chaos.share_left) + 10
        while number < min(wanted, JOBS):
            enqueue(number, rng)
            number = count_jobs()[0]
        if chaos.plan and time.monotonic() > strike_at:
            chaos.strike()
            strike_at = time.monotonic() + rng.uniform(0.4, 1.4)
        site.keep_workers()
        time.sleep(0.1)
    end = time.monotonic() + 240
    while count_jobs()[1] and time.monotonic() < end:
        site.keep_workers()
        time.sleep(0.2)


@pytest.mark.slow
def test_every_job_ends_exactly_once(site: Site) -> None:
    seed = int(os.environ.get("BOTTEGA_CHAOS_SEED") or random.SystemRandom().randrange(10**6))
    rage(site, seed)
    note = f"seed {seed}, log {site.home / 'log'}"
    with unit_of_work() as db:
        check_ends(db, note)
        check_effects(db, note)
        sweep_dead_files(db, get_storage())
    assert list(get_storage().list("jobs")) == [], note


def check_ends(db: Session, note: str) -> None:
    jobs = list(db.scalars(select(Job)))
    assert len(jobs) >= JOBS, note
    assert {job.status for job in jobs} == {"succeeded"}, note
    assert sum(job.lost for job in jobs) >= 5, f"{note}: hardly anything was lost"
    ends = Counter(db.scalars(select(JobEvent.job_id).where(JobEvent.kind == "done")))
    assert set(ends) == {job.id for job in jobs}, note
    assert set(ends.values()) == {1}, note


def check_effects(db: Session, note: str) -> None:
    effects = Counter((row.job_id, row.what) for row in db.execute(text("select job_id, what from effect")))
    twice = {key: n for key, n in effects.items() if n != 1}
    assert not twice, f"{note}: {twice}"
    for job in db.scalars(select(Job)):
        wanted = {
            "generation": {"picture 0", "picture 1", "complete"},
            "training": {"checkpoint 1", "complete"},
        }
        found = {what for job_id, what in effects if job_id == job.id}
        assert found == wanted.get(job.type, {"complete"}), f"{note}: {job.id} {found}"
